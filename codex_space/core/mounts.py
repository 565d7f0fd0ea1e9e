"""What kind of file system a folder lies on: a database needs locks, which network storage and mounted buckets do not keep.

The container's own root counts as its disk whatever it is made of. Not covered: a network disk that shows as a block
device, which keeps locks as a disk does.
"""

import re
from pathlib import Path

from codex_space.core.errors import WorkspaceError

MOUNTS = Path("/proc/self/mounts")
_NETWORK = re.compile(r"nfs\d?|cifs|smb\w*|ceph|glusterfs|lustre|beegfs|afs|davfs|fuse(\..+)?")
_LAYERS = frozenset({"fuse.fuse-overlayfs"})
"""What a container without root rights has instead of overlayfs: a local disk."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


def require_disk(folder: Path) -> None:
    """Pass a folder on a disk of this machine.

    Raises:
        WorkspaceError: It lies on network storage or a mounted bucket.
    """
    kind, mount = _find(folder)
    if mount != "/" and kind not in _LAYERS and _NETWORK.fullmatch(kind):
        raise WorkspaceError(
            f"it lies on {mount}, which is network storage ({kind}): a database there loses data",
            where=str(folder),
            cure=f"Set CODEX_SPACE_HOME to a folder on this machine's own disk, and CODEX_SPACE_COPIES={mount} for copies there.",
        )


def _find(folder: Path) -> tuple[str, str]:
    """Return (type, mount point) of the file system that a folder is on; of two at one place the later hides the other."""
    at = folder.resolve()
    found = ("", "/")
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux: nothing is known, and nothing is refused
        return found
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[1])
        if at.is_relative_to(mount) and len(Path(mount).parts) >= len(Path(found[1]).parts):
            found = (fields[2], mount)
    return found
