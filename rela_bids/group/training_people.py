"""Who a model was trained on, where the model lies in an OUT: such people cannot judge it."""

from collections.abc import Iterable
from pathlib import Path

from rela_bids.exceptions import RelaBidsError
from rela_bids.model.description import sha256
from rela_bids.splits import read_split
from rela_bids.training import MODEL_FILE


def training_people(roots: Iterable[Path]) -> dict[str, frozenset[str]]:
    """Participants of the training part of each model in ``models/`` of `roots`, by its SHA-256.

    A model whose split is not there or cannot be read is passed over.
    """
    found = {}
    for root in roots:
        for model in sorted(root.glob(f"models/*/{MODEL_FILE}")):
            try:
                split = read_split(model.with_name("splits.tsv"))
                found[sha256(model)] = frozenset(
                    f"sub-{subject}" for subject, part in split.items() if part == "train"
                )
            except (RelaBidsError, OSError):
                continue
    return found
