"""Ages from participants.tsv."""

import csv
import re
from pathlib import Path


def read_ages(bids_dir: Path) -> dict[str, float] | None:
    """Years by participant_id; None without participants.tsv or a column ``age`` with numbers.

    ``89+``, as it is written to keep the oldest from being known, counts as 89.
    """
    try:
        with (bids_dir / "participants.tsv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    ages = {}
    for row in rows:
        values = {(name or "").lower(): value for name, value in row.items()}
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\+?", str(values.get("age") or "").strip())
        if match:
            ages[str(values.get("participant_id"))] = float(match[1])
    return ages or None
