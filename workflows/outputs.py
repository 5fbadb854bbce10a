"""What a session leaves in OUT: one node for each file, and what is written beside it.

To add an output, name it in `rela_bids.bids.derivatives` and list it here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from rela_bids.atlases import Atlas
from rela_bids.bids import derivatives as names
from rela_bids.bids import sidecars
from rela_bids.bids.finished import HASHES, MADE_WITH, hashes, made_with, sources
from rela_bids.bids.metadata import read_json_object
from rela_bids.bids.query import Session
from rela_bids.exceptions import RelaBidsError
from rela_bids.frames import PetPlan
from rela_bids.interfaces.outputs import SaveDerivatives, sidecar_path
from rela_bids.settings import Settings
from rela_bids.synthesis import SynthesisPlan
from rela_bids.templates import TEMPLATE_SPACE


class _File(NamedTuple):
    """One file in OUT: the field of the input node it comes from, its path and sidecar."""

    field: str
    path: str
    sidecar: Mapping[str, Any]


def init_anatomical_outputs_wf(
    *,
    session: Session,
    settings: Settings,
    brain_mask: Path | None = None,
    name: str = "anatomical_outputs_wf",
) -> pe.Workflow:
    """Save preprocessed MRI, brain mask and transforms.

    Parameters
    ----------
    brain_mask : the mask of another pipeline that was used.

    Inputs
    ------
    t1w_preproc, brain_mask, flair_preproc, t1w_to_template_xfm, template_to_t1w_xfm
        files in the work folder

    Outputs
    -------
    the same names
        the files in OUT
    """
    files = list(_anatomical_files(session, settings))
    workflow = pe.Workflow(name=name)
    fields = [file.field for file in files]
    _add_ends(workflow, fields)
    made_from = {kind: str(path) for kind, path in sources(session, brain_mask).items()}
    for file in files:
        save = _save(workflow, file.field, [file])
        save.inputs.hashed = made_from
    return workflow


def init_pet_outputs_wf(
    *, session: Session, settings: Settings, plan: SynthesisPlan, name: str = "pet_outputs_wf"
) -> pe.Workflow:
    """Save synthetic PET of every tracer.

    Inputs
    ------
    mean, std, mean_in_template, std_in_template
        lists of files in the work folder, a file per tracer in the order of the plan

    Outputs
    -------
    mean, std
        the files in OUT on the T1w grid
    """
    workflow = pe.Workflow(name=name)
    spaces = {"T1w": ""} | (
        {TEMPLATE_SPACE: "_in_template"} if TEMPLATE_SPACE in settings.anatomy.output_spaces else {}
    )
    kinds = pet_kinds(plan)
    fields = [f"{kind}{suffix}" for kind in kinds for suffix in spaces.values()]
    _add_ends(workflow, fields)
    for kind, output in kinds.items():
        for space, suffix in spaces.items():
            files = list(_pet_files(session, settings, plan, kind, output, space))
            _save(workflow, f"{kind}{suffix}", files)
    return workflow


def init_space_outputs_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    space: str,
    name: str = "space_outputs_wf",
) -> pe.Workflow:
    """Save synthetic PET in a further standard space, and the transforms to it and back.

    Inputs
    ------
    to_space_xfm, from_space_xfm, mean, std
        files in the work folder, of mean and std one per tracer in the order of the plan
    """
    workflow = pe.Workflow(name=name)
    derivatives = names.Derivatives(settings.output_dir)
    kinds = pet_kinds(plan)
    _add_ends(workflow, ["to_space_xfm", "from_space_xfm", *kinds])
    for field, moving, fixed in (
        ("to_space_xfm", "T1w", space),
        ("from_space_xfm", space, "T1w"),
    ):
        path = derivatives.path(session, names.transform(moving, fixed))
        sidecar = sidecars.transform_sidecar(
            moving=moving,
            fixed=fixed,
            kind="SyN",
            sources=[names.raw_uri(session.t1w, settings.bids_dir)],
        )
        _save(workflow, field, [_File(field, str(path), sidecar)])
    for kind, output in kinds.items():
        _save(workflow, kind, list(_pet_files(session, settings, plan, kind, output, space)))
    return workflow


def pet_kinds(plan: SynthesisPlan) -> dict[str, names.Output]:
    """The images per tracer; one sample has no standard deviation."""
    return {"mean": names.SYNTH} | ({"std": names.SYNTH_STD} if plan.n_samples > 1 else {})


def init_region_outputs_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    atlas: Atlas,
    name: str = "region_outputs_wf",
) -> pe.Workflow:
    """Save regions and the tables of synthetic PET.

    Inputs
    ------
    regions, labels
        labels on the T1w grid, and the table of their names
    tables
        a TSV per tracer in the order of the plan

    Outputs
    -------
    the same names
        the files in OUT
    """
    derivatives = names.Derivatives(settings.output_dir)
    workflow = pe.Workflow(name=name)
    _add_ends(workflow, ["regions", "labels", "tables"])
    t1w = derivatives.uri(derivatives.path(session, names.T1W))
    sidecar = sidecars.regions_sidecar(atlas, t1w=t1w)
    for field, extension in (("regions", None), ("labels", ".tsv")):
        path = derivatives.path(session, names.REGIONS, atlas=atlas.label, extension=extension)
        _save(workflow, field, [_File(field, str(path), sidecar)])
    regions = derivatives.uri(derivatives.path(session, names.REGIONS, atlas=atlas.label))
    tables = []
    for label, tracer in plan.tracers.items():
        synth = derivatives.path(session, names.SYNTH, tracer=label, space="T1w")
        path = derivatives.path(session, names.SYNTH_SUVR, tracer=label, atlas=atlas.label)
        sidecar = sidecars.suvr_table_sidecar(
            tracer, atlas, _sampling(session, plan), sources=[derivatives.uri(synth), regions]
        )
        tables.append(_File("tables", str(path), sidecar))
    _save(workflow, "tables", tables)
    return workflow


def init_measured_outputs_wf(
    *,
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    label: str,
    pet: PetPlan,
    atlas: Atlas | None,
    name: str = "measured_outputs_wf",
) -> pe.Workflow:
    """Save what was made of one measured PET.

    Inputs
    ------
    pet_t1w
        SUVR on the T1w grid
    agreement
        TSV of one row
    table
        TSV of regions, where an atlas is given

    Outputs
    -------
    the same names
        the files in OUT
    """
    files = list(_measured_files(session, settings, plan, label, pet, atlas))
    workflow = pe.Workflow(name=name)
    _add_ends(workflow, [file.field for file in files])
    for file in files:
        _save(workflow, file.field, [file])
    return workflow


def _measured_files(
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    label: str,
    pet: PetPlan,
    atlas: Atlas | None,
) -> Iterator[_File]:
    derivatives, tracer = names.Derivatives(settings.output_dir), plan.tracers[label]
    path = derivatives.path(session, names.MEASURED, tracer=label)
    measured = derivatives.uri(path)
    sidecar = sidecars.measured_sidecar(
        tracer,
        pet,
        sources=[names.given_uri(pet.path, settings.bids_dir)],
        spatial_reference=derivatives.uri(derivatives.path(session, names.T1W)),
    )
    yield _File("pet_t1w", str(path), sidecar)
    synth = derivatives.uri(derivatives.path(session, names.SYNTH, tracer=label, space="T1w"))
    sidecar = sidecars.agreement_sidecar(
        tracer, _sampling(session, plan), sources=[synth, measured]
    )
    path = derivatives.path(session, names.AGREEMENT, tracer=label)
    yield _File("agreement", str(path), sidecar)
    if atlas is not None:
        regions = derivatives.uri(derivatives.path(session, names.REGIONS, atlas=atlas.label))
        sidecar = sidecars.suvr_table_sidecar(tracer, atlas, pet, sources=[measured, regions])
        path = derivatives.path(session, names.MEASURED_SUVR, tracer=label, atlas=atlas.label)
        yield _File("table", str(path), sidecar)


def anatomy_is_saved(session: Session, settings: Settings, brain_mask: Path | None) -> bool:
    """Whether OUT holds just what `init_anatomical_outputs_wf` would save, by the sidecars."""
    sidecars_there = []
    try:
        for file in _anatomical_files(session, settings):
            path = Path(file.path)
            if not path.exists():
                return False
            made = json.loads(json.dumps(dict(file.sidecar)))
            sidecars_there.append((read_json_object(sidecar_path(path)), made))
        if any(found | {HASHES: None} != made | {HASHES: None} for found, made in sidecars_there):
            return False
        # Hashing reads whole images, and so comes last.
        digests = hashes(sources(session, brain_mask))
    except (RelaBidsError, OSError):
        return False
    return all(found.get(HASHES) == digests for found, _ in sidecars_there)


def saved_by(workflow: pe.Workflow) -> list[Path]:
    """The files, sidecars among them, that the graph of a session leaves in OUT."""
    saved: set[Path] = set()
    for name in workflow.list_node_names():
        interface = workflow.get_node(name).interface
        if isinstance(interface, SaveDerivatives):
            for path in map(Path, interface.inputs.paths):
                saved |= {path, sidecar_path(path)}
    return sorted(saved)


def _add_ends(workflow: pe.Workflow, fields: Sequence[str]) -> None:
    workflow.add_nodes(
        [
            pe.Node(niu.IdentityInterface(fields=list(fields)), name=name)
            for name in ("inputnode", "outputnode")
        ]
    )


def _save(workflow: pe.Workflow, field: str, files: Sequence[_File]) -> pe.Node:
    """Add the node that saves what comes in at `field`, a file or a list of them."""
    save = pe.Node(
        SaveDerivatives(
            paths=[file.path for file in files], sidecars=[dict(file.sidecar) for file in files]
        ),
        name=f"save_{field}",
    )
    inputnode, outputnode = workflow.get_node("inputnode"), workflow.get_node("outputnode")
    workflow.connect(
        [
            (inputnode, save, [(field, "in_files")]),
            (save, outputnode, [("out_files", field)]),
        ]
    )
    return save


def _anatomical_files(session: Session, settings: Settings) -> Iterator[_File]:
    with_what = {MADE_WITH: made_with(settings.anatomy)}
    for field, path, sidecar in _anatomical_images(session, settings):
        yield _File(field, path, {**sidecar, **with_what})


def _anatomical_images(session: Session, settings: Settings) -> Iterator[_File]:
    derivatives = names.Derivatives(settings.output_dir)
    t1w = derivatives.path(session, names.T1W)
    t1w_raw = [names.raw_uri(session.t1w, settings.bids_dir)]
    stripped = settings.anatomy.skull_strip == "skip"
    yield _File(
        "t1w_preproc",
        str(t1w),
        sidecars.preproc_sidecar(
            description="T1w after bias field correction (N4)",
            skull_stripped=stripped,
            sources=t1w_raw,
        ),
    )
    yield _File(
        "brain_mask",
        str(derivatives.path(session, names.BRAIN_MASK)),
        sidecars.mask_sidecar(description="Brain mask of the T1w", sources=t1w_raw),
    )
    if session.flair is not None:
        yield _File(
            "flair_preproc",
            str(derivatives.path(session, names.FLAIR)),
            sidecars.preproc_sidecar(
                description="FLAIR after bias field correction (N4), rigidly registered to the T1w",
                skull_stripped=stripped,
                sources=[names.raw_uri(session.flair, settings.bids_dir), *t1w_raw],
                spatial_reference=derivatives.uri(t1w),
            ),
        )
    kind = "SyN" if settings.bend else "affine"
    for field, output, moving, fixed in (
        ("t1w_to_template_xfm", names.TO_TEMPLATE, "T1w", TEMPLATE_SPACE),
        ("template_to_t1w_xfm", names.FROM_TEMPLATE, TEMPLATE_SPACE, "T1w"),
    ):
        yield _File(
            field,
            str(derivatives.path(session, output)),
            sidecars.transform_sidecar(moving=moving, fixed=fixed, kind=kind, sources=t1w_raw),
        )


def _pet_files(
    session: Session,
    settings: Settings,
    plan: SynthesisPlan,
    kind: str,
    output: names.Output,
    space: str,
) -> Iterator[_File]:
    derivatives = names.Derivatives(settings.output_dir)
    images = {"T1w": session.t1w, "FLAIR": session.flair}
    uris = {
        image: names.raw_uri(path, settings.bids_dir)
        for image, path in images.items()
        if path is not None
    }
    sampling = sidecars.Sampling.of(plan, list(uris))
    t1w = derivatives.uri(derivatives.path(session, names.T1W))
    resolution = (
        {"Resolution": "That of the template's T1w"} if "res" in names.space_entities(space) else {}
    )
    for label, tracer in plan.tracers.items():
        yield _File(
            kind,
            str(derivatives.path(session, output, tracer=label, space=space)),
            resolution
            | sidecars.synth_sidecar(
                tracer,
                sampling,
                statistic=kind,
                sources=[uris[image] for image in sampling.inputs],
                spatial_reference=t1w if space == "T1w" else None,
            ),
        )


def _sampling(session: Session, plan: SynthesisPlan) -> sidecars.Sampling:
    given = {"T1w": session.t1w, "FLAIR": session.flair}
    return sidecars.Sampling.of(plan, [image for image, path in given.items() if path is not None])
