"""Turn whatever the Hub client raises into one sentence of ours with its cure."""

import errno
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codex_space.core.errors import (
    CodexError,
    HubAuthError,
    HubBusyError,
    HubError,
    HubGatedError,
    HubNotFoundError,
    WorkspaceError,
)

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

BUSY_STATUSES = frozenset({408, 412, 425, 429, 500, 502, 503, 504, 520, 522, 524})
"""Answers worth another try; 412 means that somebody else committed in between."""
TOKEN_CURE = "Set HF_TOKEN to a token with the write role (huggingface.co/settings/tokens), or run `hf auth login`."  # noqa: S105  # a sentence
_MESSAGE_CHARACTERS = 240
_NO_ROOM = re.compile(r"storage|quota", re.IGNORECASE)
_NOT_AN_ANSWER = re.compile(r"malformed|improperly formatted|expecting value|json", re.IGNORECASE)


@contextmanager
def hub_errors(where: str) -> Generator[None]:
    """Run a block of client calls about `where` (a repository) and translate what they raise.

    Raises:
        HubError: Or its kind that fits; anything that is not the Hub's doing passes through unchanged.
        WorkspaceError: The disk is full.
    """
    try:
        yield
    except HubBusyError as error:
        raise HubBusyError(error.what, where=where, cure=error.cure) from error
    except CodexError:
        raise
    except (OSError, RuntimeError, ValueError, _http_error()) as error:
        known = explain(error, where)
        if known is None:
            raise
        raise known from error


def explain(error: BaseException, where: str) -> CodexError | None:
    """Return our error for the client's, or None where it is not the Hub's doing."""
    from huggingface_hub import errors  # noqa: PLC0415  # slow import

    for cause in _chain(error):
        if isinstance(cause, HubBusyError):
            return HubBusyError(cause.what, where=where, cure=cause.cure)
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return HubError("HF_HUB_OFFLINE is set, so the Hub is not asked", where=where, cure="Unset it.")
        if isinstance(cause, errors.HfHubHTTPError):
            return _from_answer(cause, where)
        if isinstance(cause, errors.HFValidationError):
            return HubNotFoundError("this is not a repository id", where=where, cure="Write it like owner/name.")
    return _from_transport(error, where)


def busy(status: int, message: str, where: str, retry_after: str | None = None) -> HubBusyError:
    """Return the error for an answer that is worth another try."""
    what = {429: "the Hub's rate limit is reached", 412: "somebody else committed at the same moment"}.get(
        status, "the Hub is not able to answer now"
    )
    wait = f" It asks to wait {retry_after} s." if retry_after else ""
    detail = f": {_clip(message)}" if message else ""
    return HubBusyError(f"{what} (HTTP {status}{detail})", where=where, cure=f"It is tried again.{wait}")


def server_message(response: "httpx2.Response") -> str:
    """Return the server's own words about a refusal."""
    text = response.headers.get("X-Error-Message", "")
    if not text and "json" in response.headers.get("content-type", ""):
        try:
            body = response.json()
        except ValueError:
            body = None
        text = str(body.get("error", "")) if isinstance(body, dict) else ""
    return _clip(text)


def _from_answer(error: "HfHubHTTPError", where: str) -> CodexError:
    from huggingface_hub import errors  # noqa: PLC0415  # slow import

    response = error.response
    status, message = response.status_code, server_message(response)
    url = response.request.url
    page = f"{url.scheme}://{url.netloc.decode()}{'/datasets' if '/datasets/' in url.path else ''}"
    if isinstance(error, errors.GatedRepoError):
        cure = f"Open {page}/{where} signed in, accept them, then try again with that account's token."
        return HubGatedError("the repository's terms have to be accepted first", where=where, cure=cure)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubNotFoundError("there is no such revision", where=where, cure="Check the branch, tag or commit.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubNotFoundError("a file is missing there", where=where, cure=f"Asked for: {url.path}")
    if isinstance(error, errors.RepositoryNotFoundError):
        what = "there is no such repository on the Hub, or it is private and hidden from this token"
        return HubNotFoundError(what, where=where, cure="Check the spelling (owner/name), or sign in.")
    if status in BUSY_STATUSES:
        return busy(status, message, where)
    return _from_status(status, message, where)


_BY_STATUS: dict[int, tuple[type[CodexError], str, str]] = {
    401: (HubAuthError, "the token is missing, wrong or revoked", TOKEN_CURE),
    402: (HubError, "the Hub asks for a paid plan or credit", "See its billing page."),
    403: (HubAuthError, "the token may not do this", TOKEN_CURE),
    404: (HubNotFoundError, "not found on the Hub", "Check the spelling."),
    413: (HubError, "the Hub says it is too large", "Keep fewer or smaller files."),
}


def _from_status(status: int, message: str, where: str) -> CodexError:
    refused = (HubError, f"the Hub refused with HTTP {status}", "Check the repository's settings.")
    kind, what, cure = _BY_STATUS.get(status, refused)
    if status == 403 and _NO_ROOM.search(message):
        kind, what = HubError, "the account's storage on the Hub is full"
        cure = "Delete what is not needed there, or get more storage; then retry the upload."
    return kind(f"{what} ({message})" if message else what, where=where, cure=cure)


def _from_transport(error: BaseException, where: str) -> CodexError | None:
    """Explain an error without an answer: no connection, a cut one, or a local disk problem."""
    kind: type[HubError] = HubBusyError
    what, cure = "", "It is tried again."
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return WorkspaceError("the disk is full", where=where, cure="Free some space, then try again.")
        if isinstance(cause, (_http_error(), ConnectionError, TimeoutError)):
            return HubBusyError(f"no connection to the Hub ({_clip(str(cause))})", where=where, cure=cure)
        if type(cause).__name__ == "XetAuthenticationError":  # hf_xet 1.8 raises it as a PermissionError
            return HubAuthError("the token may not do this", where=where, cure=TOKEN_CURE)
    if type(error).__name__ in {"LocalEntryNotFoundError", "IncompleteSnapshotError"}:
        what = "no connection to the Hub"  # the client calls it a cache miss
    elif isinstance(error, OSError) and "Consistency check failed" in str(error):
        what = "a file came with another size than the Hub says"
    elif isinstance(error, ValueError) and "LFS batch" in str(error):
        kind, what, cure = HubError, f"the Hub does not take the files ({_clip(str(error))})", "Check its quota."
    elif isinstance(error, ValueError) and _NOT_AN_ANSWER.search(str(error)):
        what = "the answer is not the Hub's (a login page of the network, perhaps)"
    elif isinstance(error, RuntimeError):  # hf_xet says so of all else that goes wrong inside it
        what = f"the transfer broke off ({_clip(str(error))})"
    return kind(what, where=where, cure=cure) if what else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _http_error() -> type[Exception]:
    import httpx2  # noqa: PLC0415  # slow import

    return httpx2.HTTPError


def _clip(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 3] + "..."
