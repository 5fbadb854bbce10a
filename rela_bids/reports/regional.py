"""The regions that a page shows, out of the whole table."""

from collections.abc import Iterable, Sequence

from rela_bids.quantification import GLOBAL_COMPOSITE
from rela_bids.regional_table import RegionalRow
from rela_bids.reports.summary import RegionRecord

# In the names of FreeSurfer; from the front to the back, then below the cortex.
MAIN = (
    "medialorbitofrontal",
    "superiorfrontal",
    "rostralmiddlefrontal",
    "rostralanteriorcingulate",
    "posteriorcingulate",
    "precuneus",
    "inferiorparietal",
    "precentral",
    "middletemporal",
    "inferiortemporal",
    "fusiform",
    "parahippocampal",
    "entorhinal",
    "lateraloccipital",
    "insula",
    "Hippocampus",
    "Amygdala",
    "Thalamus-Proper",
    "Caudate",
    "Putamen",
    "Cerebellum-Cortex",
)
LEFT, RIGHT = ("ctx-lh-", "Left-"), ("ctx-rh-", "Right-")

# Of an atlas that has none of these: so many, the largest.
LARGEST = 24

READABLE = {
    "medialorbitofrontal": "medial orbitofrontal",
    "superiorfrontal": "superior frontal",
    "rostralmiddlefrontal": "rostral middle frontal",
    "rostralanteriorcingulate": "rostral anterior cingulate",
    "posteriorcingulate": "posterior cingulate",
    "inferiorparietal": "inferior parietal",
    "middletemporal": "middle temporal",
    "inferiortemporal": "inferior temporal",
    "lateraloccipital": "lateral occipital",
    "Thalamus-Proper": "thalamus",
    "Cerebellum-Cortex": "cerebellar cortex",
}


def split_side(region: str) -> tuple[str, str]:
    """Side and name of a region; the side is empty where the name has none.

    >>> split_side("ctx-lh-precuneus"), split_side("Right-Putamen"), split_side("Brain-Stem")
    (('left', 'precuneus'), ('right', 'Putamen'), ('', 'Brain-Stem'))
    """
    for side, prefixes in (("left", LEFT), ("right", RIGHT)):
        for prefix in prefixes:
            if region.startswith(prefix):
                return side, region.removeprefix(prefix)
    return "", region


def main_regions(
    synthetic: Iterable[RegionalRow], measured: Iterable[RegionalRow] = ()
) -> list[RegionRecord]:
    """The main regions of both sides, one after the other; else the largest of the atlas."""
    known = {row.region: row for row in synthetic if row.region != GLOBAL_COMPOSITE}
    found = {row.region: row.mean for row in measured}
    names = [
        prefix + name
        for name in MAIN
        for prefixes in (LEFT, RIGHT)
        for prefix in prefixes
        if prefix + name in known
    ]
    names = names or sorted(known, key=lambda name: -known[name].volume_ml)[:LARGEST]
    return [_record(known[name], found.get(name)) for name in names]


def _record(row: RegionalRow, measured: float | None) -> RegionRecord:
    side, name = split_side(row.region)
    readable = READABLE.get(name, name if not side else name.lower())
    return RegionRecord(readable, side, row.volume_ml, row.mean, row.std, measured)


def composite_of(rows: Sequence[RegionalRow]) -> RegionalRow | None:
    """The row of the global composite, if the table has one with a mean."""
    found = [row for row in rows if row.region == GLOBAL_COMPOSITE and row.mean is not None]
    return found[0] if found else None
