"""Models on disk: our safetensors files, and the ``.pt`` files of the method's authors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rela_bids.atomic import write_atomically
from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, ModelConfig, from_dict, to_dict
from rela_bids.tracers import TRACERS, Conversion, Tracer

BUNDLED = Path(__file__).resolve().parents[1] / "data"
FORMAT = "rela_bids model, version 1"
METADATA_KEY = "rela_bids"

# The order of the authors' class labels.
PUBLISHED_TRACERS = ("11CPBR28", "11CPIB", "18FAV1451")

# The authors train with MONAI 1.3 and the `generative` package beside it. Since that became part of
# MONAI two layers have other names; all else, and every shape, is the same.
RENAMED_SINCE_MONAI_1_3 = {
    ".to_out.0.": ".out_proj.",
    ".upsampler.conv.": ".upsampler.postconv.",
}


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes
    ----------
    name : of the file or folder it came from.
    path : the file.
    config : all settings; ``sampling_steps`` and ``n_samples`` are the defaults for synthesis.
    tracers : by label, in the order of their class labels.
    network : the denoiser in eval mode, see `rela_bids.model.networks.build_denoiser`.
    provenance : what it was trained on and with, as far as the file says.
    sha256 : of the file.
    """

    name: str
    path: Path
    config: ModelConfig
    tracers: dict[str, Tracer]
    network: nn.Module
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


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> Model:
    """A model, ready to sample from.

    Parameters
    ----------
    name_or_path : name of a bundled model; a ``.safetensors`` file; a folder that holds
        ``model.safetensors``, such as ``OUT/models/NAME``; or a ``.pt`` file of the authors, which
        runs with the preset ``paper``.
    device : where its network lives.

    Raises
    ------
    MissingInputError
        If there is no such model.
    BadDataError
        If the file is damaged or is no model of ours.
    """
    path = _find(name_or_path)
    read = _read_published if path.suffix in {".pt", ".pth"} else _read_safetensors
    config, tracers, provenance, weights = read(path)
    network = build_denoiser(config.network, len(tracers))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise BadDataError(
            f"the weights in {path} do not fit its network "
            f"({' '.join(str(error).split())[:200]}): get or train the model again"
        ) from error
    name = path.parent.name if path.name == "model.safetensors" else path.stem
    network = network.to(device).eval().requires_grad_(False)
    return Model(name, path, config, tracers, network, provenance, _sha256(path))


def save_model(
    path: Path,
    network: nn.Module,
    config: ModelConfig,
    tracers: Mapping[str, Tracer],
    provenance: Mapping[str, Any],
) -> str:
    """Write one safetensors file, whole or not at all; returns its sha256.

    The metadata holds all of `config`, the tracers in the order of their class labels, and
    `provenance`, which JSON must be able to hold: the file needs neither pickle nor the defaults
    of the version that reads it.
    """
    metadata = {
        "format": FORMAT,
        "config": to_dict(config),
        "tracers": [asdict(tracer) for tracer in tracers.values()],
        "provenance": dict(provenance),
    }
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    with write_atomically(path) as temporary:
        # One key, since safetensors writes several in no fixed order, and the hash would change.
        save_file(weights, temporary, {METADATA_KEY: json.dumps(metadata)})
    return _sha256(path)


def read_published(path: Path) -> dict[str, Any]:
    """An authors' checkpoint, ``{"model_state_dict", "epoch"}``, its weights named as in MONAI 1.6.

    Denoiser and discriminator alike; loaded without running pickled code.

    Raises
    ------
    BadDataError
        If the file is no such checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["model_state_dict"] = {
            _renamed(name): weight for name, weight in content["model_state_dict"].items()
        }
    except (RuntimeError, UnpicklingError, EOFError, OSError, KeyError, TypeError) as error:
        raise BadDataError(
            f"{path} is not a checkpoint of RelA-Diffusion's authors, a dictionary with "
            f"model_state_dict ({type(error).__name__}): get it again"
        ) from error
    return content


def _renamed(name: str) -> str:
    for old, new in RENAMED_SINCE_MONAI_1_3.items():
        name = name.replace(old, new)
    return name


Parts = tuple[ModelConfig, dict[str, Tracer], dict[str, Any], dict[str, Tensor]]


def _read_published(path: Path) -> Parts:
    content = read_published(path)
    tracers = {label: TRACERS[label] for label in PUBLISHED_TRACERS}
    provenance = {"origin": "checkpoint of RelA-Diffusion's authors", "epoch": content.get("epoch")}
    return PRESETS["paper"], tracers, provenance, content["model_state_dict"]


def _read_safetensors(path: Path) -> Parts:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY, "{}")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadDataError(
            f"{path} is not a whole safetensors file ({error}): get or train the model again"
        ) from error
    try:
        parts = _read_metadata(json.loads(metadata))
    except (AttributeError, KeyError, TypeError, ValueError, BadDataError) as error:
        raise BadDataError(
            f"the metadata of {path} are not those of a model ({error}): "
            "get or train the model again, or use another"
        ) from error
    return *parts, weights


def _read_metadata(
    metadata: dict[str, Any],
) -> tuple[ModelConfig, dict[str, Tracer], dict[str, Any]]:
    if metadata.get("format") != FORMAT:
        raise BadDataError(f"format {metadata.get('format')!r}, not {FORMAT!r}")
    tracers = {tracer.label: tracer for tracer in map(_tracer, metadata["tracers"])}
    return from_dict(metadata["config"]), tracers, dict(metadata["provenance"])


def _tracer(values: dict[str, Any]) -> Tracer:
    conversion = values["conversion"] and Conversion(**values["conversion"])
    window = tuple(values["frame_window"])
    return Tracer(**{**values, "conversion": conversion, "frame_window": window})


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    candidates = (path, path / "model.safetensors", BUNDLED / f"{name_or_path}.safetensors")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise MissingInputError(
        f"there is no model {name_or_path}: give a .safetensors or .pt file, a folder with "
        f"model.safetensors, or one of {', '.join(bundled_models()) or 'no bundled models'}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
