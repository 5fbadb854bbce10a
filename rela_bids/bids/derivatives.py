"""Where every output lies: the one table of derivative names.

>>> from rela_bids.bids.query import Session
>>> derivatives = Derivatives(Path("/out"))
>>> session = Session("01", "1")
>>> derivatives.path(session, SYNTH, tracer="18FAV45", space="T1w").name
'sub-01_ses-1_trc-18FAV45_space-T1w_desc-synth_pet.nii.gz'
>>> derivatives.path(session, BRAIN_MASK).as_posix()
'/out/sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz'
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rela_bids.bids.query import Session
from rela_bids.templates import TEMPLATE_SPACE

LINK_TO_RAW = "raw"

# As in ``GeneratedBy`` of dataset_description.json.
GENERATOR = "rela_bids"

# As in the BIDS schema; from, to and mode are of the (unmerged) transform files.
ENTITY_ORDER = ("trc", "from", "to", "mode", "space", "cohort", "seg", "res", "desc")


@dataclass(frozen=True)
class Output:
    """A kind of file in OUT: its folder and the fixed parts of its name."""

    datatype: str
    suffix: str
    extension: str = ".nii.gz"
    entities: Mapping[str, str] = field(default_factory=dict)

    def name(self, session: Session, *, extension: str | None = None, **entities: str) -> str:
        """File name; `entities` add to the fixed ones and override them."""
        parts = {**self.entities, **entities}
        ordered = [f"{key}-{parts[key]}" for key in ENTITY_ORDER if key in parts]
        stem = "_".join([session.prefix, *ordered, self.suffix])
        return stem + (self.extension if extension is None else extension)


def space_entities(space: str) -> dict[str, str]:
    """Entities of an output space, which is named as TemplateFlow's are.

    >>> space_entities("MNI152NLin6Asym:res-2")
    {'space': 'MNI152NLin6Asym', 'res': '2'}
    """
    name, *more = space.split(":")
    return {"space": name, **dict(entity.split("-", 1) for entity in more)}


def transform(moving: str, fixed: str) -> Output:
    """The transform that resamples images of space `moving` onto space `fixed`.

    >>> transform("T1w", "MNIPediatricAsym:cohort-2:res-1").entities["to"]
    'MNIPediatricAsym+2'
    """
    ends = {}
    for end, space in (("from", moving), ("to", fixed)):
        entities = space_entities(space)
        ends[end] = "+".join(entities[key] for key in ("space", "cohort") if key in entities)
    return Output("anat", "xfm", ".h5", entities=ends | {"mode": "image"})


T1W = Output("anat", "T1w", entities={"desc": "preproc"})
BRAIN_MASK = Output("anat", "mask", entities={"desc": "brain"})
FLAIR = Output("anat", "FLAIR", entities={"space": "T1w", "desc": "preproc"})
TO_TEMPLATE = transform("T1w", TEMPLATE_SPACE)
FROM_TEMPLATE = transform(TEMPLATE_SPACE, "T1w")
SYNTH = Output("pet", "pet", entities={"desc": "synth"})
SYNTH_STD = Output("pet", "pet", entities={"desc": "synthstd"})
MEASURED = Output("pet", "pet", entities={"space": "T1w", "desc": "measured"})
# Of these, `seg` is the atlas's label.
REGIONS = Output("anat", "dseg", entities={"desc": "regions"})
SYNTH_SUVR = Output("pet", "suvr", ".tsv", entities={"desc": "synth"})
MEASURED_SUVR = Output("pet", "suvr", ".tsv", entities={"desc": "measured"})
AGREEMENT = Output("pet", "metrics", ".tsv", entities={"space": "T1w", "desc": "agreement"})


@dataclass(frozen=True)
class Derivatives:
    """Paths within the dataset of outputs at `root`."""

    root: Path

    def path(
        self,
        session: Session,
        output: Output,
        *,
        tracer: str | None = None,
        space: str | None = None,
        atlas: str | None = None,
        extension: str | None = None,
    ) -> Path:
        """Path of an output; `extension=".json"` gives its sidecar."""
        given = {"trc": tracer, "seg": atlas}
        entities = {key: value for key, value in given.items() if value is not None}
        entities |= {} if space is None else space_entities(space)
        name = output.name(session, extension=extension, **entities)
        return self.root / session.folder / output.datatype / name

    def summary(self, session: Session) -> Path:
        """JSON of what was done in a session, from which a person's report is put together."""
        name = f"{session.prefix}_desc-summary.json"
        return self.root / f"sub-{session.subject}" / "figures" / name

    def summaries(self, subject: str) -> list[Path]:
        """The summaries that are there for a person, sorted."""
        figures = self.root / f"sub-{subject}" / "figures"
        return sorted(figures.glob(f"sub-{subject}_*desc-summary.json"))

    def record(self, session: Session) -> Path:
        """JSON of what a finished session was made of, see `rela_bids.bids.records`."""
        name = f"{session.prefix}_desc-finished.json"
        return self.root / f"sub-{session.subject}" / "log" / name

    def measured_results(self, session: Session, tracer: str) -> Path:
        """JSON of the pictures of a measured PET beside the synthetic one."""
        name = f"{session.prefix}_trc-{tracer}_desc-measured_results.json"
        return self.root / f"sub-{session.subject}" / "figures" / name

    def report(self, subject: str) -> Path:
        """A person's HTML report."""
        return self.root / f"sub-{subject}.html"

    def crash_folder(self, subject: str, run: str) -> Path:
        """Folder of a person's crash reports in one run."""
        return self.root / f"sub-{subject}" / "log" / run

    def settings(self, run: str) -> Path:
        """The settings of one run, as TOML."""
        return self.root / "logs" / f"{run}.toml"

    def resources(self, run: str) -> Path:
        """What each step of a run took, as a table."""
        return self.root / "logs" / f"{run}_resources.tsv"

    def uri(self, path: Path) -> str:
        """``bids::`` URI of a file in this dataset."""
        return f"bids::{path.relative_to(self.root).as_posix()}"


def raw_uri(path: Path, bids_dir: Path) -> str:
    """``bids:raw:`` URI of a file of the input dataset."""
    return f"bids:{LINK_TO_RAW}:{path.relative_to(bids_dir).as_posix()}"


def given_uri(path: Path, bids_dir: Path) -> str:
    """URI of a file of the input dataset or of another pipeline's."""
    return raw_uri(path, bids_dir) if path.is_relative_to(bids_dir) else path.as_uri()
