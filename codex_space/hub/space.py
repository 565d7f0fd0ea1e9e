"""Spaces of the Hub: duplicate one, ask for its machine, its sleep and its pause, with the cure for each refusal."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codex_space.core.errors import HubAuthError, HubError
from codex_space.hub.client import Hub, hourly
from codex_space.hub.refusals import hub_errors

if TYPE_CHECKING:
    from huggingface_hub import SpaceRuntime

BILLING_CURE = (
    "A Docker Space on cpu-basic needs PRO (an account) or Team or Enterprise (an organisation); paid hardware needs only "
    "a payment method and credit. See the Hub's billing page, or choose paid hardware."
)


@dataclass(frozen=True)
class Copying:
    """A copy to be made.

    Attributes:
        to_id: `owner/name`.
        hardware: A flavour such as l4x1; empty for the Hub's own choice, cpu-basic.
        sleep_time_s: Seconds without a request until it sleeps, -1 for never; None for the Hub's own.
        secrets: By name; they go to the Hub and nowhere else.
    """

    from_id: str
    to_id: str
    hardware: str
    sleep_time_s: int | None
    secrets: Mapping[str, str]
    variables: Mapping[str, str]

    def __repr__(self) -> str:
        """Leave the secrets' values out of whatever prints it."""
        return f"Copying({self.from_id!r} to {self.to_id!r}, secrets {sorted(self.secrets)})"


@dataclass(frozen=True)
class Copied:
    """A copy that was made; while `is_copying` large files of it may still be missing."""

    repo_id: str
    url: str
    is_copying: bool


@dataclass(frozen=True)
class Runtime:
    """What the Hub says of a running Space.

    Attributes:
        stage: The Hub's word: RUNNING, BUILDING, PAUSED, SLEEPING, ...
        hardware: The flavour it runs on; empty while it is built for the first time.
        requested: The flavour asked for, which differs until the restart.
        sleep_time_s: Seconds without a request until it sleeps; None and -1 for never (48 hours on cpu-basic).
    """

    stage: str
    hardware: str
    requested: str
    sleep_time_s: int | None

    @property
    def is_switching(self) -> bool:
        """Whether another machine has been asked for and is not there yet."""
        return bool(self.requested) and self.requested != self.hardware


class SpaceHub(Hub):
    """A Hub account that keeps Spaces."""

    def duplicate_space(self, copying: Copying) -> Copied:
        """Make a private copy; one of that name is never touched.

        Raises:
            HubAuthError: The token may not make a Space there.
            HubError: It wants a plan or credit, or the name is taken.
            HubNotFoundError: There is nothing to copy.
        """
        flavor: Any = copying.hardware or None  # typed as an enum; a flavour newer than its list will do
        with space_errors(copying.to_id, "make a Space"):
            made = self._api.duplicate_repo(
                copying.from_id,
                copying.to_id,
                repo_type="space",
                private=True,
                space_hardware=flavor,
                space_sleep_time=copying.sleep_time_s,
                space_secrets=_pairs(copying.secrets),
                space_variables=_pairs(copying.variables),
            )
        return Copied(made.repo_id, str(made), bool(made.files_copy_pending))

    def space_runtime(self, space_id: str) -> Runtime:
        """Return what a Space runs on now.

        Raises:
            HubNotFoundError: There is no such Space, or it is hidden from this token.
        """
        with space_errors(space_id, "see it"):
            return _runtime(self._api.get_space_runtime(space_id))

    def request_hardware(self, space_id: str, flavor: str, sleep_time_s: int | None = None) -> Runtime:
        """Ask for another machine: the Space restarts on it, with an empty disk.

        Raises:
            HubAuthError: The token may not change the Space.
            HubError: It wants credit, or there is no such flavour.
        """
        wanted: Any = flavor  # as above
        with space_errors(space_id, "change its hardware"):
            found = self._api.request_space_hardware(space_id, wanted, sleep_time=sleep_time_s)
        return _runtime(found)

    def set_sleep_time(self, space_id: str, sleep_time_s: int) -> Runtime:
        """Set after how many seconds without a request it sleeps; -1 for never.

        Raises:
            HubAuthError: The token may not change the Space.
            HubError: As the Hub refuses.
        """
        with space_errors(space_id, "change its sleep time"):
            return _runtime(self._api.set_space_sleep_time(space_id, sleep_time_s))

    def pause_space(self, space_id: str) -> Runtime:
        """Stop it, and its price, until somebody restarts it.

        Raises:
            HubAuthError: The token may not change the Space.
        """
        with space_errors(space_id, "pause it"):
            return _runtime(self._api.pause_space(space_id))

    def restart_space(self, space_id: str) -> Runtime:
        """Start it again.

        Raises:
            HubAuthError: The token may not change the Space.
            HubError: It wants credit.
        """
        with space_errors(space_id, "restart it"):
            return _runtime(self._api.restart_space(space_id))

    def space_prices(self) -> dict[str, float]:
        """Return US dollars an hour of each flavour that Spaces run on.

        Raises:
            HubBusyError: No answer.
        """
        with hub_errors("Hub hardware"):
            return hourly(self._api.list_spaces_hardware())


@contextmanager
def space_errors(space_id: str, doing: str) -> Generator[None]:
    """Run client calls about a Space; plan, right and name are explained in a Space's own terms.

    Raises:
        HubError: Or its kind that fits.
    """
    try:
        with hub_errors(space_id):
            yield
    except HubError as error:
        response = getattr(error.__cause__, "response", None)
        known = _explain(getattr(response, "status_code", 0), error, space_id, doing)
        raise known from error.__cause__ or error


def _explain(status: int, error: HubError, space_id: str, doing: str) -> HubError:
    owner = space_id.partition("/")[0]
    match status:
        case 402:
            return HubError(f"{error.what}, to {doing}", where=space_id, cure=BILLING_CURE)
        case 403:
            cure = (
                f"Use a token with write scope of {owner}, or of a member whose role in {owner} is write or admin; "
                "an admin gives it in the organisation's settings."
            )
            return HubAuthError(f"{error.what}, which is to {doing}", where=space_id, cure=cure)
        case 409:
            cure = "Choose another name; the Space of that name stays as it is."
            return HubError("there is a Space of this name already", where=space_id, cure=cure)
    return error


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]] | None:
    return [{"key": name, "value": value} for name, value in values.items()] or None


def _runtime(found: "SpaceRuntime") -> Runtime:
    return Runtime(
        stage=_word(found.stage),
        hardware=_word(found.hardware),
        requested=_word(found.requested_hardware),
        sleep_time_s=found.sleep_time,
    )


def _word(value: Any) -> str:  # noqa: ANN401  # an enum where the client knows the word, a string where it is newer
    return str(getattr(value, "value", value) or "")
