"""Who is acting now, and what that person may do: set at the door, read by whatever must say who did it."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum


class May(IntEnum):
    """What a person may do; each includes those before it."""

    NOTHING = 0
    LOOK = 1
    ACT = 2


@dataclass(frozen=True)
class Actor:
    """A person or program at the door.

    Attributes:
        name: The account, or what else is known: "this machine", "password", "visitor".
        may: What the person may do.
        why: One sentence for those who may not act: why, and what would change it.
        signed_in: Whether an account of the Hub stands behind the name.
    """

    name: str
    may: May
    why: str = ""
    signed_in: bool = False


COMMAND_LINE = Actor("command line", May.ACT)
acting: ContextVar[Actor] = ContextVar("acting", default=COMMAND_LINE)
"""Outside a page's request it is whoever started this program."""
