"""Settings survive TOML, and what cannot be settings is refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rela_bids.exceptions import BadDataError
from rela_bids.settings import (
    AnatomySettings,
    RegionSettings,
    Resources,
    Selection,
    Settings,
    SynthesisSettings,
    from_toml,
    to_toml,
)

# TOML holds any text but lone surrogates, and 64-bit integers.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = st.lists(text, max_size=3).map(tuple)
paths = text.filter(lambda name: "\0" not in name).map(Path)
value = st.one_of(text, st.integers(-(2**63), 2**63 - 1))
filters = st.dictionaries(
    st.sampled_from(["t1w", "flair", "pet"]),
    st.dictionaries(text, st.one_of(value, st.lists(value, max_size=3).map(tuple)), max_size=3),
)
settings = st.builds(
    Settings,
    bids_dir=paths,
    output_dir=paths,
    work_dir=paths,
    level=st.sampled_from(["participant", "group"]),
    selection=st.builds(
        Selection, participants=words, sessions=words, tracers=words, filters=filters
    ),
    anatomy=st.builds(
        AnatomySettings,
        skull_strip=st.sampled_from(["ants", "deepbet", "skip"]),
        output_spaces=st.lists(st.sampled_from(["T1w", "MNI152NLin2009cAsym"])).map(tuple),
    ),
    synthesis=st.builds(
        SynthesisSettings,
        model=text,
        n_samples=st.none() | st.integers(1, 2**31),
        sampling_steps=st.none() | st.integers(1, 2**31),
        device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
        random_seed=st.integers(0, 2**32 - 1),
    ),
    regions=st.builds(
        RegionSettings,
        wanted=st.booleans(),
        atlas=st.none() | paths,
        labels=st.none() | paths,
    ),
    resources=st.builds(
        Resources,
        nprocs=st.integers(1, 999),
        omp_nthreads=st.integers(1, 999),
        mem_gb=st.none() | st.floats(0.001, 1e6),
    ),
    skip_bids_validation=st.booleans(),
    bids_database_dir=st.none() | paths,
    stop_on_first_crash=st.booleans(),
    dry_run=st.booleans(),
    verbose=st.integers(0, 3),
)

DEFAULTS = Settings(Path("/bids"), Path("/out"), Path("/work"))


@given(settings)
def test_settings_come_back_from_toml_as_they_were(original):
    assert from_toml(to_toml(original)) == original


def test_what_is_left_out_takes_its_default():
    toml = 'bids_dir = "/bids"\noutput_dir = "/out"\nwork_dir = "/work"\n'
    assert from_toml(toml) == DEFAULTS


def test_a_whole_number_serves_as_a_float():
    toml = to_toml(replace(DEFAULTS, resources=Resources(1, 1, 16.0))).replace("16.0", "16")
    assert from_toml(toml).resources.mem_gb == 16.0


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("bids_dir = ", "TOML"),
        ('bids_dir = "/bids"', "output_dir"),
        ("bids_dir = 3", "settings.bids_dir"),
        ("surprise = 3", "surprise"),
        ("dry_run = 1", "settings.dry_run"),
        ('level = "person"', "settings.level"),
        ("synthesis = 4", "settings.synthesis"),
        ("[synthesis]\nn_samples = true", "settings.synthesis.n_samples"),
        ("[anatomy]\noutput_spaces = [2]", "settings.anatomy.output_spaces"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(toml, named):
    with pytest.raises(BadDataError, match=named):
        from_toml(toml)
