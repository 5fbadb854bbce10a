"""Models on disk: our safetensors files, and the ``.pt`` files of the method's authors."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rela_bids.atomic import write_atomically
from rela_bids.exceptions import BadDataError
from rela_bids.model.denoiser import Denoiser
from rela_bids.model.description import (
    FORMAT,
    METADATA_KEY,
    Description,
    describe_model,
    is_published,
    sha256,
)
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import ModelConfig, to_dict
from rela_bids.tracers import Tracer

# The authors train with MONAI 1.3 and the `generative` package beside it. Since that became part of
# MONAI two layers have other names; all else, and every shape, is the same.
RENAMED_SINCE_MONAI_1_3 = {
    ".to_out.0.": ".out_proj.",
    ".upsampler.conv.": ".upsampler.postconv.",
}


@dataclass(frozen=True)
class Model(Description):
    """A trained model, its network in eval mode (`rela_bids.model.networks.build_denoiser`)."""

    network: Denoiser


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
    description = describe_model(name_or_path)
    try:
        # Without memory for its weights until those of the file are known to fit: the file may
        # describe a network of any size.
        with torch.device("meta"):
            network = build_denoiser(
                description.config.network,
                len(description.tracers),
                predicts_noise=description.config.diffusion.prediction == "epsilon",
            )
        network.load_state_dict(_weights_of(description.path), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise BadDataError(
            f"the weights in {description.path} do not fit its network "
            f"({' '.join(str(error).split())[:200]}): get or train the model again"
        ) from error
    network = network.to(device).eval().requires_grad_(False)
    if torch.device(device).type == "cuda":
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return Model(**vars(description), network=network)


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
        # safetensors lets the owner alone read it, which is of no use in a shared folder.
        temporary.chmod(0o644)
    return sha256(path)


def read_published(path: Path) -> dict[str, Any]:
    """An authors' checkpoint, ``{"model_state_dict", "epoch"}``, its weights named as in MONAI 1.6.

    Denoiser and discriminator alike; loaded without running pickled code.

    Raises
    ------
    BadDataError
        If the file is no such checkpoint.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        content["model_state_dict"] = {
            _renamed(name): weight for name, weight in content["model_state_dict"].items()
        }
    except Exception as error:  # torch raises almost anything on a file that is not its own
        raise BadDataError(
            f"{path} is not a checkpoint of RelA-Diffusion's authors, a dictionary with "
            f"model_state_dict ({type(error).__name__}): get it again"
        ) from error
    return content


def _renamed(name: str) -> str:
    for old, new in RENAMED_SINCE_MONAI_1_3.items():
        name = name.replace(old, new)
    return name


def _weights_of(path: Path) -> dict[str, Tensor]:
    if is_published(path):
        weights: dict[str, Tensor] = read_published(path)["model_state_dict"]
        return weights
    return load_file(path)
