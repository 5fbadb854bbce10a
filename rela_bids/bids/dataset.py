"""The files that make OUT a BIDS derivative dataset; the same whichever run writes them."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rela_bids import __version__
from rela_bids.atomic import write_json, write_text
from rela_bids.bids.citation import Methods
from rela_bids.bids.derivatives import GENERATOR, LINK_TO_RAW
from rela_bids.bids.metadata import read_json_object
from rela_bids.bids.validation import read_description
from rela_bids.exceptions import RelaBidsError, UsageError

BIDS_VERSION = "1.10.0"

# What the specification has no name for yet. A slash after a folder would silence nothing.
IGNORED = ("*.html", "group_*", "figures", "log", "models", "*_xfm.*", "*_suvr.*", "*_metrics.*")

README = f"""# Synthetic PET made with {GENERATOR}

The PET images here (`desc-synth`) were **predicted from MRI by a model; none was measured**. Each
is the mean of several samples of the model, in SUVR, and comes with their standard deviation
(`desc-synthstd`). The JSON file beside an image names the model, what it was trained on, and the
settings. `logs/CITATION.md` has the methods text, `sub-<label>.html` the report on each person.
"""


def ensure_dataset(
    output_dir: Path,
    bids_dir: Path,
    *,
    methods: Methods,
    work_dir: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Write what a derivative dataset must have; many runs may do so at once.

    Parameters
    ----------
    output_dir : the dataset, made if it is not there.
    bids_dir : the dataset that the inputs are from.
    methods : for ``logs/CITATION.md`` and ``.bib``.
    work_dir : intermediate files; named in ``.bidsignore`` when it lies in `output_dir`.
    environment : where Apptainer and Singularity name the container.

    Raises
    ------
    UsageError
        If `output_dir` is a dataset that rela_bids did not make.
    CannotWriteError
        If it cannot be written.
    """
    path = output_dir / "dataset_description.json"
    if path.exists():
        _check_ours(path)
    write_json(path, describe_dataset(output_dir, bids_dir, environment))
    ignored = list(IGNORED)
    if work_dir is not None and work_dir.is_relative_to(output_dir):
        ignored.append(work_dir.relative_to(output_dir).parts[0])
    _add_lines(output_dir / ".bidsignore", ignored)
    if not (output_dir / "README.md").exists():
        write_text(output_dir / "README.md", README)
    write_text(output_dir / "logs" / "CITATION.md", methods.markdown)
    write_text(output_dir / "logs" / "CITATION.bib", methods.bibtex)


def describe_dataset(
    output_dir: Path, bids_dir: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Content of ``dataset_description.json``."""
    source = read_description(bids_dir, validate=False)
    # Relative where both move together, so that bids: URIs hold after a move.
    link = (
        os.path.relpath(bids_dir, output_dir)
        if output_dir.is_relative_to(bids_dir)
        else bids_dir.as_uri()
    )
    doi = source.get("DatasetDOI")
    return {
        "Name": f"Synthetic PET of {source.get('Name') or bids_dir.name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [_generated_by(environment)],
        "SourceDatasets": [{"DOI": doi} if isinstance(doi, str) and doi else {"URL": link}],
        "DatasetLinks": {LINK_TO_RAW: link},
    }


def _generated_by(environment: Mapping[str, str]) -> dict[str, Any]:
    generator: dict[str, Any] = {"Name": GENERATOR, "Version": __version__}
    for variable, kind in (
        ("APPTAINER_CONTAINER", "apptainer"),
        ("SINGULARITY_CONTAINER", "singularity"),
    ):
        if environment.get(variable):
            container = {"Type": kind, "Tag": Path(environment[variable]).name}
            return generator | {"Container": container}
    return generator


def _check_ours(path: Path) -> None:
    remedy = "give another output_dir"
    try:
        description = read_json_object(path)
    except RelaBidsError as error:
        raise UsageError(f"output_dir: {error}, or {remedy}") from error
    generators = description.get("GeneratedBy")
    names = [item.get("Name") for item in generators or [] if isinstance(item, dict)]
    if GENERATOR not in names:
        raise UsageError(
            f"output_dir {path.parent} is a dataset that {GENERATOR} did not make: {remedy}"
        )


def _add_lines(path: Path, lines: Iterable[str]) -> None:
    there: list[str] = []
    with suppress(FileNotFoundError):
        there = path.read_text(encoding="utf-8").splitlines()
    write_text(path, "\n".join(dict.fromkeys([*there, *lines])) + "\n")
