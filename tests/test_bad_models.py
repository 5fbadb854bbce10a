"""Model files of strangers: nothing in them runs, and what cannot be used is named in one line."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rela_bids.model import description, save_model
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, override, to_dict
from rela_bids.tracers import TRACERS

SMALL = override(
    PRESETS["fast"],
    {"network": {"channels": [8, 8], "norm_groups": 4}, "grid": {"shape": [16, 16, 16]}},
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "whole.safetensors"
    network = build_denoiser(SMALL.network, 1)
    save_model(path, network, SMALL, {"18FAV45": TRACERS["18FAV45"]}, {"trained_on": "nobody"})
    return path


@pytest.fixture
def bids(tmp_path) -> Path:
    (tmp_path / "bids/sub-01/anat").mkdir(parents=True)
    (tmp_path / "bids/sub-01/anat/sub-01_T1w.nii.gz").touch()
    text = json.dumps({"Name": "models", "BIDSVersion": "1.10.0"})
    (tmp_path / "bids/dataset_description.json").write_text(text)
    return tmp_path / "bids"


class Harmful:
    """What a pickle that runs code is made of: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def with_header(path: Path, header: bytes, size: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header)


def with_metadata(path: Path, whole: Path, text: str) -> None:
    save_file(load_file(whole), path, {description.METADATA_KEY: text})


def changed(whole: Path, **changes: Any) -> str:
    with_it = description.safe_open(whole, framework="np")
    with with_it as file:
        content = json.loads(file.metadata()[description.METADATA_KEY])
    return json.dumps(content | changes)


def wrong_grid(path: Path, whole: Path) -> None:
    config = to_dict(SMALL)
    config["grid"]["shape"] = [15, 16, 16]
    with_metadata(path, whole, changed(whole, config=config))


def huge_network(path: Path, whole: Path) -> None:
    config = to_dict(SMALL)
    config["network"]["channels"] = [10**7, 10**7]
    with_metadata(path, whole, changed(whole, config=config))


def bomb(path: Path, whole: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**7)


Break = Callable[[Path, Path], object]

SAFETENSORS: dict[str, Break] = {
    "empty": lambda path, whole: path.touch(),
    "text": lambda path, whole: path.write_text("version https://git-lfs.github.com/spec/v1"),
    "cut in its header": lambda path, whole: path.write_bytes(whole.read_bytes()[:100]),
    "cut in its weights": lambda path, whole: path.write_bytes(whole.read_bytes()[:-1000]),
    "a header as long as memory": lambda path, whole: with_header(path, b"{}", 2**62),
    "a header of 200 MB": lambda path, whole: with_header(path, b"{" + b" " * (2 * 10**8) + b"}"),
    "a header without a bottom": lambda path, whole: with_header(path, b"[" * 10**5),
    "weights beyond its end": lambda path, whole: with_header(
        path,
        b'{"w": {"dtype": "F32", "shape": [999999999], "data_offsets": [0, 3999999996]}}',
    ),
    "no metadata": lambda path, whole: save_file(load_file(whole), path),
    "metadata that are no JSON": lambda path, whole: with_metadata(path, whole, "{"),
    "metadata without a bottom": lambda path, whole: with_metadata(path, whole, "[" * 10**5),
    "another format": lambda path, whole: with_metadata(
        path, whole, changed(whole, format="rela_bids model, version 99")
    ),
    "a tracer without a name": lambda path, whole: with_metadata(
        path, whole, changed(whole, tracers=[{}])
    ),
    "a tracer whose label leads out of OUT": lambda path, whole: with_metadata(
        path, whole, changed(whole, tracers=[tracer("../../../x")])
    ),
    "two tracers of one label": lambda path, whole: with_metadata(
        path, whole, changed(whole, tracers=[tracer("18FAV45"), tracer("18FAV45")])
    ),
    "no tracers": lambda path, whole: with_metadata(path, whole, changed(whole, tracers=[])),
    "a grid that does not suit": wrong_grid,
    "a pickle by another name": lambda path, whole: path.write_bytes(
        pickle.dumps(Harmful(path.with_name("harmed")))
    ),
}

PT: dict[str, Break] = {
    "empty": lambda path, whole: path.touch(),
    "text": lambda path, whole: path.write_text("not a model"),
    "a zip of zeros": bomb,
    "a pickle that runs code": lambda path, whole: path.write_bytes(
        pickle.dumps({"model_state_dict": Harmful(path.with_name("harmed"))})
    ),
    "torch's own pickle that runs code": lambda path, whole: torch.save(
        {"model_state_dict": {"w": Harmful(path.with_name("harmed"))}}, path
    ),
    "torch's old pickle that runs code": lambda path, whole: torch.save(
        {"model_state_dict": {"w": Harmful(path.with_name("harmed"))}},
        path,
        _use_new_zipfile_serialization=False,
    ),
    "safetensors by another name": lambda path, whole: path.write_bytes(whole.read_bytes()),
    "weights of another network": lambda path, whole: torch.save(
        {"model_state_dict": {"w": torch.zeros(3)}}, path
    ),
}

CASES = {f"safetensors: {name}": (".safetensors", harm) for name, harm in SAFETENSORS.items()} | {
    f"pt: {name}": (".pt", harm) for name, harm in PT.items()
}


def tracer(label: str) -> dict[str, Any]:
    return {
        "label": label,
        "name": "x",
        "radionuclide": "F18",
        "target": "x",
        "reference_region": "pons",
        "frame_window": [0, 1],
        "suvr_scale": 3.0,
        "conversion": None,
    }


@pytest.mark.parametrize(("suffix", "harm"), CASES.values(), ids=CASES)
def test_is_refused(suffix, harm, whole, bids, rela_bids, tmp_path):
    path = tmp_path / f"stranger{suffix}"
    harm(path, whole)
    ended = rela_bids(bids, tmp_path / "out", "participant", "--model", path)
    assert ended.code == 65
    assert str(path) in ended.line
    assert len(ended.line) < 1000
    assert not path.with_name("harmed").exists()
    assert not (tmp_path / "out").exists()


def test_a_network_larger_than_memory_is_refused_without_being_built(whole, tmp_path, monkeypatch):
    from rela_bids.exceptions import BadDataError
    from rela_bids.model import load_model

    path = tmp_path / "huge.safetensors"
    huge_network(path, whole)
    monkeypatch.setattr(torch.nn.Parameter, "__new__", only_without_memory)
    with pytest.raises(BadDataError, match=r"huge\.safetensors"):
        load_model(path)


NEW_PARAMETER = torch.nn.Parameter.__new__


def only_without_memory(cls: type, data: torch.Tensor, requires_grad: bool = True) -> torch.Tensor:
    """Fails where memory would be taken, so that this test cannot take all of the machine's."""
    assert data.is_meta
    return NEW_PARAMETER(cls, data, requires_grad)


@pytest.mark.parametrize("name", ["nowhere", "no/where.safetensors", "x" * 300, "a\0b"])
def test_a_model_that_is_not_there(name, bids, rela_bids, tmp_path):
    ended = rela_bids(bids, tmp_path / "out", "participant", "--model", name)
    assert ended.code == 66
    assert "there is no model" in ended.line


def test_a_tracer_that_the_model_lacks(whole, bids, rela_bids, tmp_path):
    ended = rela_bids(
        bids, tmp_path / "out", "participant", "--model", whole, "--tracer-label", "18FFDG"
    )
    assert ended.code == 64
    assert "18FAV45" in ended.line
