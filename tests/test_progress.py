"""What is said of a run whose parts end well or not: real nodes' names, no graph is run."""

import io
from types import SimpleNamespace

import pytest

from rela_bids.cli.progress import Progressing

NODES = (
    "top.a_wf.anatomical_wf.n4",
    "top.a_wf.measured_18FAV45_wf.pet_target_wf.load_frames",
    "top.a_wf.measured_18FAV45_wf.compare",
    "top.a_wf.save",
)


@pytest.fixture
def nodes():
    return [SimpleNamespace(fullname=name, name=name.split(".")[-1]) for name in NODES]


@pytest.fixture
def progress(nodes):
    ended = []
    stream = io.StringIO()
    following = Progressing(
        {"a_wf": "sub-01"}, lambda name, state: ended.append(state.finished), stream
    )
    following.ended, following.stream = ended, stream
    following.planned(nodes)
    for node in nodes:
        following.started(node)
    return following


def test_a_session_ends_with_its_last_node(progress, nodes):
    for node in nodes:
        assert progress.ended == []
        progress.finished(node)
    assert progress.ended == [True]


def test_a_broken_measured_pet_is_a_warning_and_is_not_waited_for(progress, nodes):
    n4, load_frames, compare, save = nodes
    progress.finished(n4)
    progress.failed(load_frames, "pet.nii.gz is constant", "Traceback")
    progress.finished(save)
    assert progress.ended == [True]
    [warning] = progress.states["a_wf"].warnings
    assert "18FAV45" in warning
    assert "pet.nii.gz is constant" in warning
    assert warning in progress.stream.getvalue()
    progress.finished(compare)
    assert progress.ended == [True]


def test_the_session_ends_with_the_measured_pet_if_that_fails_last(progress, nodes):
    n4, load_frames, _, save = nodes
    progress.finished(n4)
    progress.finished(save)
    progress.failed(load_frames, "no", "Traceback")
    assert progress.ended == [True]


def test_what_is_not_optional_fails_its_session(progress, nodes):
    progress.failed(nodes[0], "no brain", "Traceback")
    assert progress.ended == [False]
    assert "no brain" in progress.states["a_wf"].error
