"""Turn whatever the Hub client raises into one sentence of ours with its cure."""

import errno
from collections.abc import Iterator
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

BUSY_STATUSES = frozenset({408, 412, 425, 429, 500, 502, 503, 504, 520, 522, 524})
"""Answers worth another try; 412 means that somebody else committed in between."""
TOKEN_CURE = "Set HF_TOKEN to a token with the write role (huggingface.co/settings/tokens), or run `hf auth login`."  # noqa: S105  # a sentence
_MESSAGE_CHARACTERS = 240


@contextmanager
def hub_errors(where: str) -> Iterator[None]:
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


def _from_answer(error: BaseException, where: str) -> CodexError:
    from huggingface_hub import errors  # noqa: PLC0415  # slow import

    response: httpx2.Response = error.response  # type: ignore[attr-defined]  # an HfHubHTTPError has one
    status, message = response.status_code, server_message(response)
    page = f"{response.request.url.scheme}://{response.request.url.netloc.decode()}"
    if isinstance(error, errors.GatedRepoError):
        cure = f"Open {page}/{where} signed in, accept them, then try again with that account's token."
        return HubGatedError("the repository's terms have to be accepted first", where=where, cure=cure)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubNotFoundError("there is no such revision", where=where, cure="Check the branch, tag or commit.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubNotFoundError("a file is missing there", where=where, cure=f"Asked for: {response.request.url.path}")
    if isinstance(error, errors.RepositoryNotFoundError):
        what = "there is no such repository on the Hub, or it is private and hidden from this token"
        return HubNotFoundError(what, where=where, cure="Check the spelling (owner/name), or sign in.")
    if status in BUSY_STATUSES:
        return busy(status, message, where)
    return _from_status(status, message, where)


def _from_status(status: int, message: str, where: str) -> CodexError:
    detail = f" ({message})" if message else ""
    match status:
        case 401:
            return HubAuthError("the token is missing, wrong or revoked", where=where, cure=TOKEN_CURE)
        case 403:
            return HubAuthError(f"the token may not do this{detail}", where=where, cure=TOKEN_CURE)
        case 402:
            return HubError(f"the Hub asks for a paid plan or credit{detail}", where=where, cure="See its billing page.")
        case 404:
            return HubNotFoundError(f"not found on the Hub{detail}", where=where, cure="Check the spelling.")
        case 413:
            return HubError(f"the Hub says it is too large{detail}", where=where, cure="Keep fewer or smaller files.")
    return HubError(f"the Hub refused with HTTP {status}{detail}", where=where, cure="Check the repository's settings.")


def _from_transport(error: BaseException, where: str) -> CodexError | None:
    """Explain an error without an answer: no connection, a cut one, or a local disk problem."""
    http_error = _http_error()
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return WorkspaceError("the disk is full", where=where, cure="Free some space, then try again.")
        if isinstance(cause, (http_error, ConnectionError, TimeoutError)):
            reason = _clip(str(cause)) or type(cause).__name__
            return HubBusyError(f"no connection to the Hub ({reason})", where=where, cure="It is tried again.")
    # The client wraps an unreachable Hub into a cache miss.
    if type(error).__name__ in {"LocalEntryNotFoundError", "IncompleteSnapshotError"}:
        return HubBusyError("no connection to the Hub", where=where, cure="It is tried again.")
    if isinstance(error, ValueError) and "LFS batch" in str(error):
        return HubError(f"the Hub does not take the files ({_clip(str(error))})", where=where, cure="Check its quota.")
    return None


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
