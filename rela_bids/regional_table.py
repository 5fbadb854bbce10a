"""The table of regional SUVR of one PET: what `OUT` holds as ``_suvr.tsv``."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rela_bids.atlases import Atlas
from rela_bids.exceptions import BadDataError
from rela_bids.quantification import (
    COMPOSITE_MEANING,
    COMPOSITE_REGIONS,
    GLOBAL_COMPOSITE,
    composite_weights,
    on_scale,
    region_means,
    region_volumes,
)
from rela_bids.tracers import Conversion, Tracer
from rela_bids.volumes import Array

# A region of which the scanner saw less than this has no mean.
LEAST_SEEN = 0.5


@dataclass(frozen=True)
class RegionalRow:
    """One region, or a composite of them; the fields are the table's columns.

    Attributes
    ----------
    index : the atlas's label; None for a composite.
    volume_ml : in the T1w.
    mean : SUVR.
    std : of the samples' regional means, SUVR; None where there are none, or one.
    scale, scale_value : Centiloid or CenTauRz, of composites of tracers that have a conversion.
    """

    index: int | None
    region: str
    volume_ml: float
    mean: float | None
    std: float | None
    scale: str | None = None
    scale_value: float | None = None


COLUMNS = tuple(RegionalRow.__dataclass_fields__)


def measure_synthetic(
    suvr: Array,
    regions: NDArray[np.integer],
    voxel_ml: float,
    sample_means: Array,
    atlas: Atlas,
    tracer: Tracer,
) -> list[RegionalRow]:
    """Of the mean of the samples.

    Parameters
    ----------
    suvr, regions : (X, Y, Z) on the T1w grid.
    sample_means : (samples, regions), SUVR, in the order of the atlas's names; see
        `rela_bids.regions.mean_weights`.
    """
    indices = list(atlas.names)
    volumes = region_volumes(regions, indices, voxel_ml)
    means = region_means(suvr, regions, indices)
    several = sample_means if len(sample_means) > 1 else None
    return _rows(atlas, tracer, volumes, volumes, means, several)


def measure_pet(
    suvr: Array, regions: NDArray[np.integer], voxel_ml: float, atlas: Atlas, tracer: Tracer
) -> list[RegionalRow]:
    """Of a measured PET, which is exactly 0 outside its field of view.

    Voxels that it does not see count for nothing; a region of which it sees less than half has no
    mean.
    """
    indices = list(atlas.names)
    volumes = region_volumes(regions, indices, voxel_ml)
    in_view = np.where(suvr != 0, regions, 0)
    seen = region_volumes(in_view, indices, voxel_ml)
    means = region_means(suvr, in_view, indices)
    means = np.where(seen >= LEAST_SEEN * volumes, means, np.nan)
    return _rows(atlas, tracer, volumes, seen, means, None)


def _rows(
    atlas: Atlas,
    tracer: Tracer,
    volumes: Array,
    seen: Array,
    means: Array,
    sample_means: Array | None,
) -> list[RegionalRow]:
    stds = np.full(len(means), np.nan)
    if sample_means is not None:
        # Population standard deviation, as of the images.
        stds = np.where(np.isnan(means), np.nan, np.std(sample_means, axis=0))
    rows = [
        RegionalRow(index, name, float(volume), _number(mean), _number(std))
        for (index, name), volume, mean, std in zip(
            atlas.names.items(), volumes, means, stds, strict=True
        )
    ]
    if set(COMPOSITE_REGIONS) <= set(atlas.names.values()):
        rows.append(_composite(atlas, tracer, volumes, seen, means, sample_means))
    return rows


def _composite(
    atlas: Atlas,
    tracer: Tracer,
    volumes: Array,
    seen: Array,
    means: Array,
    sample_means: Array | None,
) -> RegionalRow:
    names = list(atlas.names.values())
    inside = np.isin(names, COMPOSITE_REGIONS)
    volume = float(volumes[inside].sum())
    seen = np.where(np.isnan(means), 0, seen)
    if volume == 0 or seen[inside].sum() < LEAST_SEEN * volume:
        return RegionalRow(None, GLOBAL_COMPOSITE, volume, None, None)
    weights = composite_weights(names, seen)
    mean = float(weights @ np.nan_to_num(means))
    std = None if sample_means is None else float(np.std(sample_means @ weights))
    conversion = tracer.conversion
    if conversion is None:
        return RegionalRow(None, GLOBAL_COMPOSITE, volume, mean, std)
    value = on_scale(mean, conversion)
    return RegionalRow(None, GLOBAL_COMPOSITE, volume, mean, std, conversion.scale, value)


def _number(value: float) -> float | None:
    return None if isnan(value) else float(value)


def tsv_of(rows: Iterable[Any], columns: Sequence[str] = COLUMNS) -> str:
    """Rows, dataclasses whose fields are `columns`, as tab-separated text; ``n/a`` for None."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(getattr(row, column)) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[RegionalRow]:
    """The inverse of `tsv_of` on a file.

    Raises
    ------
    BadDataError
        If it is not such a table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_row(values) for values in csv.DictReader(file, delimiter="\t")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadDataError(
            f"{path} is not a table of regional SUVR: run its session again"
        ) from error


def read_numbers(path: Path) -> dict[str, float]:
    """The one row of a table of numbers, by column."""
    with path.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file, delimiter="\t"))
    return {column: float(value) for column, value in row.items()}


def _row(values: Mapping[str, str]) -> RegionalRow:
    known = {column: None if values[column] == "n/a" else values[column] for column in COLUMNS}
    return RegionalRow(
        index=None if known["index"] is None else int(known["index"]),
        region=values["region"],
        volume_ml=float(values["volume_ml"]),
        scale=known["scale"],
        **{
            column: None if known[column] is None else float(known[column])
            for column in ("mean", "std", "scale_value")
        },
    )


def describe_columns(*, synthetic: bool, conversion: Conversion | None) -> dict[str, Any]:
    """BIDS' description of each column."""
    mean, std = "Mean over the region's voxels", "n/a: there is one measurement"
    if synthetic:
        std = (
            "Standard deviation (population) over the samples of each sample's mean in the region; "
            "how much samples differ, not how far they are from the truth; n/a of one sample"
        )
    else:
        mean += " in the PET's field of view; n/a where it sees less than half of the region"
    meaning = COMPOSITE_MEANING[0].upper() + COMPOSITE_MEANING[1:]
    columns: dict[str, Any] = {
        "index": {"Description": "Label of the region in the atlas; n/a of a composite"},
        "region": {
            "Description": "Name of the region in the atlas",
            "Levels": {GLOBAL_COMPOSITE: meaning},
        },
        "volume_ml": {"Description": "Volume of the region in the T1w", "Units": "mL"},
        "mean": {"Description": mean, "Units": "SUVR"},
        "std": {"Description": std, "Units": "SUVR"},
        "scale": {"Description": "Scale of scale_value; n/a but of composites"},
        "scale_value": {"Description": "The composite's mean on that scale"},
    }
    if conversion is not None:
        columns["scale_value"]["Units"] = f"{conversion.scale} (approximate)"
    return columns
