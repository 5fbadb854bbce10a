"""Nipype plugins by a file, as fMRIPrep takes them."""

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from rela_bids.cli.execution import run_workflow
from rela_bids.cli.plugins import Plugin, make_runner, read_plugin
from rela_bids.exceptions import BadDataError, MissingInputError, UsageError
from rela_bids.settings import Resources


def write(folder, text):
    path = folder / "plugin.yml"
    path.write_text(text)
    return path


def test_without_a_file_it_is_our_pool():
    assert read_plugin(None) == Plugin("MultiProc", {})


def test_a_file_of_fmriprep_is_read(tmp_path):
    text = "plugin: LegacyMultiProc\nplugin_args: {maxtasksperchild: 1, memory_gb: 60, n_procs: 20}"
    plugin = read_plugin(write(tmp_path, text))
    assert plugin.name == "LegacyMultiProc"
    assert plugin.arguments == {"maxtasksperchild": 1, "memory_gb": 60, "n_procs": 20}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("plugin: [", BadDataError),
        ("SLURMGraph", BadDataError),
        ("plugin_args: {n_procs: 2}", BadDataError),
        ("plugin: MultiProc\nplugin_arg: {n_procs: 2}", BadDataError),
        ("plugin: MultiProc\nplugin_args: 3", BadDataError),
        ("plugin: CondorDAGMan", UsageError),
        (None, MissingInputError),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, text, error):
    path = write(tmp_path, text) if text else tmp_path / "none.yml"
    with pytest.raises(error, match=f"--nipype-plugin-file {path}"):
        read_plugin(path)


def test_a_queue_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    workflow = pe.Workflow("top", base_dir=str(tmp_path))
    session = pe.Workflow("a_wf")
    session.add_nodes([pe.Node(Function(function=lambda: None), name="node")])
    workflow.add_nodes([session])
    runner = make_runner(Plugin("SLURMGraph"), Resources(), 1.0, ["a_wf"], Silent())
    with pytest.raises(UsageError, match="sbatch is not on this machine"):
        run_workflow(workflow, runner)


def test_the_file_outdoes_the_options_for_our_pool():
    arguments = {"n_procs": 1, "memory_gb": 3}
    pool = make_runner(Plugin("MultiProc", arguments), Resources(nprocs=2), 8.0, [], Silent())
    assert (pool.processors, pool.memory_gb) == (1, 3)
    pool.close()


class Silent:
    """An observer that keeps nothing."""

    def __getattr__(self, name):
        return lambda *arguments: None
