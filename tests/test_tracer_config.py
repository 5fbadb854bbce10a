"""Tracers from files: added, changed, and refused with a line that says what to write."""

import tomllib

import pytest

from rela_bids.exceptions import BadDataError, MissingInputError
from rela_bids.tracer_config import read_tracers, toml_of
from rela_bids.tracers import TRACERS

MK6240 = """
label = "18FMK6240"
name = "MK-6240"
radionuclide = "F18"
reference_region = "cerebellar grey matter"
frame_window = [90, 110]
scale = 4
"""


def written(folder, text: str):
    path = folder / "tracers.toml"
    path.write_text(text)
    return path


def test_a_new_tracer_stands_beside_those_of_the_table(tmp_path):
    known = read_tracers([written(tmp_path, MK6240)])
    tracer = known["18FMK6240"]
    assert tracer.frame_window == (90.0, 110.0)
    assert tracer.suvr_scale == 4.0
    assert tracer.conversion is None
    assert {label: known[label] for label in TRACERS} == TRACERS


def test_of_a_known_tracer_what_differs_is_enough(tmp_path):
    text = 'label = "18FAV45"\nframe_window = [40, 60]'
    tracer = read_tracers([written(tmp_path, text)])["18FAV45"]
    assert tracer.frame_window == (40.0, 60.0)
    assert tracer.conversion == TRACERS["18FAV45"].conversion
    assert tracer.name == TRACERS["18FAV45"].name


def test_a_file_may_hold_several(tmp_path):
    second = MK6240.replace("18FMK6240", "18FPI2620")
    known = read_tracers([written(tmp_path, f"[[tracer]]{MK6240}[[tracer]]{second}")])
    assert {"18FMK6240", "18FPI2620"} <= set(known)


def test_what_the_error_says_to_write_can_be_read(tmp_path):
    tracer = read_tracers([written(tmp_path, toml_of("11CUCBJ"))])["11CUCBJ"]
    assert tracer.radionuclide == "C11"
    assert tomllib.loads(toml_of("x"))["tracer"][0]["label"] == "x"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('label = "18FMK6240"', ""), "label"),
        (('"18FMK6240"', '"../MK"'), "letters and digits"),
        (('name = "MK-6240"', ""), "name"),
        (("scale = 4", "scal = 4"), "scal"),
        (("scale = 4", "scale = 0"), "above 0"),
        (("scale = 4", 'scale = "4"'), "a number"),
        (("[90, 110]", "[110, 90]"), "ends after"),
        (("[90, 110]", "[90]"), "start, end"),
        (("[90, 110]", "90"), "start, end"),
        (('"F18"', "18"), "texts"),
        (("scale = 4", "scale ="), "TOML"),
        (("scale = 4", "scale = 4\nconversion = {slope = 1}"), "conversion"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, named):
    path = written(tmp_path, MK6240.replace(*change))
    with pytest.raises(BadDataError, match=named) as raised:
        read_tracers([path])
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingInputError, match="nowhere"):
        read_tracers([tmp_path / "nowhere.toml"])


def test_another_reference_region_has_no_centiloid_unless_the_file_says_how(tmp_path):
    pons = 'label = "18FAV45"\nreference_region = "pons"\n'
    assert read_tracers([written(tmp_path, pons)])["18FAV45"].conversion is None
    scale = 'conversion = {scale = "Centiloid", slope = 1, intercept = 2, source = "us"}\n'
    given = read_tracers([written(tmp_path, pons + scale)])["18FAV45"].conversion
    assert given.source == "us"
    window = read_tracers([written(tmp_path, 'label = "18FAV45"\nframe_window = [50, 60]\n')])
    assert window["18FAV45"].conversion.scale == "Centiloid"
