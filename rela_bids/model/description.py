"""What a model's file says of it, read without its weights and without torch."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.model.presets import PRESETS, ModelConfig, from_dict
from rela_bids.tracers import TRACERS, Conversion, Tracer

BUNDLED = Path(__file__).resolve().parents[1] / "data"
FORMAT = "rela_bids model, version 1"
METADATA_KEY = "rela_bids"

# The order of the authors' class labels.
PUBLISHED_TRACERS = ("11CPBR28", "11CPIB", "18FAV1451")


@dataclass(frozen=True)
class Description:
    """A model but for its weights.

    Attributes
    ----------
    name : of the file or folder it came from.
    path : the file.
    config : all settings; ``sampling_steps`` and ``n_samples`` are the defaults for synthesis.
    tracers : by label, in the order of their class labels.
    provenance : what it was trained on and with, as far as the file says.
    sha256 : of the file.
    """

    name: str
    path: Path
    config: ModelConfig
    tracers: dict[str, Tracer]
    provenance: dict[str, Any]
    sha256: str

    def tracer_index(self, label: str) -> int:
        """The class label of a tracer.

        Raises
        ------
        UsageError
            If the model was not trained on that tracer.
        """
        labels = list(self.tracers)
        if label not in labels:
            raise UsageError(
                f"the model {self.name} does not know the tracer {label}: choose among "
                f"{', '.join(labels)}, or another model"
            )
        return labels.index(label)


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.safetensors"))


def describe_model(name_or_path: str | Path) -> Description:
    """What the file of a model says of it; see `rela_bids.model.checkpoint.load_model`.

    Raises
    ------
    MissingInputError
        If there is no such model.
    BadDataError
        If the file is damaged or is no model of ours.
    """
    path = _find(name_or_path)
    config, tracers, provenance = _published() if is_published(path) else _metadata_of(path)
    name = path.parent.name if path.name == "model.safetensors" else path.stem
    return Description(name, path, config, tracers, provenance, sha256(path))


def is_published(path: Path) -> bool:
    """The file is a checkpoint of the method's authors, who use torch's own format."""
    return path.suffix in {".pt", ".pth"}


Parts = tuple[ModelConfig, dict[str, Tracer], dict[str, Any]]


def _published() -> Parts:
    tracers = {label: TRACERS[label] for label in PUBLISHED_TRACERS}
    return PRESETS["paper"], tracers, {"origin": "checkpoint of RelA-Diffusion's authors"}


def _metadata_of(path: Path) -> Parts:
    try:
        with safe_open(path, framework="np") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY, "{}")
    except (SafetensorError, OSError) as error:
        raise BadDataError(
            f"{path} is not a whole safetensors file ({error}): get or train the model again"
        ) from error
    try:
        return _read_metadata(json.loads(metadata))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, BadDataError) as error:
        raise BadDataError(
            f"the metadata of {path} are not those of a model ({str(error)[:300]}): "
            "get or train the model again, or use another"
        ) from error


def _read_metadata(metadata: dict[str, Any]) -> Parts:
    if metadata.get("format") != FORMAT:
        raise BadDataError(f"format {metadata.get('format')!r}, not {FORMAT!r}")
    tracers = {tracer.label: tracer for tracer in map(_tracer, metadata["tracers"])}
    if not tracers or len(tracers) < len(metadata["tracers"]):
        raise BadDataError("it has no tracers, or one of them twice")
    return from_dict(metadata["config"]), tracers, dict(metadata["provenance"])


def _tracer(values: dict[str, Any]) -> Tracer:
    # It becomes part of the names of files.
    if not re.fullmatch("[a-zA-Z0-9]+", values["label"]):
        raise BadDataError(f"{values['label']!r} is no label of a tracer")
    conversion = values["conversion"] and Conversion(**values["conversion"])
    window = tuple(float(minutes) for minutes in values["frame_window"])
    return Tracer(**{**values, "conversion": conversion, "frame_window": window})


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    candidates = (path, path / "model.safetensors", BUNDLED / f"{name_or_path}.safetensors")
    for candidate in candidates:
        # os.path, since Path.is_file raises on a name that is too long or may not be looked at.
        if os.path.isfile(candidate):  # noqa: PTH113
            # Steps of a graph run in folders of their own.
            return candidate.absolute()
    raise MissingInputError(
        f"there is no model {name_or_path}: give a .safetensors or .pt file, a folder with "
        f"model.safetensors, or one of {', '.join(bundled_models()) or 'no bundled models'}"
    )


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
