"""The environment, read once into one frozen object; the only module that looks at os.environ."""

import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_space.core.errors import WorkspaceError
from codex_space.core.scrub import SHORTEST_SECRET

_OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
_IS_SECRET = re.compile(r"TOKEN$|SECRET|PASSWORD|PASSWD|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY", re.IGNORECASE)

ENDPOINT_KEY = "CODEX_SPACE_ENDPOINT_API_KEY"
"""Variable by which a worker gets the key of the server it asks, and nothing else does."""
SPACE_GRACE_S = 20.0
"""What a Space's container is thought to be given between SIGTERM and its end; the platform does not say."""


class Secret:
    """A string that prints as stars; `reveal()` is the one way to its value."""

    def __init__(self, value: str) -> None:
        """Hold the value out of repr, str and dataclass dumps."""
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    __str__ = __repr__


@dataclass(frozen=True)
class Settings:
    """What the environment says, with defaults.

    Attributes:
        workspace: Folder of runs, datasets and the database.
        host: Address the page listens on.
        port: Port the page listens on.
        password: Needed to open the page where it is not on loopback only.
        hf_token: Write token; stays in the owner process.
        read_token: For workers that fetch a gated or private repository.
        space_id: `org/name` on a Hugging Face Space, else None.
        signs_in: Whether people sign in with Hugging Face (`hf_oauth` of the Space gave what that needs).
        visitors: What people without the right to act may do: "look", or "nothing".
        visitors_see_money: Whether those who look also see what is spent.
        job_image: What a Hugging Face Job runs: CODEX_SPACE_JOB_IMAGE, else the image of this Space; empty for neither.
        max_jobs: Most Jobs at a time.
        autorun: A recipe and its key=value overrides that are queued as soon as the page is up; empty for none.
        log_format: Of the program's own log: "text", or "json" for one object a line.
        webhook_url: Where a note goes when a run ends; such an address is a secret itself.
        webhook_secret: Signs those notes.
        notice: "discussion" opens one in the run's repository when it ends, "" does not.
        holder: What this machine is called in the Hub's notes of unfinished runs.
        resume: Whether interrupted runs go on by themselves at the start of the page (auto), on a click (ask), or the
            Hub is neither told nor asked of them (off).
        heartbeat_s: How often the Hub is told that a run is still in hand.
        grace_s: How long the page, asked to end, lets a run save and send its checkpoint; 0 leaves the run training.
        accelerator: Flavour of hardware that the Space or the Job runs on, such as l4x1; empty on a machine of one's own.
        monthly_cap_usd: Runs are saved and stopped once this much is spent in a month; None for no cap.
        when_idle: What the Space does when nothing is left to do: "stay", "cpu" for free hardware, or "pause".
        idle_minutes: How long nothing has to be left to do.
        keep_awake: Whether the Space's sleep time is lifted while a run is under way.
        copies: Folder, such as a mounted bucket, that gets a copy of the newest backup; None for none.
        first_model: What the Start tab trains: "stdlib" (five minutes) or "tiny" (a few seconds, for trials).
        origin: `owner/name` of the Space that this one is a copy of; empty where its card says it, or it is none.
        environ: The whole environment, from which workers get an allow-listed part.
    """

    workspace: Path
    host: str = "127.0.0.1"
    port: int = 7860
    password: Secret | None = None
    hf_token: Secret | None = None
    read_token: Secret | None = None
    space_id: str | None = None
    signs_in: bool = False
    visitors: str = "nothing"
    visitors_see_money: bool = False
    job_image: str = ""
    max_jobs: int = 8
    autorun: str = ""
    log_format: str = "text"
    webhook_url: Secret | None = None
    webhook_secret: Secret | None = None
    notice: str = ""
    holder: str = "this machine"
    resume: str = "ask"
    heartbeat_s: float = 300.0
    grace_s: float = 0.0
    accelerator: str = ""
    monthly_cap_usd: float | None = None
    when_idle: str = "stay"
    idle_minutes: float = 15.0
    keep_awake: bool = False
    copies: Path | None = None
    first_model: str = "stdlib"
    origin: str = ""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can reach the page."""
        return self.host in {"127.0.0.1", "localhost", "::1"}

    @property
    def space_owner(self) -> str:
        """The account or organisation whose Space this is; empty on a machine of one's own."""
        return (self.space_id or "").partition("/")[0]

    @property
    def hub_cache(self) -> Path:
        """Where the Hub's client keeps what it downloads."""
        caches = Path(self.environ.get("XDG_CACHE_HOME") or Path(self.environ.get("HOME") or "~") / ".cache")
        home = Path(self.environ.get("HF_HOME") or caches / "huggingface")
        return Path(self.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()

    def _held(self) -> tuple[Secret | None, ...]:
        return self.password, self.hf_token, self.read_token, self.webhook_url, self.webhook_secret

    def secrets(self) -> list[str]:
        """Return every value of the environment that nobody may read on a page, in a log or in a card."""
        named = [self.environ[name] for name in self.environ if _IS_SECRET.search(name)]
        held = [one.reveal() for one in self._held() if one is not None]
        return sorted({text for text in (*named, *held) if len(text) >= SHORTEST_SECRET}, key=len, reverse=True)


def read_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the environment; keyword arguments that are not None (from the command line) win.

    Raises:
        WorkspaceError: The port is not a number, a setting has a value it cannot have, or the variables of a Space disagree.
    """
    env = dict(os.environ if environ is None else environ)  # noqa: TID251  # the one place
    port_text = env.get("CODEX_SPACE_PORT") or env.get("GRADIO_SERVER_PORT") or "7860"
    if not port_text.isdigit():
        raise WorkspaceError(
            f"the port {port_text!r} is not a number",
            where="CODEX_SPACE_PORT",
            cure="Set it to a free port such as 7860.",
        )
    space_id = _space_id(env)
    max_jobs = env.get("CODEX_SPACE_MAX_JOBS") or "8"
    if not max_jobs.isdigit() or not int(max_jobs):
        raise WorkspaceError(
            f"{max_jobs!r} is no number from 1", where="CODEX_SPACE_MAX_JOBS", cure="Set it to 8, say."
        )
    token = env.get("HF_TOKEN") or _stored_token(env)
    values: dict[str, object] = {
        "workspace": Path(env.get("CODEX_SPACE_HOME") or "workspace"),
        "host": env.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        "port": int(port_text),
        "password": _secret(env, "CODEX_SPACE_PASSWORD"),
        "hf_token": Secret(token) if token else None,
        "read_token": _secret(env, "HF_READ_TOKEN"),
        "space_id": space_id,
        "signs_in": space_id is not None and all(env.get(name) for name in _OAUTH),
        "visitors": _one_of(env, "CODEX_SPACE_VISITORS", "nothing", "look"),
        "visitors_see_money": _one_of(env, "CODEX_SPACE_VISITORS_SEE_MONEY", "0", "1") == "1",
        "autorun": env.get("CODEX_SPACE_AUTORUN", "").strip(),
        "log_format": _one_of(env, "CODEX_SPACE_LOG", "text", "json"),
        "webhook_url": _address(env, "CODEX_SPACE_WEBHOOK_URL"),
        "webhook_secret": _secret(env, "CODEX_SPACE_WEBHOOK_SECRET"),
        "notice": _one_of(env, "CODEX_SPACE_NOTICE", "", "discussion"),
        "accelerator": _accelerator(env) if space_id else env.get("CODEX_SPACE_JOB_FLAVOR", ""),
        "monthly_cap_usd": _number(env, "CODEX_SPACE_MONTHLY_CAP_USD"),
        "when_idle": _one_of(env, "CODEX_SPACE_WHEN_IDLE", "stay", "cpu", "pause"),
        "idle_minutes": _number(env, "CODEX_SPACE_IDLE_MINUTES") or 15.0,
        "keep_awake": _one_of(env, "CODEX_SPACE_KEEP_AWAKE", "0", "1") == "1",
        "job_image": env.get("CODEX_SPACE_JOB_IMAGE") or (f"hf.co/spaces/{space_id}" if space_id else ""),
        "max_jobs": int(max_jobs),
        "holder": env.get("CODEX_SPACE_HOLDER") or space_id or socket.gethostname() or "this machine",
        "resume": _one_of(env, "CODEX_SPACE_RESUME", "ask", "auto", "off"),
        "heartbeat_s": _seconds(env, "CODEX_SPACE_HEARTBEAT_S", 300.0, least=1.0),
        "grace_s": _seconds(env, "CODEX_SPACE_GRACE_S", SPACE_GRACE_S if space_id else 0.0),
        "origin": _repo_name(env, "CODEX_SPACE_ORIGIN"),
        "copies": Path(env["CODEX_SPACE_COPIES"]).expanduser().absolute() if env.get("CODEX_SPACE_COPIES") else None,
        "first_model": "tiny" if env.get("CODEX_SPACE_FIRST_MODEL") == "tiny" else "stdlib",
        "environ": env,
    }
    values.update({key: value for key, value in overrides.items() if value is not None})
    values["workspace"] = Path(str(values["workspace"])).expanduser().absolute()
    return Settings(**values)  # type: ignore[arg-type]  # built from the typed names above


def _secret(env: Mapping[str, str], name: str) -> Secret | None:
    return Secret(env[name]) if env.get(name) else None


def _address(env: Mapping[str, str], name: str) -> Secret | None:
    found = _secret(env, name)
    if found is not None and not re.fullmatch(r"https?://[^\s/]+\S*", found.reveal()):
        raise WorkspaceError("this is not an address", where=name, cure="Set it to one that begins with https://.")
    return found


def _one_of(env: Mapping[str, str], name: str, *allowed: str) -> str:
    """Return a setting's value; the first is what it is where it is not set."""
    found = env.get(name) or allowed[0]
    if found not in allowed:
        others = " or ".join(filter(None, allowed))
        raise WorkspaceError(f"{found!r} is not what it may be", where=name, cure=f"Set it to {others}.")
    return found


def _number(env: Mapping[str, str], name: str) -> float | None:
    """Return a setting that is a number above 0, None where it is not set."""
    text = env.get(name, "").strip()
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:  # also refuses NaN
        raise WorkspaceError(f"{text!r} is no number above 0", where=name, cure="Set it to 20, say.")
    return found


def _accelerator(env: Mapping[str, str]) -> str:
    """The platform says "none" where there is no GPU, and not which of its CPU machines it is; the free one is."""
    found = env.get("ACCELERATOR", "")
    return "cpu-basic" if found in {"", "none"} else found


def _space_id(env: Mapping[str, str]) -> str | None:
    """Gradio signs everybody in as the owner of HF_TOKEN where it takes a Space for a laptop, which it does by SYSTEM."""
    found = env.get("SPACE_ID") or None
    if found is not None and env.get("SYSTEM") != "spaces":
        raise WorkspaceError(
            "SPACE_ID says this is a Space and SYSTEM does not: signing in would make every visitor its owner",
            where="SYSTEM",
            cure="Set SYSTEM=spaces, as this program's Dockerfile does.",
        )
    if found is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", found):
        raise WorkspaceError(f"{found!r} is not the id of a Space", where="SPACE_ID", cure="It is owner/name.")
    return found


def _repo_name(env: Mapping[str, str], name: str) -> str:
    found = env.get(name, "").strip()
    if found and not re.fullmatch(r"[\w.-]+/[\w.-]+", found):
        raise WorkspaceError(f"{found[:100]!r} is not the id of a Space", where=name, cure="Write it owner/name.")
    return found


def _seconds(env: Mapping[str, str], name: str, default: float, *, least: float = 0.0) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= 86_400:
        raise WorkspaceError(
            f"{text!r} is not a number of seconds from {least:g} to 86400",
            where=name,
            cure="Set it to one, such as 20.",
        )
    return value


def _stored_token(env: Mapping[str, str]) -> str:
    """Return the token of `hf auth login`, which lies where HF_TOKEN_PATH or HF_HOME says."""
    hf_home = env.get("HF_HOME") or str(Path(env.get("HOME", "~")).expanduser() / ".cache/huggingface")
    path = Path(env.get("HF_TOKEN_PATH") or Path(hf_home) / "token")
    return path.read_text().strip() if path.is_file() else ""


def is_secret_name(name: str) -> bool:
    """Return whether a variable of this name holds a secret."""
    return bool(_IS_SECRET.search(name))


def read_key(variable: str) -> Secret | None:
    """Return what an environment variable holds, as a secret; None where it is not set."""
    value = os.environ.get(variable, "").strip()  # noqa: TID251  # the one place that reads it
    return Secret(value) if value else None
