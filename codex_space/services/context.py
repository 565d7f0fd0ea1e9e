"""What every service needs, opened once: settings, workspace, database, clock, and the owner where we are it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from codex_space.core import scrub
from codex_space.core.actor import acting
from codex_space.core.paths import Workspace
from codex_space.core.settings import Settings
from codex_space.hub.client import Hub
from codex_space.hub.jobs import JobsHub
from codex_space.hub.space import SpaceHub
from codex_space.jobs.announce import Announcer
from codex_space.jobs.disk_usage import DiskWatch
from codex_space.jobs.grader import Grader
from codex_space.jobs.hf_jobs import HubJobs
from codex_space.jobs.hf_start import Renting
from codex_space.jobs.leaving import Leaving
from codex_space.jobs.ledger import Ledger
from codex_space.jobs.notices import Notices
from codex_space.jobs.owner import Owner, Steps, is_owned
from codex_space.jobs.spending import Spending
from codex_space.jobs.uploads import Uploader
from codex_space.services.answers import Answers
from codex_space.services.prices import price_of
from codex_space.store import audit
from codex_space.store.db import DamagedError, Database

MAX_NOTE_CHARS = 300
SPOOL_BUDGET_BYTES = 50 << 30


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """Handed as first argument to every service.

    Attributes:
        owner: Set in the one process that starts and watches workers; None in a second command line.
        clock: Seconds since the epoch.
        answers: What the Hub said to this process lately.
    """

    settings: Settings
    workspace: Workspace
    db: Database
    clock: Callable[[], float]
    owner: Owner | None = None
    answers: Answers = field(default_factory=Answers, compare=False, repr=False)

    def hub(self) -> Hub:
        """Return a Hub client with the program's own token."""
        return make_hub(self.settings)

    def wake(self) -> None:
        """Let the owner see at once what was just stored; in another process it sees it within half a second."""
        if self.owner is not None:
            self.owner.supervisor.wake()

    def usd_per_hour(self) -> float:
        """Return what this machine costs; 0 for one of one's own."""
        return price_of(self.workspace, self.settings.accelerator)

    def note(self, verb: str, what: str) -> None:
        """Write down who did what, in the audit log and the program's own."""
        who, what = acting.get().name, scrub.clean(what)[:MAX_NOTE_CHARS]
        audit.add(self.db, at=self.clock(), who=who, verb=verb, what=what)
        _log.info("%s: %s %s", who, verb, what)

    def close(self) -> None:
        """Stop the owner's threads (workers run on) and close the database."""
        if self.owner is not None:
            self.owner.close()
        self.db.close()


def make_hub(settings: Settings) -> Hub:
    """Return a Hub client for these settings."""
    token = settings.hf_token.reveal() if settings.hf_token else None
    return Hub(token, endpoint=settings.environ.get("HF_ENDPOINT"))


def space_hub(settings: Settings) -> SpaceHub:
    """Return a Hub client that looks after Spaces."""
    token = settings.hf_token.reveal() if settings.hf_token else None
    return SpaceHub(token, endpoint=settings.environ.get("HF_ENDPOINT"))


def renting(settings: Settings) -> Renting:
    """Return with what this process would start Jobs."""
    token = settings.hf_token.reveal() if settings.hf_token else ""

    def make_jobs_hub() -> JobsHub:
        return JobsHub(token or None, endpoint=settings.environ.get("HF_ENDPOINT"))

    return Renting(
        hub=make_jobs_hub,
        token=token,
        image=settings.job_image,
        environ=settings.environ,
        most_at_once=settings.max_jobs,
    )


def open_context(settings: Settings, clock: Callable[[], float], *, own: bool) -> Context:
    """Open the workspace; with `own`, take its lock and start watching runs.

    Raises:
        WorkspaceError: Another process owns it, or the folder cannot be written.
    """
    scrub.learn(settings.secrets())
    workspace = Workspace(settings.workspace).make()
    db = _open_database(settings, workspace, clock) if own else Database.open(workspace.database)
    owner = None
    if own:
        uploader = Uploader(db, workspace, lambda: make_hub(settings), spool_budget_bytes=SPOOL_BUDGET_BYTES)
        grader = Grader(db, workspace)
        hub_jobs = HubJobs(db, workspace, renting(settings))
        tells = settings.resume != "off" and settings.hf_token is not None
        announcer = Announcer(db, workspace, lambda: make_hub(settings), settings) if tells else None
        spending = Spending(
            db,
            usd_per_hour=lambda: price_of(workspace, settings.accelerator),
            monthly_cap_usd=settings.monthly_cap_usd,
        )
        leaving = Leaving(db, workspace.root, settings, lambda: space_hub(settings))
        notices = Notices(db, settings, lambda: make_hub(settings))
        from codex_space.services.after import After  # noqa: PLC0415  # it needs this module's Context

        after = After(Context(settings, workspace, db, clock))
        disk = DiskWatch(db, workspace, settings.hub_cache)
        copies = _copies(Context(settings, workspace, db, clock))
        owner = Owner(
            settings,
            workspace,
            db,
            uploader=uploader,
            announcer=announcer,
            grader=grader,
            hub_jobs=hub_jobs,
            others={
                "after": after,
                "spending": spending,
                "ledger": Ledger(db, lambda: make_hub(settings), settings),
                "leaving": leaving,
                "notices": notices,
                "disk": disk,
                **copies,
            },
            clock=clock,
        )
        try:
            owner.start()
        except BaseException:
            db.close()
            raise
    return Context(settings, workspace, db, clock, owner)


def _copies(ctx: Context) -> dict[str, Steps]:
    """Return what keeps copies outside this machine, where that is set."""
    from codex_space.services.copies import Copies  # noqa: PLC0415  # it needs this module's Context

    return {"copies": Copies(ctx, ctx.settings.copies)} if ctx.settings.copies else {}


def _open_database(settings: Settings, workspace: Workspace, clock: Callable[[], float]) -> Database:
    """Open the database; one that is missing or damaged is made again from the run folders."""
    from codex_space.services import rebuild  # noqa: PLC0415  # it needs this module's Context

    is_missing = rebuild.needs_rebuild(workspace)
    try:
        db = Database.open(workspace.database)
    except DamagedError:
        if is_owned(workspace) is not None:
            raise
        aside = rebuild.set_aside(workspace, clock())
        _log.warning("the database is damaged and is set aside as %s", aside)
        db, is_missing = Database.open(workspace.database), True
    if is_missing:
        made = rebuild.rebuild(db, workspace, lambda: make_hub(settings), clock())
        _log.warning("the database was made again from %d run folders", len(made))
    return db
