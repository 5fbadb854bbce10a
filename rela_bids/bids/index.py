"""The files and entities of a dataset. The only user of pybids.

pybids lists the files, limited to the people asked for, since indexing everything is slow. The
entities are matched again on the path within the dataset, because pybids matches its patterns on
the absolute path and takes a ``sub-`` or ``ses-`` above the dataset for the person or the session.
"""

import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from rela_bids.bids.picking import ImageFile
from rela_bids.exceptions import (
    BadDataError,
    CannotWriteError,
    MissingInputError,
    UsageError,
)

DATABASE_FILE = "layout_index.sqlite"


def list_images(
    bids_dir: Path, participants: Collection[str], database_dir: Path | None, *, pet: bool
) -> list[ImageFile]:
    """The NIfTI files of some people in ``anat/`` and ``pet/``, links to nothing included."""
    datatypes = ("anat", "pet") if pet else ("anat",)
    wanted = _Wanted(bids_dir, datatypes, participants)
    if database_dir is None:
        names = _index(bids_dir, wanted)
    else:
        names = [
            name for name in _read_database(bids_dir, database_dir) if wanted.includes(f"/{name}")
        ]
        # A database made before someone was added still serves for the others.
        known = {name.split("/")[0].removeprefix("sub-") for name in names}
        names += _index(bids_dir, _Wanted(bids_dir, datatypes, set(participants) - known))
    return [ImageFile(bids_dir / name, _entities(name)) for name in sorted(names)]


@dataclass(frozen=True)
class _Wanted:
    """Stands in for the regular expression by which pybids leaves out files and folders.

    Ten thousand labels in one expression would take minutes.
    """

    bids_dir: Path
    datatypes: tuple[str, ...] = ("anat", "pet")
    participants: Collection[str] | None = None

    def includes(self, path: str) -> bool:
        """Whether ``/sub-01/...`` is an image that is wanted or a folder that may hold one."""
        folders = path.strip("/").split("/")
        subject = folders.pop(0)
        if not subject.startswith("sub-"):
            return False
        if self.participants is not None and subject[4:] not in self.participants:
            return False
        if folders and folders[0].startswith("ses-"):
            folders.pop(0)
        if not folders:
            return True
        return folders[0] in self.datatypes and (
            len(folders) == 1 or (len(folders) == 2 and folders[1].endswith((".nii", ".nii.gz")))
        )

    def search(self, path: str) -> bool:
        """Whether pybids, which fails on a folder that may not be read, is to leave a path out."""
        if not self.includes(path):
            return True
        is_image = path.endswith((".nii", ".nii.gz"))
        return not is_image and not _may_list(self.bids_dir / path.strip("/"))


def _may_list(folder: Path) -> bool:
    try:
        os.scandir(folder).close()
    except OSError:
        return False
    return True


def _index(bids_dir: Path, wanted: _Wanted, database_dir: Path | None = None) -> list[str]:
    """Paths within the dataset, by pybids."""
    if wanted.participants is not None and not wanted.participants:
        return []
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[wanted])
    try:
        layout = BIDSLayout(bids_dir, validate=False, indexer=indexer, database_path=database_dir)
    except OSError as error:
        # pybids looks at the target of every link before it asks whether to leave it out.
        raise MissingInputError(
            f"{error.filename or bids_dir} cannot be read ({error.strerror}): mend its permissions"
        ) from error
    return _relative_names(layout, bids_dir)


def _relative_names(layout: Any, bids_dir: Path) -> list[str]:
    prefix = f"{bids_dir.absolute().as_posix()}/"
    return [path.removeprefix(prefix) for path in map(str, layout.get_files(scope="self"))]


def _read_database(bids_dir: Path, database_dir: Path) -> list[str]:
    """Paths within the dataset from a database, which is made when it is not there."""
    if not (database_dir / DATABASE_FILE).exists():
        return _make_database(bids_dir, database_dir)
    from bids.layout import BIDSLayout
    from bids.layout.db import ConnectionManager
    from sqlalchemy.exc import SQLAlchemyError

    remedy = "delete it, and it is made again, or give another --bids-database-dir"
    try:
        root = ConnectionManager(database_dir).layout_info.root
        if Path(root).resolve() != bids_dir.resolve():
            raise UsageError(f"{database_dir} is the database of {root}: {remedy}")
        return _relative_names(BIDSLayout(database_path=database_dir, validate=False), Path(root))
    except (SQLAlchemyError, AttributeError) as error:
        raise BadDataError(f"{database_dir} is not a pybids database: {remedy}") from error


def _make_database(bids_dir: Path, database_dir: Path) -> list[str]:
    """Index the whole dataset; several runs may do so at once, and the last one stays."""
    temporary = database_dir / f".{uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        names = _index(bids_dir, _Wanted(bids_dir), temporary)
        (temporary / DATABASE_FILE).replace(database_dir / DATABASE_FILE)
    except OSError as error:
        raise CannotWriteError(
            f"--bids-database-dir {database_dir} cannot be written ({error.strerror}): give another"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names


@cache
def entity_patterns() -> dict[str, re.Pattern[str]]:
    """pybids' entities and the patterns by which they are found in a path."""
    from bids.layout.models import Config

    entities = Config.load("bids").entities
    return {name: entity.regex for name, entity in entities.items() if entity.regex is not None}


def _entities(name: str) -> dict[str, str]:
    """Entities of a path within the dataset.

    pybids stops a label at a dash; the subject and session are those of the folders as they are.
    """
    found = {entity: regex.search(f"/{name}") for entity, regex in entity_patterns().items()}
    entities = {entity: match.group(1) for entity, match in found.items() if match}
    entities["subject"] = name.split("/")[0].removeprefix("sub-")
    session = re.match(r"sub-[^/]+/ses-([^/]+)/", name)
    entities.pop("session", None)
    return entities | ({"session": session.group(1)} if session else {})
