"""The environment, read once into one frozen object; the only module that looks at os.environ."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_space.core.errors import WorkspaceError


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
        first_model: What the Start tab trains: "stdlib" (five minutes) or "tiny" (a few seconds, for trials).
        environ: The whole environment, from which workers get an allow-listed part.
    """

    workspace: Path
    host: str = "127.0.0.1"
    port: int = 7860
    password: Secret | None = None
    hf_token: Secret | None = None
    read_token: Secret | None = None
    space_id: str | None = None
    first_model: str = "stdlib"
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can reach the page."""
        return self.host in {"127.0.0.1", "localhost", "::1"}


def read_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read the environment; keyword arguments that are not None (from the command line) win.

    Raises:
        WorkspaceError: The port is not a number.
    """
    env = dict(os.environ if environ is None else environ)  # noqa: TID251  # the one place
    port_text = env.get("CODEX_SPACE_PORT") or env.get("GRADIO_SERVER_PORT") or "7860"
    if not port_text.isdigit():
        raise WorkspaceError(
            f"the port {port_text!r} is not a number",
            where="CODEX_SPACE_PORT",
            cure="Set it to a free port such as 7860.",
        )
    token = env.get("HF_TOKEN") or _stored_token(env)
    values: dict[str, object] = {
        "workspace": Path(env.get("CODEX_SPACE_HOME") or "workspace"),
        "host": env.get("GRADIO_SERVER_NAME") or "127.0.0.1",
        "port": int(port_text),
        "password": Secret(env["CODEX_SPACE_PASSWORD"]) if env.get("CODEX_SPACE_PASSWORD") else None,
        "hf_token": Secret(token) if token else None,
        "read_token": Secret(env["HF_READ_TOKEN"]) if env.get("HF_READ_TOKEN") else None,
        "space_id": env.get("SPACE_ID") or None,
        "first_model": "tiny" if env.get("CODEX_SPACE_FIRST_MODEL") == "tiny" else "stdlib",
        "environ": env,
    }
    values.update({key: value for key, value in overrides.items() if value is not None})
    values["workspace"] = Path(str(values["workspace"])).expanduser().absolute()
    return Settings(**values)  # type: ignore[arg-type]  # built from the typed names above


def _stored_token(env: Mapping[str, str]) -> str:
    """Return the token of `hf auth login`, which lies where HF_TOKEN_PATH or HF_HOME says."""
    hf_home = env.get("HF_HOME") or str(Path(env.get("HOME", "~")).expanduser() / ".cache/huggingface")
    path = Path(env.get("HF_TOKEN_PATH") or Path(hf_home) / "token")
    return path.read_text().strip() if path.is_file() else ""


def read_key(variable: str) -> Secret | None:
    """Return what an environment variable holds, as a secret; None where it is not set."""
    value = os.environ.get(variable, "").strip()  # noqa: TID251  # the one place that reads it
    return Secret(value) if value else None
