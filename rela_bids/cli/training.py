"""``group --train``: MRI and PET of many people to a model."""

from functools import partial
from pathlib import Path

from rela_bids.bids.citation import describe_training
from rela_bids.cli.sessions import begin_run, execute, say, show_outcome, why_failed
from rela_bids.cli.study import Study, plan_study
from rela_bids.exceptions import ExitCode, RelaBidsError
from rela_bids.settings import Settings
from rela_bids.training import train_model


class NothingPreparedError(RelaBidsError):
    """All sessions failed."""

    exit_code = ExitCode.SESSION_FAILED


def plan_only(settings: Settings) -> int:
    """Print what would be learned from whom, and touch nothing."""
    study = plan_study(settings)
    for session in study.sessions:
        print(session.label)
        for label, plan in study.targets[session.label].items():
            print(f"  {label}  {plan.path}, frames {', '.join(map(str, plan.frames))}")
    for line in (*study.left_out, *study.describe()):
        print(line)
    return ExitCode.OK


def run_level(settings: Settings) -> int:
    """Prepare every session with MRI and PET, and train; returns the exit code.

    Of the processes that torchrun or srun has started, the first prepares and the others wait.
    Sessions that cannot be prepared are named and left out of the training; the exit code says so.

    Raises
    ------
    RelaBidsError
        What `plan_study` and `rela_bids.training.train_model` raise.
    """
    from rela_bids.model.dataset import read_manifest
    from rela_bids.model.runtime import Processes
    from rela_bids.reports.training import write_training_report

    training = settings.training
    processes = Processes(settings.synthesis.device, training.devices, training.num_nodes)
    study = processes.once(lambda: plan_study(settings))
    failed = processes.once(lambda: prepare(study, settings))
    if len(failed) == len(study.sessions):
        raise NothingPreparedError("no session could be prepared: the table above says why")
    prepared = {(s.subject, s.session) for s in study.sessions if s.label not in failed}
    manifest = [
        record
        for record in read_manifest(examples_folder(study, settings))
        if (record.subject, record.session) in prepared
    ]
    model = train_model(
        manifest,
        study.plan(settings),
        settings.output_dir,
        resume=training.resume,
        on_scored=write_training_report,
    )
    if processes.first:
        say(f"The model is in {model}: use it with participant --model {model}")
    return ExitCode.SESSION_FAILED if failed else ExitCode.OK


def examples_folder(study: Study, settings: Settings) -> Path:
    """Where the examples for a grid are kept: in the work folder."""
    grid = study.config.grid
    shape = "x".join(map(str, grid.shape))
    return settings.work_dir / "examples" / f"{shape}_{grid.voxel_size:g}mm"


def prepare(study: Study, settings: Settings) -> list[str]:
    """Bring every session's MRI and PET onto the model's grid; returns the labels that failed."""
    from workflows.training import init_training_session_wf

    run = begin_run(settings, describe_training(settings, list(study.tracers)))
    for line in (*study.left_out, *study.describe()):
        say(line)
    init_wf = partial(
        init_training_session_wf,
        settings=settings,
        targets=study.targets,
        tracers=study.tracers,
        grid=study.config.grid,
        folder=examples_folder(study, settings),
    )
    states = execute(study.sessions, settings, run, init_wf)
    failed = [label for label, state in states.items() if not state.finished]
    if failed:
        show_outcome([(label, "failed", why_failed(states[label])) for label in failed])
    return failed
