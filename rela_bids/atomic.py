"""Files that are either whole or not there, also when a run is killed or two runs write at once."""

import errno
import filecmp
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copyfile
from typing import Any
from uuid import uuid4

from rela_bids.exceptions import CannotWriteError

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


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
    temporary = path.parent / f".{uuid4().hex}.{path.name}"
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
