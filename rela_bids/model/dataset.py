"""Prepared examples on disk, and what a training step makes of them.

One example is one session on the model grid (RAS+), as uncompressed ``.npy`` files that are
memory-mapped, so that an epoch costs no decompression. Nothing here keeps random state: what is
drawn for the n-th example of a training run depends on (seed, n) alone, so that a resumed run and
a run on more processes see the same examples.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.model.presets import ModelConfig
from rela_bids.tracers import Tracer
from rela_bids.volumes import Array, minmax_to_unit, scale_mri, suvr_to_unit

# T1w is dropped this much more seldom than FLAIR, which is what people's data lack.
T1W_DROPOUT = 0.25

# Standard deviations of the augmentation, chosen to stay within what scanners differ by.
LOG_GAMMA, BIAS_FIELD, CONTRAST, BRIGHTNESS = 0.1, 0.05, 0.05, 0.05


@dataclass(frozen=True)
class Example:
    """One session on the model grid; arrays (X, Y, Z).

    Attributes
    ----------
    subject, session : labels without prefix.
    t1w, flair : bias-corrected, zero outside the brain, in the scanner's arbitrary units.
    mask : the brain.
    pets : SUVR by tracer label.
    """

    subject: str
    session: str | None
    t1w: Array
    flair: Array | None
    mask: NDArray[np.bool_]
    pets: Mapping[str, Array]

    @property
    def name(self) -> str:
        """As in BIDS file names: ``sub-01_ses-1``."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class Record:
    """What the manifest says of one prepared example."""

    name: str
    subject: str
    session: str | None
    shape: tuple[int, int, int]
    flair: bool
    tracers: tuple[str, ...]
    folder: Path

    def load(self, kind: str) -> NDArray[Any]:
        """``t1w``, ``flair``, ``mask`` or ``pet-<tracer label>``, memory-mapped."""
        path = self.folder / f"{kind}.npy"
        try:
            voxels: NDArray[Any] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise BadDataError(
                f"{path} cannot be read ({error}): remove {self.folder} and prepare it again"
            ) from error
        return voxels


def write_example(folder: Path, example: Example) -> Path:
    """Write one example into `folder`, whole or not at all; returns its own folder.

    Raises BadDataError where arrays disagree in shape, are not finite, or the mask is empty.
    """
    _check(example)
    arrays = {"t1w": example.t1w}
    arrays |= {f"pet-{label}": suvr for label, suvr in example.pets.items()}
    if example.flair is not None:
        arrays["flair"] = example.flair
    final = folder / example.name
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{example.name}.", dir=folder))
    try:
        np.save(partial / "mask.npy", np.asarray(example.mask, dtype=bool))
        for kind, array in arrays.items():
            np.save(partial / f"{kind}.npy", np.asarray(array, dtype=np.float32))
        record = Record(
            example.name,
            example.subject,
            example.session,
            tuple(example.mask.shape),
            example.flair is not None,
            tuple(sorted(example.pets)),
            final,
        )
        fields = {key: value for key, value in asdict(record).items() if key != "folder"}
        (partial / "example.json").write_text(json.dumps(fields))
        partial.chmod(0o755)
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _check(example: Example) -> None:
    arrays = {"T1w": example.t1w, "FLAIR": example.flair, **dict(example.pets)}
    if not np.any(example.mask):
        raise BadDataError(f"{example.name}: the brain mask is empty; check the brain extraction")
    for kind, array in arrays.items():
        if array is None:
            continue
        if array.shape != example.mask.shape:
            raise BadDataError(
                f"{example.name}: {kind} has shape {array.shape}, its mask {example.mask.shape}; "
                "both belong on the model grid"
            )
        if not np.isfinite(array).all():
            raise BadDataError(f"{example.name}: {kind} has voxels that are not finite; mend it")


def read_manifest(folder: Path) -> list[Record]:
    """The whole examples in `folder`, in the order of their names."""
    records = []
    for path in sorted(folder.glob("[!.]*/example.json")):
        fields = json.loads(path.read_text())
        fields["shape"], fields["tracers"] = tuple(fields["shape"]), tuple(fields["tracers"])
        records.append(Record(**fields, folder=path.parent))
    if not records:
        raise MissingInputError(f"{folder} holds no prepared example: prepare the sessions first")
    return records


class PreparedDataset:
    """Pairs of one session and one of its tracers, scaled for the network.

    Items are dicts of numpy arrays: ``pet`` (1, X, Y, Z) in [-1, 1]; ``mri`` (2, X, Y, Z), T1w
    and FLAIR, a missing one zero everywhere; ``mask`` (1, X, Y, Z) bool; ``tracer``, the class
    index, which is the tracer's place in `tracers`.

    Raises BadDataError where an example is not on the model grid.
    """

    def __init__(
        self, manifest: Sequence[Record], config: ModelConfig, tracers: Mapping[str, Tracer]
    ):
        self.config = config
        self.tracers = dict(tracers)
        self.labels = list(self.tracers)
        self.pairs = [
            (record, label)
            for record in manifest
            for label in self.labels
            if label in record.tracers
        ]
        for record, _ in self.pairs:
            if tuple(record.shape) != tuple(config.grid.shape):
                raise BadDataError(
                    f"{record.folder} has shape {record.shape}, the model's grid "
                    f"{config.grid.shape}: prepare it again for this grid"
                )

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def pairs_by_tracer(self) -> list[list[int]]:
        """Indices of pairs for each tracer that has any."""
        found = [[i for i, pair in enumerate(self.pairs) if pair[1] == t] for t in self.labels]
        return [indices for indices in found if indices]

    def balanced_index(self, seed: int, n: int) -> int:
        """The pair that is the n-th of a run: each tracer equally often, each person in turn."""
        tracers = self.pairs_by_tracer
        block, place = divmod(n, len(tracers))
        tracer = int(np.random.default_rng([seed, 0, block]).permutation(len(tracers))[place])
        indices = tracers[tracer]
        cycle, place = divmod(block, len(indices))
        order = np.random.default_rng([seed, 1, tracer, cycle]).permutation(len(indices))
        return indices[int(order[place])]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, None)

    def training_item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """As an item, with modalities dropped and volumes varied as the configuration says.

        The augmentation: a left-right flip of all arrays together; for each MRI a gamma, a smooth
        bias field, and a small error of the scaling.
        """
        return self._item(index, rng)

    def _item(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        varying = rng if self.config.augmentation else None
        record, label = self.pairs[index]
        mask = np.array(record.load("mask"))
        used = [kind in self.config.inputs and (kind == "t1w" or record.flair) for kind in KINDS]
        if rng is not None:
            used = drop_modality(used, self.config.modality_dropout, rng)
        mri = np.zeros((2, *mask.shape), dtype=np.float32)
        for channel, kind in enumerate(KINDS):
            if used[channel]:
                raw = np.asarray(record.load(kind), dtype=np.float32)
                mri[channel] = self._scaled_mri(raw, mask, varying)
        pet = self._scaled_pet(
            np.asarray(record.load(f"pet-{label}"), dtype=np.float32), mask, label
        )
        if varying is not None and varying.random() < 0.5:
            mri, pet, mask = mri[:, ::-1].copy(), pet[::-1].copy(), mask[::-1].copy()
        return {
            "pet": pet[None],
            "mri": mri,
            "mask": mask[None],
            "tracer": self.labels.index(label),
        }

    def _scaled_mri(
        self, raw: Array, mask: NDArray[np.bool_], rng: np.random.Generator | None
    ) -> Array:
        if rng is not None:
            raw = vary_intensity(raw, rng)
        scaled = scale_mri(raw, mask, self.config.intensity)
        if rng is not None and self.config.intensity == "suvr":
            scaled = scaled * np.float32(np.exp(rng.normal(0, CONTRAST)))
            scaled += mask * np.float32(rng.normal(0, BRIGHTNESS))
        return scaled

    def _scaled_pet(self, suvr: Array, mask: NDArray[np.bool_], label: str) -> Array:
        masked = np.where(mask, suvr, np.float32(0))
        if self.config.intensity == "minmax":
            return minmax_to_unit(masked)
        return np.clip(suvr_to_unit(masked, self.tracers[label].suvr_scale), -1.0, 1.0)

    def suvr(self, index: int) -> Array:
        """The measured PET of a pair, SUVR, (X, Y, Z), zero outside the brain."""
        record, label = self.pairs[index]
        return np.where(record.load("mask"), record.load(f"pet-{label}"), 0).astype(np.float32)

    def upper_bounds(self) -> dict[str, float]:
        """The SUVR that the network's upper bound, 1, stands for, by tracer.

        With ``minmax`` intensities, where that differs from image to image, its mean.
        """
        if self.config.intensity == "suvr":
            return {label: tracer.suvr_scale for label, tracer in self.tracers.items()}
        maxima: dict[str, list[float]] = {}
        for index, (_, label) in enumerate(self.pairs):
            maxima.setdefault(label, []).append(float(self.suvr(index).max()))
        return {label: float(np.mean(values)) for label, values in maxima.items()}

    def mean_pet(self) -> dict[str, Array]:
        """The mean PET of each tracer, SUVR, over the people whose brain a voxel belongs to."""
        total = {label: np.zeros(self.config.grid.shape, np.float64) for label in self.labels}
        count = {label: np.zeros(self.config.grid.shape, np.float64) for label in self.labels}
        for index, (record, label) in enumerate(self.pairs):
            total[label] += self.suvr(index)
            count[label] += record.load("mask")
        return {
            label: (total[label] / np.maximum(count[label], 1)).astype(np.float32)
            for label in self.labels
        }

    def mean_unit(self) -> Array:
        """`mean_pet` in the network's range, (tracers, 1, X, Y, Z), the brain's edge carried on."""
        bounds, volumes = self.upper_bounds(), []
        for label, suvr in self.mean_pet().items():
            if not suvr.any():
                volumes.append(suvr)
                continue
            nearest = ndimage.distance_transform_edt(
                suvr == 0, return_distances=False, return_indices=True
            )
            volumes.append(suvr_to_unit(suvr[tuple(nearest)], bounds[label]))
        return np.stack(volumes)[:, None].clip(-1.0, 1.0).astype(np.float32)


KINDS = ("t1w", "flair")


def drop_modality(
    present: Sequence[bool], probability: float, rng: np.random.Generator
) -> list[bool]:
    """Which of (T1w, FLAIR) stay: FLAIR goes with `probability`, T1w more seldom, never both."""
    draw = rng.random()
    if not all(present):
        return list(present)
    return [
        not probability <= draw < probability * (1 + T1W_DROPOUT),
        not draw < probability,
    ]


def vary_intensity(raw: Array, rng: np.random.Generator) -> Array:
    """Another scanner's contrast: a power of the signal, times a smooth positive field."""
    varied = np.maximum(raw, 0) ** np.float32(np.exp(rng.normal(0, LOG_GAMMA)))
    for axis, size in enumerate(raw.shape):
        x = np.linspace(-1, 1, size)
        slope, curve = rng.normal(0, BIAS_FIELD, 2)
        line = np.exp(slope * x + curve * x**2).astype(np.float32)
        varied *= np.expand_dims(line, tuple(a for a in range(3) if a != axis))
    return varied
