"""Tell a Hub repository's name from a path or one of our own references, by its shape alone."""

import re

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".md", ".gz")


def looks_like_repo_id(text: str) -> bool:
    """Return whether this is a bare `owner/name`: no scheme, no leading dot or slash, no data file's ending."""
    return bool(_REPO_ID.fullmatch(text)) and not text.endswith(_FILE_ENDINGS)
