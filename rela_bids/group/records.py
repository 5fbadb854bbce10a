"""What the participant level left of each session and tracer: its small tables, and no image."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rela_bids.bids.metadata import read_json_object
from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.settings import Selection

METRICS = (
    "psnr_brain",
    "psnr_volume",
    "ssim_brain",
    "ssim_volume",
    "mae_brain",
    "mae_volume",
    "data_range",
)

# Columns of a scan's values.
VOLUME, MEAN, STD, MEASURED = range(4)

_NAME = re.compile(
    r"sub-(?P<subject>[^_]+)(?:_ses-(?P<session>[^_]+))?_trc-(?P<tracer>[^_]+)"
    r"(?:_seg-(?P<atlas>[^_]+)_desc-(?P<kind>synth|measured)_suvr"
    r"|_space-T1w_desc-(?P<agreement>agreement)_metrics)\.(?P<extension>tsv|json)"
)


@dataclass(frozen=True)
class Variant:
    """What synthetic PET was made and measured with; what differs in any of it is kept apart.

    Attributes
    ----------
    trained_on : the training data in words.
    simulated : whether the model learned from simulated PET.
    atlas : as in the ``seg-`` of file names, ``""`` without regions; `atlas_sha256` of its file.
    """

    model: str
    sha256: str
    trained_on: str
    simulated: bool
    n_samples: int
    sampling_steps: int
    atlas: str
    atlas_sha256: str

    @property
    def label(self) -> str:
        """The model's name and six digits of a hash over all attributes."""
        parts = (self.sha256, self.n_samples, self.sampling_steps, self.atlas, self.atlas_sha256)
        digest = sha256("\n".join(map(str, parts)).encode()).hexdigest()
        return f"{self.model}-{digest[:6]}"


@dataclass(frozen=True)
class ScanKey:
    """One person's session and tracer, measured with one atlas; labels have no prefix.

    `atlas` is ``""`` where no regions were measured.
    """

    subject: str
    session: str | None
    tracer: str
    atlas: str

    @property
    def participant_id(self) -> str:
        """As in participants.tsv."""
        return f"sub-{self.subject}"

    @property
    def session_id(self) -> str:
        """As in sessions.tsv, ``n/a`` where there is no session level."""
        return f"ses-{self.session}" if self.session else "n/a"

    @property
    def visit(self) -> tuple[str, str | None, str]:
        """Subject, session and tracer: what two models have in common."""
        return self.subject, self.session, self.tracer

    @property
    def label(self) -> str:
        """For messages."""
        session = f", {self.session_id}" if self.session else ""
        return f"{self.participant_id}{session}, {self.tracer}"


@dataclass(frozen=True)
class ScanFiles:
    """The files of a scan by kind: ``synth.tsv``, ``synth.json``, ``measured.tsv`` and so on.

    `state` has size and time of change of each, by which it is known again.
    """

    key: ScanKey
    paths: Mapping[str, str]
    state: tuple[tuple[str, int, int], ...]

    def path(self, kind: str) -> Path:
        """The file of a kind that is there."""
        return Path(self.paths[kind])


@dataclass(frozen=True)
class Layout:
    """The regions of an atlas, in the order of the tables: names, and indices as text."""

    regions: tuple[str, ...]
    indices: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """The numbers of one synthetic PET and, where there is one, of the measured PET.

    Attributes
    ----------
    values : (regions, 4): volume in ml; SUVR mean, its standard deviation over samples, and the
        mean of the measured PET. NaN is not known.
    scale : Centiloid or CenTauRz, ``""`` where there is none; `on_scale` are the composite's
        synthetic and measured values on it.
    agreement : by `METRICS`; None without a measured PET.
    """

    key: ScanKey
    variant: Variant
    tracer_name: str
    reference_region: str
    layout: Layout
    values: NDArray[np.float64]
    scale: str
    on_scale: tuple[float, float]
    agreement: Mapping[str, float] | None

    @property
    def has_measured(self) -> bool:
        """Whether there is a measured PET."""
        return self.agreement is not None or bool(np.isfinite(self.values[:, MEASURED]).any())


def find_scans(root: Path, selection: Selection) -> list[ScanFiles]:
    """The scans with a table of synthetic SUVR or of agreement, sorted; `selection`'s labels apply.

    Raises
    ------
    MissingInputError
        If `root` cannot be listed.
    """
    found: dict[ScanKey, dict[str, os.DirEntry[str]]] = defaultdict(dict)
    shared: dict[tuple[str, str | None, str], dict[str, os.DirEntry[str]]] = defaultdict(dict)
    for entry in _pet_entries(root, selection):
        match = _NAME.fullmatch(entry.name)
        if match is None or (selection.tracers and match["tracer"] not in selection.tracers):
            continue
        visit = match["subject"], match["session"], match["tracer"]
        if match["agreement"]:
            shared[visit][f"agreement.{match['extension']}"] = entry
        else:
            found[ScanKey(*visit, match["atlas"])][f"{match['kind']}.{match['extension']}"] = entry
    without_regions = shared.keys() - {key.visit for key, e in found.items() if "synth.tsv" in e}
    found |= {ScanKey(*visit, ""): {} for visit in without_regions}
    return [
        _scan_files(key, entries | shared[key.visit])
        for key, entries in sorted(
            found.items(), key=lambda item: tuple(part or "" for part in vars(item[0]).values())
        )
        if "synth.tsv" in entries or not key.atlas
    ]


def _scan_files(key: ScanKey, entries: Mapping[str, os.DirEntry[str]]) -> ScanFiles:
    kinds = sorted(entries)
    stats = [entries[kind].stat() for kind in kinds]
    state = tuple((k, s.st_size, s.st_mtime_ns) for k, s in zip(kinds, stats, strict=True))
    return ScanFiles(key, {kind: entries[kind].path for kind in kinds}, state)


def _pet_entries(root: Path, selection: Selection) -> Iterator[os.DirEntry[str]]:
    """Every file of the ``pet`` folders; `os.scandir` since there may be a million."""
    for person in _folders(root, "sub-", selection.participants):
        parents = [found.path for found in _folders(person.path, "ses-", selection.sessions)]
        # A selection of sessions leaves out who has no session level, as the query does.
        for parent in parents if selection.sessions else [person.path, *parents]:
            with suppress(FileNotFoundError, NotADirectoryError):
                yield from os.scandir(f"{parent}/pet")


def _folders(root: Path | str, prefix: str, labels: Sequence[str]) -> list[os.DirEntry[str]]:
    try:
        entries = [entry for entry in os.scandir(root) if entry.name.startswith(prefix)]
    except OSError as error:
        raise MissingInputError(
            f"{root} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    wanted = {f"{prefix}{label}" for label in labels}
    return [e for e in entries if e.is_dir() and (not wanted or e.name in wanted)]


def read_scan(files: ScanFiles) -> Scan:
    """Read the tables of a scan.

    Raises
    ------
    BadDataError, MissingInputError
        If a table or a sidecar is not there or lacks something.
    """
    if files.key.atlas:
        return _with_regions(files)
    nothing = np.empty((0, 4))
    return _scan(files, _sidecar(files, "agreement"), _layout((), ()), nothing)


def _with_regions(files: ScanFiles) -> Scan:
    path = files.path("synth.tsv")
    table = read_table(path, ("index", "region", "volume_ml", "mean", "std"))
    sidecar = _sidecar(files, "synth")
    layout = _layout(tuple(table["region"]), tuple(table["index"]))
    columns = [numbers(table, name, path) for name in ("volume_ml", "mean", "std")]
    scale, synthetic = _on_scale(table, path)
    measured, measured_on_scale = np.full(len(layout.regions), np.nan), math.nan
    if "measured.tsv" in files.paths:
        measured, measured_on_scale = _measured(files, layout, sidecar)
    values = np.stack([*columns, measured], axis=1)
    return _scan(files, sidecar, layout, values, scale, (synthetic, measured_on_scale))


def _scan(
    files: ScanFiles,
    sidecar: Mapping[str, Any],
    layout: Layout,
    values: NDArray[np.float64],
    scale: str = "",
    on_scale: tuple[float, float] = (math.nan, math.nan),
) -> Scan:
    return Scan(
        key=files.key,
        variant=_variant(sidecar, files),
        tracer_name=str(sidecar.get("TracerName") or files.key.tracer),
        reference_region=str(sidecar.get("ReferenceRegion") or "not stated"),
        layout=layout,
        values=values,
        scale=scale,
        on_scale=on_scale,
        agreement=_agreement(files),
    )


@lru_cache(64)
def _layout(regions: tuple[str, ...], indices: tuple[str, ...]) -> Layout:
    """One object for all scans with the same regions."""
    return Layout(regions, indices)


def _measured(
    files: ScanFiles, layout: Layout, synthetic: Mapping[str, Any]
) -> tuple[NDArray[np.float64], float]:
    """The measured means in the order of `layout`, and the composite's value on its scale."""
    path = files.path("measured.tsv")
    region = _sidecar(files, "measured").get("ReferenceRegion")
    if region != synthetic.get("ReferenceRegion"):
        raise BadDataError(
            f"{path}: its reference region ({region}) is not that of the synthetic PET "
            f"({synthetic.get('ReferenceRegion')}): run the participant level again for it"
        )
    table = read_table(path, ("region", "mean"))
    means = dict(zip(table["region"], numbers(table, "mean", path), strict=True))
    values = np.array([means.get(name, math.nan) for name in layout.regions])
    return values, _on_scale(table, path)[1]


def _on_scale(table: Mapping[str, Sequence[str]], path: Path) -> tuple[str, float]:
    for row, scale in enumerate(table.get("scale", ())):
        if scale not in ("n/a", ""):
            return scale, float(numbers(table, "scale_value", path)[row])
    return "", math.nan


def _agreement(files: ScanFiles) -> dict[str, float] | None:
    if "agreement.tsv" not in files.paths:
        return None
    path = files.path("agreement.tsv")
    table = read_table(path, METRICS)
    return {name: float(numbers(table, name, path)[0]) for name in METRICS}


def _variant(sidecar: Mapping[str, Any], files: ScanFiles) -> Variant:
    kind = "synth.json" if files.key.atlas else "agreement.json"
    model = sidecar.get("Model")
    if not isinstance(model, dict) or not {"Name", "SHA256"} <= set(model):
        raise BadDataError(
            f"{files.paths[kind]} does not name its model (Model: Name, SHA256): run the "
            "participant level again for it"
        )
    return Variant(
        model=str(model["Name"]),
        sha256=str(model["SHA256"]),
        trained_on=str(model.get("TrainedOn") or "data that its sidecar does not name"),
        simulated=bool(model.get("TrainedOnSimulatedPET")),
        n_samples=int(sidecar.get("Samples") or 0),
        sampling_steps=int(sidecar.get("SamplingSteps") or 0),
        atlas=files.key.atlas,
        atlas_sha256=str(sidecar.get("AtlasSHA256") or ""),
    )


def _sidecar(files: ScanFiles, kind: str) -> dict[str, Any]:
    if f"{kind}.json" not in files.paths:
        raise MissingInputError(
            f"{files.paths[f'{kind}.tsv']} has no JSON beside it: run the participant level again "
            "for it"
        )
    return read_json_object(files.path(f"{kind}.json"))


def read_table(path: Path, needed: Sequence[str]) -> dict[str, list[str]]:
    """The columns of a table with tabs, as text.

    Raises
    ------
    MissingInputError
        If the file cannot be read.
    BadDataError
        If it lacks rows or one of the columns `needed`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadDataError(f"{path} is not in UTF-8: save it as UTF-8") from error
    except OSError as error:
        raise MissingInputError(f"{path} cannot be read ({error.strerror})") from error
    rows = [line.split("\t") for line in lines if line]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise BadDataError(f"{path} is cut off or no table with tabs: make it again")
    table = dict(zip(rows[0], map(list, zip(*rows[1:], strict=True)), strict=True))
    missing = [name for name in needed if name not in table]
    if missing:
        raise BadDataError(f"{path} has no column {missing[0]}: make it again")
    return table


def numbers(table: Mapping[str, Sequence[str]], column: str, path: Path) -> NDArray[np.float64]:
    """A column as numbers, NaN for ``n/a``."""
    try:
        return np.array([math.nan if text == "n/a" else float(text) for text in table[column]])
    except (KeyError, ValueError) as error:
        raise BadDataError(f"{path}: {column} is not of numbers ({error}): mend it") from error
