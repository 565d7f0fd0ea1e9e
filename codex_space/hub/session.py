"""The HTTP session of huggingface_hub: with time limits, and without waiting of its own.

Retrying is the uploader's job, with its state on disk; a client that sleeps for minutes inside one call could neither
be stopped nor shown. So a busy answer is raised at once.
"""

import functools
from types import ModuleType
from typing import TYPE_CHECKING

from codex_space.hub.refusals import BUSY_STATUSES, busy, server_message

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 120.0  # the Hub itself gives up a commit after 60 s


@functools.cache
def load_library() -> ModuleType:
    """Return huggingface_hub, prepared once for this process."""
    import huggingface_hub  # noqa: PLC0415  # 0.5 s, and only where the Hub is asked
    from huggingface_hub.utils import disable_progress_bars  # noqa: PLC0415  # as above

    disable_progress_bars()
    huggingface_hub.set_client_factory(_new_session)
    return huggingface_hub


def _new_session() -> "httpx2.Client":
    """Return the client's own kind of session, with time limits (it has none) and without its waiting."""
    import httpx2  # noqa: PLC0415  # slow import
    from huggingface_hub.utils._http import hf_request_event_hook  # noqa: PLC0415  # huggingface_hub 2.4: not exported

    return httpx2.Client(
        event_hooks={"request": [hf_request_event_hook], "response": [_raise_when_busy]},
        follow_redirects=True,
        timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    )


def _raise_when_busy(response: "httpx2.Response") -> None:
    if response.status_code in BUSY_STATUSES:
        response.read()
        where = str(response.request.url.path)
        raise busy(response.status_code, server_message(response), where, response.headers.get("Retry-After"))
