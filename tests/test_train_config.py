"""The settings of a training run: preset, file, options."""

from pathlib import Path

import pytest

from rela_bids.cli.train_config import model_config, read_changes, trainer_settings
from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.model.presets import PRESETS
from rela_bids.settings import Resources, Settings, SynthesisSettings, TrainingSettings


def config(**changes):
    return model_config(TrainingSettings(changes=changes))


def trainer(nprocs=4, seed=0, **training):
    return trainer_settings(
        Settings(
            Path("/bids"),
            Path("/out"),
            Path("/work"),
            synthesis=SynthesisSettings(random_seed=seed, device="cpu"),
            training=TrainingSettings(**training),
            resources=Resources(nprocs),
        )
    )


def test_without_changes_it_is_the_preset():
    assert model_config(TrainingSettings()) == PRESETS["fast"]
    assert model_config(TrainingSettings(preset="paper")) == PRESETS["paper"]


def test_one_setting_changes_and_the_rest_stays():
    changed = config(inputs=["t1w"], loss={"adversarial": "none"})
    assert changed.inputs == ("t1w",)
    assert changed.loss.adversarial == "none"
    assert changed.diffusion == PRESETS["fast"].diffusion


def test_the_batch_size_is_the_options():
    assert model_config(TrainingSettings(batch_size=3)).optimiser.batch_size == 3


def test_a_voxel_size_alone_keeps_the_field_of_view():
    grid, whole = config(grid={"voxel_size": 4}).grid, PRESETS["fast"].grid
    assert (grid.shape, grid.voxel_size) == ((40, 48, 40), 4.0)
    for of in (grid, whole):
        assert of.origin[0] - of.voxel_size / 2 == -80


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"los": {}}, "los"),
        ({"loss": {"adversarial": "some"}}, "adversarial"),
        ({"grid": {"voxel_size": -1}}, "voxel_size"),
        ({"grid": 4}, r"\[grid\]"),
        ({"grid": {"shape": [3, 3, 3]}}, "multiple"),
    ],
)
def test_what_is_wrong_is_named(changes, named):
    with pytest.raises(BadDataError, match=f"--train-config.*{named}"):
        config(**changes)


def test_the_trainer_takes_the_free_processors_and_the_seed_of_the_run():
    settings = trainer(6, seed=9, devices=2, max_seconds=60.0)
    assert (settings.threads, settings.seed, settings.devices) == (3, 9, 2)
    assert (settings.max_seconds, settings.epochs, settings.device) == (60.0, None, "cpu")


def test_the_trainer_has_a_table_of_its_own():
    assert trainer(changes={"trainer": {"log_every": 5}}).log_every == 5
    assert trainer(changes={"trainer": {"threads": 1}}).threads == 1


@pytest.mark.parametrize(("name", "option"), [("seed", "--random-seed"), ("epochs", "--epochs")])
def test_what_has_an_option_is_not_set_twice(name, option):
    with pytest.raises(BadDataError, match=option):
        trainer(changes={"trainer": {name: 1}})


def test_a_file_is_read_and_a_bad_one_named(tmp_path):
    path = tmp_path / "train.toml"
    with pytest.raises(MissingInputError, match=r"train\.toml"):
        read_changes(path)
    path.write_text("[loss]\nadversarial = 'none'")
    assert read_changes(path) == {"loss": {"adversarial": "none"}}
    path.write_text("[loss")
    with pytest.raises(BadDataError, match=r"train\.toml"):
        read_changes(path)
