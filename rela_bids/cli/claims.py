"""Which run works on a session: two must not share its folder of intermediate files at one time."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path

# What file systems say that know no locks; there, only one run may use a work folder.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Claims:
    """Claims of this process on sessions, seen by all that use the same work folder.

    A claim is a POSIX lock on one byte of the file `NAME` in the work folder, so that it ends with
    the process, however that ends, also on another node of a cluster.
    """

    NAME = "claims"

    def __init__(self, work_dir: Path) -> None:
        self._file = os.open(work_dir / self.NAME, os.O_RDWR | os.O_CREAT, 0o666)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def take(self, name: str, *, wait: bool = False) -> bool:
        """Claim a session; returns whether it is this process's now."""
        how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.lockf(self._file, how, 1, _place(name))
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def give_back(self, name: str) -> None:
        """Let others work on a session; nothing happens if it was not claimed."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(name))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


def _place(name: str) -> int:
    """Offset of a session's byte; two sessions with one offset would only wait for each other."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:5], "big")
