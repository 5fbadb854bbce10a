"""Files that people write by hand, as nobody would write them: readers fail as they promise or not.

As a test, hypothesis makes up the files. ``python tests/test_fuzz.py -max_total_time=120`` looks
for inputs that reach new code, with atheris (coverage-guided): ``make fuzz``.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["rela_bids"]):
        import rela_bids.bids.filters
        import rela_bids.bids.metadata
        import rela_bids.cli.train_config
        import rela_bids.frames
        import rela_bids.settings
        import rela_bids.splits
        import rela_bids.tracer_config  # noqa: F401

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rela_bids.bids.filters import read_filters
from rela_bids.bids.metadata import read_metadata
from rela_bids.cli.train_config import read_changes
from rela_bids.exceptions import RelaBidsError
from rela_bids.frames import choose_frames, read_timing
from rela_bids.settings import from_toml
from rela_bids.splits import read_split
from rela_bids.tracer_config import read_tracers
from rela_bids.tracers import TRACERS

FOLDER = Path(tempfile.mkdtemp(prefix="rela_bids_fuzz_"))
IMAGE = FOLDER / "sub-01/pet/sub-01_trc-18FAV45_pet.nii.gz"
IMAGE.parent.mkdir(parents=True)


def written(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(content)
    return path


def sidecar(content: bytes) -> None:
    written("sub-01/pet/sub-01_trc-18FAV45_pet.json", content)
    metadata = read_metadata(IMAGE, FOLDER)
    for n_volumes in (1, 2, 4):
        try:
            timing, notes = read_timing(metadata, n_volumes, IMAGE)
            assert all("\n" not in note for note in notes)
            if timing is not None:
                choose_frames(timing, TRACERS["18FAV45"], IMAGE)
        except RelaBidsError as error:
            is_one_line(str(error))


def filter_file(content: bytes) -> None:
    read_filters(written("filters.json", content))


def tracer_config(content: bytes) -> None:
    read_tracers([written("tracer.toml", content)])


def train_config(content: bytes) -> None:
    read_changes(written("train.toml", content))


def run_settings(content: bytes) -> None:
    from_toml(content.decode("utf-8", "replace"))


def split(content: bytes) -> None:
    read_split(written("split.tsv", content))


READERS: dict[str, Callable[[bytes], None]] = {
    reader.__name__: reader
    for reader in (sidecar, filter_file, tracer_config, train_config, run_settings, split)
}


def read(reader: Callable[[bytes], None], content: bytes) -> None:
    """What a reader promises: to work, or to fail with one line."""
    try:
        reader(content)
    except RelaBidsError as error:
        is_one_line(str(error))


def is_one_line(message: str) -> None:
    assert len(message.splitlines()) == 1, message


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
times = st.lists(st.floats() | st.integers(-(10**5), 10**5), max_size=5) | values
sidecars = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("FrameTimesStart", "FrameDuration", "InjectionStart", "ScanStart", "Units"), times
    ),
)
images = st.sampled_from(["t1w", "flair", "pet", "bold"])


@given(st.sampled_from(sorted(READERS)), st.binary(max_size=200))
@example("sidecar", b"[" * 10**5)
@example("filter_file", b"[" * 10**5)
@example("tracer_config", b"a = " + b"[" * 10**5)
@example("train_config", b"a = " + b"[" * 10**5)
@example("run_settings", b"a = " + b"[" * 10**5)
@example("split", b"participant_id\tsplit\n\t\n\0")
@example("split", b'participant_id\tsplit\n"' + b"x" * 200_000)
@example("split", "participant_id\tsplit\ncaf\xe9\ttrain\n".encode("latin-1"))
@example("split", b"participant_id\tsplit\nsub-01\n")
@example("split", b"split\tparticipant_id\ntrain\n")
@example("sidecar", b'{"FrameTimesStart": [1e999], "FrameDuration": [1]}')
@example("sidecar", b'{"FrameTimesStart": [' + b"9" * 400 + b'], "FrameDuration": [1]}')
@example("sidecar", b'{"FrameTimesStart": ' + b"9" * 5000 + b"}")
@settings(max_examples=300)
def test_any_bytes(name, content):
    read(READERS[name], content)


@given(sidecars)
@settings(max_examples=300)
def test_any_sidecar(content):
    read(sidecar, json.dumps(content).encode())


@given(st.dictionaries(images, values | st.dictionaries(st.text(max_size=8), values, max_size=3)))
@settings(max_examples=100)
def test_any_filter_file(content):
    read(filter_file, json.dumps(content).encode())


@given(
    st.dictionaries(
        st.sampled_from(["label", "name", "radionuclide", "reference_region", "frame_window"])
        | st.sampled_from(["suvr_scale", "scale", "target", "conversion", "surprise"]),
        st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.floats(), max_size=3),
    )
)
@settings(max_examples=200)
def test_any_tracer(content):
    tomli_w = pytest.importorskip("tomli_w")
    read(tracer_config, tomli_w.dumps({"label": "18FAV45", **content}).encode())


KEYS = {
    "sidecar": ("FrameTimesStart", "FrameDuration", "InjectionStart", "ScanStart", "Units"),
    "filter_file": ("t1w", "flair", "pet", "run", "acquisition"),
    "tracer_config": ("label", "name", "frame_window", "suvr_scale", "reference_region", "target"),
    "train_config": ("grid", "loss", "trainer", "inputs"),
    "run_settings": ("bids_dir", "output_dir", "work_dir", "anatomy", "synthesis", "verbose"),
}


def fuzz(data: bytes) -> None:
    """The first byte chooses the reader; where the second is even, the rest are values of keys."""
    provider = atheris.FuzzedDataProvider(data)
    name = sorted(READERS)[provider.ConsumeIntInRange(0, len(READERS) - 1)]
    if name not in KEYS or provider.ConsumeBool():
        read(READERS[name], provider.ConsumeBytes(sys.maxsize))
        return
    content = {key: value(provider, 0) for key in KEYS[name] if provider.ConsumeBool()}
    if name in ("sidecar", "filter_file"):
        read(READERS[name], json.dumps(content).encode("utf-8", "replace"))
    else:
        read(READERS[name], tomli_w.dumps(content).encode("utf-8", "replace"))


def value(provider: "atheris.FuzzedDataProvider", depth: int) -> object:
    kind = provider.ConsumeIntInRange(0, 3 if depth > 2 else 5)
    if kind == 4:
        return [value(provider, depth + 1) for _ in range(provider.ConsumeIntInRange(0, 4))]
    if kind == 5:
        keys = [provider.PickValueInList(sorted(sum(KEYS.values(), ()))) for _ in range(2)]
        return {key: value(provider, depth + 1) for key in keys}
    return (
        provider.ConsumeInt(8),
        provider.ConsumeFloat(),
        provider.ConsumeBool(),
        provider.ConsumeUnicodeNoSurrogates(8),
    )[kind]


if __name__ == "__main__":
    import tomli_w

    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()
