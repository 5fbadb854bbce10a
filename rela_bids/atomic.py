"""Files that are either whole or not there, also when a run is killed or two runs write at once."""

import errno
import filecmp
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from typing import Any
from uuid import uuid4

import psutil

from rela_bids.exceptions import CannotWriteError

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


# Such as .0a1b2c3d-4711-0123456789ab.image.nii.gz: the machine and process that write it.
_TEMPORARY = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{12}\..+")

# No file takes longer to write than this, seconds.
STALE_AFTER = 24 * 3600.0


def remove_stale(folder: Path, *, recursive: bool = True) -> list[Path]:
    """Remove what killed writers have left in `folder`; returns what was removed.

    A temporary file is stale if the process that wrote it ran on this machine and is gone, or if
    it has not been written to for a day: others may be at work on a shared file system.
    """
    removed = []
    for path in folder.rglob(".*") if recursive else folder.glob(".*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None:
            continue
        with suppress(OSError):
            mine = match["machine"] == _machine()
            old = time.time() - path.stat().st_mtime > STALE_AFTER
            if old or (mine and not psutil.pid_exists(int(match["pid"]))):
                path.unlink()
                removed.append(path)
    return removed


@cache
def _machine() -> str:
    """Eight digits that differ between machines, and between containers with their own pids."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        marks.append(str(Path("/proc/self/ns/pid").readlink()))
    return sha256(" ".join(marks).encode()).hexdigest()[:8]


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` when the block ends well.

    The temporary name lies in the same folder, starts with a dot, differs between processes and
    has the extension of `path`, which is what nibabel goes by. When the block fails, the temporary
    file is removed and what was at `path` stays.

    Raises
    ------
    CannotWriteError
        If the folder cannot be made or written to, or the disk is full.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with write_atomically(Path(folder, "new", "image.nii.gz")) as temporary:
    ...         _ = temporary.write_text("voxels")
    ...     [file.name for file in Path(folder, "new").iterdir()]
    ['image.nii.gz']
    """
    temporary = path.parent / f".{_machine()}-{os.getpid()}-{uuid4().hex[:12]}.{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace reads as a string method
    except OSError as error:
        if error.errno in _CANNOT_WRITE or isinstance(error, FileExistsError | NotADirectoryError):
            raise CannotWriteError(
                f"Cannot write {path}: {error.strerror}. Free space or mend the folder's "
                "permissions, or choose another folder"
            ) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str, *, describes: Path | None = None) -> Path:
    """Write UTF-8 text atomically, unless `path` holds that text already.

    The file that the former text was about, `describes`, is removed first, so that at no moment a
    file stands beside another's description.
    """
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return path
    if describes is not None:
        with suppress(OSError):
            describes.unlink()
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Mapping[str, Any], *, describes: Path | None = None) -> Path:
    """Write a JSON object atomically, indented, its keys in the order given; see `write_text`."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return write_text(path, text, describes=describes)


def copy(source: Path, path: Path) -> Path:
    """Copy a file's content atomically, unless `path` has it already; links are followed."""
    with suppress(OSError):
        if filecmp.cmp(source, path, shallow=False):
            return path
    with write_atomically(path) as temporary:
        copyfile(source, temporary)
    return path
