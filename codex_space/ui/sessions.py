"""What the server remembers of each opened page: the values of its states, and little else.

Gradio 6.31 also keeps the settings of every component for each page that was ever opened, up to ten thousand pages: 0.6 MB
and 35 ms of the event loop each, for links to a page as somebody left it, which this page does not hand out.
"""

from copy import copy
from typing import Any

from gradio import Blocks, state_holder

MOST_SESSIONS = 2000
"""Pages whose states are remembered; an older one that comes back finds them empty."""


class LeanSession(state_holder.SessionState):
    """A session without the settings of its components."""

    def __init__(self, blocks: Blocks) -> None:  # the base class would collect the settings
        """Begin with the states as the page was built."""
        self.blocks_config = copy(blocks.default_config)
        self.config_values = _Forgotten()
        self.state_data: dict[int, Any] = {}
        self._state_ttl = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def _update_config(self, key: int) -> None:
        """Do nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:  # noqa: ANN401  # as the base class has it
        """Do nothing."""


class _Forgotten(dict[int, Any]):
    """Keeps nothing."""

    def __setitem__(self, key: int, value: Any) -> None:  # noqa: ANN401  # a dictionary's
        """Do nothing."""


def remember_little() -> None:
    """Let sessions that begin from now on be lean ones."""
    state_holder.SessionState = LeanSession  # ty: ignore[invalid-assignment]  # looked up for each new session
