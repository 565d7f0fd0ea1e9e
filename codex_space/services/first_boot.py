"""What a fresh copy of the Space still needs, read from the Hub, the machine and the workspace when asked."""

from dataclasses import dataclass

from codex_space.core import durable
from codex_space.core.errors import CodexError
from codex_space.services import first_model, models
from codex_space.services.account import own_account
from codex_space.services.context import Context
from codex_space.store.runs import ACTIVE

HUB_PAGE = "https://huggingface.co"
TOKENS_PAGE = f"{HUB_PAGE}/settings/tokens"


@dataclass(frozen=True)
class Need:
    """One line: there (True), missing (False) or worth knowing (None), with its cure and where to do it."""

    ok: bool | None
    label: str
    detail: str
    cure: str = ""
    link: str = ""


def read(ctx: Context) -> list[Need]:
    """Return the checklist; the Hub is asked who the token belongs to."""
    return [_token(ctx), _access(ctx), _hardware(ctx), _storage(ctx), _first_model(ctx)]


def is_dismissed(ctx: Context) -> bool:
    """Return whether somebody has put the checklist away."""
    return bool((durable.read_json(ctx.workspace.root / "first_boot.json") or {}).get("dismissed"))


def dismiss(ctx: Context) -> None:
    """Put it away."""
    durable.write_json(ctx.workspace.root / "first_boot.json", {"dismissed": True})
    ctx.note("dismiss the checklist", "first boot")


def settings_page(ctx: Context) -> str:
    """Return the Space's settings on the Hub, empty on a machine of one's own."""
    endpoint = (ctx.settings.environ.get("HF_ENDPOINT") or HUB_PAGE).rstrip("/")
    return f"{endpoint}/spaces/{ctx.settings.space_id}/settings" if ctx.settings.space_id else ""


def _token(ctx: Context) -> Need:
    try:
        account = own_account(ctx)
    except CodexError as error:
        return Need(False, "Token", error.what, error.cure or "Set HF_TOKEN.", settings_page(ctx) or TOKENS_PAGE)
    if not account.can_write:
        return Need(False, "Token", f"{account.name}'s may only read", "Make one with write scope", TOKENS_PAGE)
    return Need(True, "Token", f"of {account.name}, may write")


def _access(ctx: Context) -> Need:
    settings = ctx.settings
    if settings.signs_in:
        return Need(True, "Access", f"{settings.space_owner} and its members sign in")
    if settings.password is not None:
        return Need(True, "Access", "a password is set")
    if settings.space_id:
        cure = "Set the secret CODEX_SPACE_PASSWORD, or hf_oauth in the README"
        return Need(False, "Access", "neither password nor sign-in", cure, settings_page(ctx))
    return Need(settings.is_loopback, "Access", f"the page listens on {settings.host}")


def _hardware(ctx: Context) -> Need:
    here, named = models.machine(ctx), ctx.settings.accelerator
    if here.gpus:
        return Need(True, "Hardware", f"{named} {here.label}: real base models, by LoRA or whole".strip())
    detail = f"{named or 'this machine'}, no GPU: small models train, real ones on HF Jobs"
    return Need(None, "Hardware", detail, "Choose a GPU" if ctx.settings.space_id else "", "#space")


def _storage(ctx: Context) -> Need:
    free_gb = models.machine(ctx).disk_free_bytes / 1e9
    if not ctx.settings.space_id:
        return Need(True, "Storage", f"{free_gb:,.0f} GB free on this disk")
    detail = f"{free_gb:,.0f} GB free, lost at every restart"
    return Need(None, "Storage", detail, "Set hub.repo_id in each recipe: checkpoints then stay on the Hub", "#train")


def _first_model(ctx: Context) -> Need:
    found = first_model.status(ctx)
    if found is None:
        return Need(False, "First model", "none yet", "Train it", "#start")
    if found.sft.state == "succeeded":
        return Need(True, "First model", "trained")
    if found.sft.state in {*ACTIVE, "queued"}:
        return Need(None, "First model", "is being trained")
    return Need(False, "First model", f"ended as {found.sft.state}", "See why", f"#runs/{found.sft.id}")
