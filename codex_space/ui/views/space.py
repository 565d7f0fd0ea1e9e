"""What the Space tab says: facts about machine, Hub account and access, each read when asked."""

from datetime import datetime

from codex_space.core.errors import CodexError
from codex_space.core.units import render_bytes
from codex_space.hub.records import Account
from codex_space.services import audit
from codex_space.services.account import own_account
from codex_space.services.context import Context
from codex_space.services.models import machine
from codex_space.ui.views.markup import escape, render_check, render_checks, render_facts


def render_machine(ctx: Context) -> str:
    """Return processor, memory and GPUs."""
    found = machine(ctx)
    gpus = ", ".join(f"{escape(gpu.name)}, {render_bytes(gpu.memory_bytes)}" for gpu in found.gpus)
    return render_facts(
        [
            ("Processor", f"{found.num_cores} core{'s' if found.num_cores != 1 else ''} for this program"),
            ("Memory", render_bytes(found.memory_bytes)),
            ("GPU", gpus or "none: small models train on the processor"),
            ("Space", escape(ctx.settings.space_id or "no, this is a machine of your own")),
        ]
    )


def render_account(ctx: Context) -> str:
    """Ask the Hub who the token belongs to and what it may do."""
    try:
        account = own_account(ctx)
    except CodexError as error:
        return render_checks([render_check(False, "Hub account", error.what, error.cure)])
    return render_checks(account_lines(account))


def account_lines(account: Account) -> list[str]:
    """Return what an account may do, as checklist lines."""
    owners = ", ".join((account.name, *account.orgs))
    return [
        render_check(True, "Signed in", f"as {account.name} (token role: {account.role})"),
        render_check(True, "Write", f"checkpoints can go to repositories of {owners}")
        if account.can_write
        else render_check(
            False, "Write", "this token may only read", "Set HF_TOKEN to a token with write scope and restart."
        ),
    ]


def render_access(ctx: Context) -> str:
    """Return who can open this page and act on it."""
    settings, who = ctx.settings, []
    if settings.signs_in:
        members = f"{settings.space_owner} and members of it who may write there sign in with Hugging Face and act"
        who.append(render_check(True, "Sign-in", members))
    if settings.password is not None:
        who.append(render_check(True, "Password", "whoever knows it may do everything here"))
    if not who:
        only = f"the page listens on {settings.host}; no password is needed here"
        who.append(render_check(True, "This machine only", only))
    elif settings.visitors == "look":
        unseen = "the files of models" if settings.visitors_see_money else "the files of models and what is spent"
        who.append(render_check(None, "Visitors", f"everybody may look, without {unseen}"))
    else:
        who.append(render_check(True, "Visitors", "nobody else sees anything", "CODEX_SPACE_VISITORS=look shows it."))
    owner = ctx.owner is not None
    return render_checks(
        [
            *who,
            render_check(owner, "Runs", "this process starts and watches them")
            if owner
            else render_check(False, "Runs", "no process watches them", "Start `codex-space serve`."),
        ]
    )


def render_audit(ctx: Context) -> str:
    """Return who did what last."""
    rows = "".join(
        f"<tr><td>{datetime.fromtimestamp(deed.at).astimezone():%d %b %H:%M}</td><td>{escape(deed.who)}</td>"
        f"<td>{escape(deed.verb)}</td><td>{escape(deed.what)}</td></tr>"
        for deed in audit.read(ctx, limit=20)
    )
    if not rows:
        return "<p class=cs-note>Nothing yet: what people start, stop, rename and delete is written down here.</p>"
    head = "<tr><th>When</th><th>Who</th><th>Did</th><th>To</th></tr>"
    more = "<p class=cs-note><code>codex-space audit --json</code> prints all of it.</p>"
    return f"<div class=cs-scroll><table class=cs-table><thead>{head}</thead><tbody>{rows}</tbody></table></div>{more}"
