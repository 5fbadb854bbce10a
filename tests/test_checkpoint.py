"""Models on disk: what is written is what is read, and what is damaged is named."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.model import description, load_model, save_model
from rela_bids.model.networks import build_denoiser
from rela_bids.model.presets import PRESETS, from_dict, override, to_dict
from rela_bids.tracers import TRACERS, Tracer

SMALL = override(
    PRESETS["fast"],
    {
        "network": {"channels": [8, 16]},
        "grid": {"shape": [16, 16, 16]},
        "sampling_steps": 3,
    },
)
OWN = Tracer("18FX", "a new one", "F18", "something", "pons", (10.0, 20.5), 2.25)
MINE = {"18FX": OWN, "11CPIB": TRACERS["11CPIB"]}


@pytest.fixture
def file(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "models" / "mine" / "model.safetensors"
    network = build_denoiser(SMALL.network, len(MINE))
    save_model(path, network, SMALL, MINE, {"people": 12})
    return path


def with_metadata(file: Path, metadata: object) -> Path:
    """The file with other metadata, as JSON."""
    save_file(load_file(file), file, {description.METADATA_KEY: json.dumps(metadata)})
    return file


def whole_metadata() -> dict[str, object]:
    return {
        "format": description.FORMAT,
        "config": to_dict(SMALL),
        "tracers": [asdict(tracer) for tracer in MINE.values()],
        "provenance": {},
    }


@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_a_preset_survives_json(preset):
    assert from_dict(json.loads(json.dumps(to_dict(PRESETS[preset])))) == PRESETS[preset]


def test_a_model_comes_back_as_it_was_saved(file):
    torch.manual_seed(0)
    network = build_denoiser(SMALL.network, len(MINE))
    model = load_model(file)
    assert model.config == SMALL
    assert model.tracers == MINE
    assert list(model.tracers) == list(MINE)
    assert model.provenance == {"people": 12}
    assert not model.network.training
    x, timesteps, labels = torch.randn(1, 3, 16, 16, 16), torch.tensor([999]), torch.tensor([1])
    assert torch.equal(model.network(x, timesteps, labels), network(x, timesteps, labels))


def test_a_model_is_found_by_file_by_folder_and_by_name(file, monkeypatch):
    by_file, by_folder = load_model(file), load_model(str(file.parent))
    monkeypatch.setattr(description, "BUNDLED", file.parent)
    by_name = load_model("model")
    assert by_file.sha256 == by_folder.sha256 == by_name.sha256
    assert by_file.name == by_folder.name == "mine"
    assert description.bundled_models() == ["model"]


def test_the_hash_is_that_of_the_file_and_the_same_model_has_the_same(file):
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_model(file).sha256 == expected
    assert save_model(file, load_model(file).network, SMALL, MINE, {"people": 12}) == expected


def test_the_authors_file_runs_as_paper(reference_numbers):
    model = load_model(reference_numbers / "generator_random_weights.pt")
    assert model.config == PRESETS["paper"]
    assert list(model.tracers) == ["11CPBR28", "11CPIB", "18FAV1451"]
    assert model.name == "generator_random_weights"
    assert "authors" in model.provenance["origin"]


def test_no_weight_of_the_authors_file_is_left_at_random(reference_numbers):
    path = reference_numbers / "generator_random_weights.pt"
    original = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
    model = load_model(path)
    loaded = sorted(w.double().sum().item() for w in model.network.state_dict().values())
    assert loaded == sorted(w.double().sum().item() for w in original.values())


def test_an_authors_model_can_be_saved_as_ours(reference_numbers, tmp_path):
    theirs = load_model(reference_numbers / "generator_random_weights.pt")
    path = tmp_path / "theirs.safetensors"
    save_model(path, theirs.network, theirs.config, theirs.tracers, theirs.provenance)
    ours = load_model(path)
    assert ours.config == theirs.config
    for name, weight in theirs.network.state_dict().items():
        assert torch.equal(ours.network.state_dict()[name], weight)


def test_a_tracer_that_the_model_lacks_is_a_usage_error(file):
    model = load_model(file)
    assert model.tracer_index("11CPIB") == 1
    with pytest.raises(UsageError, match=r"18FFDG: choose among 18FX, 11CPIB"):
        model.tracer_index("18FFDG")


@pytest.mark.parametrize("name", ["nobody", "no/such/folder", "gone.safetensors"])
def test_a_model_that_is_not_there_is_named(name):
    with pytest.raises(MissingInputError, match=name):
        load_model(name)


def test_a_folder_without_a_model_is_missing_input(tmp_path):
    with pytest.raises(MissingInputError, match=r"model\.safetensors"):
        load_model(tmp_path)


def test_a_truncated_file_is_bad_data(file):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BadDataError, match="not a whole safetensors file"):
        load_model(file)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_of_another_kind_is_bad_data(tmp_path, content, suffix):
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=f"odd{suffix}"):
        load_model(path)


def test_a_pt_file_that_would_run_code_is_bad_data(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"model_state_dict": {"w": Path("x")}}, path)
    with pytest.raises(BadDataError, match=r"evil\.pt"):
        load_model(path)


@pytest.mark.parametrize("content", [[1, 2], {"weights": {}}, {"model_state_dict": {}}])
def test_a_pt_file_without_the_papers_weights_is_bad_data(tmp_path, content):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(BadDataError, match=r"other\.pt"):
        load_model(path)


def test_a_safetensors_file_without_our_metadata_is_bad_data(file):
    save_file(load_file(file), file)
    with pytest.raises(BadDataError, match=r"model\.safetensors are not those of a model"):
        load_model(file)


@pytest.mark.parametrize("metadata", [[], {}, {"format": "version 99"}])
def test_metadata_of_another_format_are_bad_data(file, metadata):
    with pytest.raises(BadDataError, match=r"model\.safetensors are not those of a model"):
        load_model(with_metadata(file, metadata))


@pytest.mark.parametrize("key", ["config", "tracers", "provenance"])
@pytest.mark.parametrize("value", [None, 3, [{"label": "18FX"}]])
def test_metadata_that_cannot_be_used_are_bad_data(file, key, value):
    with pytest.raises(BadDataError, match=r"model\.safetensors are not those of a model"):
        load_model(with_metadata(file, {**whole_metadata(), key: value}))


def test_a_setting_that_is_missing_is_not_filled_in(file):
    metadata = whole_metadata()
    del metadata["config"]["sampling_steps"]
    with pytest.raises(BadDataError, match="sampling_steps is missing"):
        load_model(with_metadata(file, metadata))


def test_weights_that_do_not_fit_are_bad_data(file):
    wide = override(SMALL, {"network": {"channels": [16, 32]}})
    with pytest.raises(BadDataError, match="do not fit"):
        load_model(with_metadata(file, {**whole_metadata(), "config": to_dict(wide)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"adversarial": "sometimes"}}, r"loss\.adversarial is 'sometimes'"),
        ({"loss": {"gama": 1.0}}, r"unknown setting loss\.gama"),
        ({"optimiser": {"epochs": "many"}}, r"optimiser\.epochs is 'many'"),
        ({"optimiser": {"epochs": True}}, r"optimiser\.epochs is True"),
        ({"loss": {"gradient_penalty": 1}}, r"loss\.gradient_penalty is 1"),
        ({"optimiser": {"betas": [0.9]}}, r"optimiser\.betas has 1 values"),
        ({"grid": {"shape": [81, 96, 80]}}, "multiple of 8"),
        ({"loss": 3}, "loss is not a table"),
        ({"inputs": []}, "no inputs"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(changes, message):
    with pytest.raises(BadDataError, match=message):
        override(PRESETS["fast"], changes)


def test_a_setting_can_be_overridden_alone():
    changed = override(PRESETS["fast"], {"loss": {"gamma": 2}, "n_samples": 3})
    expected = replace(PRESETS["fast"], loss=replace(PRESETS["fast"].loss, gamma=2.0), n_samples=3)
    assert changed == expected
    assert isinstance(changed.loss.gamma, float)


def test_the_package_is_imported_without_torch():
    code = "import sys, rela_bids.model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
