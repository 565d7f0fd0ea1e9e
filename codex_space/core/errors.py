"""Errors a person can act on: what is wrong, where, and the cure.

CodexError
+ RecipeError       the recipe text is wrong (unknown key, bad value)
+ DataError         a dataset cannot be read or does not fit its use
+ ModelError        a base model, adapter or tokenizer cannot be used
+ TrainingError     a run cannot start or go on (nothing to train, loss is NaN, disk full)
+ EvaluationError   a score cannot be worked out from what is there
+ RunError          the run is unknown, or its state does not allow what was asked
+ WorkspaceError    the workspace folder is locked, full, or not writable
+ GradeError        generated code cannot be graded (no sandbox, bad samples or problems)
+ AccessError       the caller may not do this
+ HubError          the Hub refused for good
+ HubAuthError    no token, a revoked one, or one without the right
+ HubNotFoundError  no such repository, revision or file (or hidden from this token)
+ HubGatedError   the repository's licence has to be accepted first
+ HubBusyError    429, 5xx or no connection: worth another try
"""

import difflib


class CodexError(Exception):
    """Base of every error shown to a person without a traceback.

    Args:
        what: One clause: what is wrong.
        where: The file, line, key or repository it was found in.
        cure: One sentence: what to do.
    """

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        """Keep the three parts apart so that the page can lay them out."""
        self.what, self.where, self.cure = what, where, cure
        head = f"{where}: {what}" if where else what
        super().__init__(f"{head.rstrip('.')}. {cure}".strip() if cure else head)


class RecipeError(CodexError):
    """The recipe text is wrong."""


class DataError(CodexError):
    """A dataset cannot be read or does not fit its use."""


class ModelError(CodexError):
    """A base model, adapter or tokenizer cannot be used."""


class TrainingError(CodexError):
    """A run cannot start or go on."""


class EvaluationError(CodexError):
    """A score cannot be worked out from what is there."""


class RunError(CodexError):
    """The run is unknown, or its state does not allow what was asked."""


class WorkspaceError(CodexError):
    """The workspace folder is locked, full, or not writable."""


class GradeError(CodexError):
    """Generated code cannot be graded here, or the samples or problems cannot be read."""


class AccessError(CodexError):
    """The caller may not do this."""


class HubError(CodexError):
    """The Hub refused for good."""


class HubAuthError(HubError):
    """No token, a revoked one, or one without the right."""


class HubNotFoundError(HubError):
    """No such repository, revision or file, or it is hidden from this token."""


class HubGatedError(HubError):
    """The repository's licence has to be accepted on the Hub first."""


class HubBusyError(HubError):
    """The Hub answered 429 or 5xx, or not at all; worth another try."""


def nearest(word: str, choices: list[str]) -> str:
    """Return ` Did you mean X?`, or the choices where none is near."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(choices)[:40])}."
