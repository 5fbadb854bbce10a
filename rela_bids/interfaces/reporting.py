"""Pictures of a session, and their way into OUT."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _DrawFiguresInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="preprocessed T1w")
    brain_mask = File(exists=True, mandatory=True, desc="on the T1w grid")
    flair = File(exists=True, desc="preprocessed FLAIR on the T1w grid")
    t1w_to_template_affine = File(exists=True, mandatory=True, desc="ITK .mat")
    template = File(exists=True, mandatory=True, desc="stripped T1w of the template")
    mask_qc = File(exists=True, mandatory=True, desc="JSON of `brain_mask.MaskQuality`")
    likeness = File(exists=True, mandatory=True, desc="JSON of `likeness.Likeness`")
    mean = InputMultiObject(File(exists=True), mandatory=True, desc="per tracer, on the T1w grid")
    std = InputMultiObject(File(exists=True), desc="per tracer, on the T1w grid")
    tracers = traits.List(traits.Any, mandatory=True, desc="`rela_bids.tracers.Tracer`, in order")
    prefix = traits.Str(mandatory=True, desc="what names of the pictures begin with")
    results_name = traits.Str(mandatory=True, desc="name of the JSON")


class _DrawFiguresOutputSpec(TraitedSpec):
    figures = traits.List(File(exists=True), desc="WebP")
    results = File(exists=True, desc="JSON of `rela_bids.reports.summary.Results`")


class DrawFigures(SimpleInterface):
    """`rela_bids.reports.session.draw_session` on files."""

    input_spec = _DrawFiguresInputSpec
    output_spec = _DrawFiguresOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.reports.session import SessionImages, draw_session
        from rela_bids.transforms import read_affine

        inputs, folder = self.inputs, Path(runtime.cwd)
        images = SessionImages(
            t1w=Path(inputs.t1w),
            brain_mask=Path(inputs.brain_mask),
            flair=Path(inputs.flair) if isdefined(inputs.flair) else None,
            to_template=read_affine(inputs.t1w_to_template_affine),
            template=Path(inputs.template),
            tracers=inputs.tracers,
            mean=[Path(path) for path in inputs.mean],
            std=[Path(path) for path in inputs.std] if isdefined(inputs.std) else [],
        )
        quality, likeness = (
            json.loads(Path(path).read_text(encoding="utf-8"))
            for path in (inputs.mask_qc, inputs.likeness)
        )
        results, pictures = draw_session(images, quality, inputs.prefix)
        results = replace(results, likeness=likeness)
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
        path = folder / inputs.results_name
        path.write_text(json.dumps(asdict(results), indent=2), encoding="utf-8")
        self._results["figures"] = [str(folder / name) for name in pictures]
        self._results["results"] = str(path)
        return runtime


class _DrawMeasuredInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="preprocessed T1w")
    brain_mask = File(exists=True, mandatory=True, desc="on the T1w grid")
    measured = File(exists=True, mandatory=True, desc="SUVR, on the T1w grid")
    synthetic = File(exists=True, mandatory=True, desc="SUVR, on the T1w grid")
    tables = traits.List(File(exists=True), desc="TSV of synthetic PET per tracer")
    number = traits.Int(mandatory=True, desc="of the tracer in `tables`")
    measured_table = File(exists=True, desc="TSV of the measured PET")
    agreement = File(exists=True, mandatory=True, desc="TSV of `quantification.Agreement`")
    pet_report = File(exists=True, mandatory=True, desc="JSON of `pet_target.report`")
    tracer = traits.Any(mandatory=True, desc="`rela_bids.tracers.Tracer`")
    prefix = traits.Str(mandatory=True, desc="what names of the pictures begin with")
    results_name = traits.Str(mandatory=True, desc="name of the JSON")


class _DrawMeasuredOutputSpec(TraitedSpec):
    figures = traits.List(File(exists=True), desc="WebP and SVG")
    results = File(exists=True, desc="JSON of `rela_bids.reports.summary.MeasuredRecord`")


class DrawMeasured(SimpleInterface):
    """`rela_bids.reports.measured.draw_measured` on files."""

    input_spec = _DrawMeasuredInputSpec
    output_spec = _DrawMeasuredOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.regional_table import read_numbers, read_rows
        from rela_bids.reports.measured import MeasuredImages, draw_measured

        inputs, folder = self.inputs, Path(runtime.cwd)
        images = MeasuredImages(
            t1w=Path(inputs.t1w),
            brain_mask=Path(inputs.brain_mask),
            measured=Path(inputs.measured),
            synthetic=Path(inputs.synthetic),
            tracer=inputs.tracer,
        )
        regions = isdefined(inputs.measured_table)
        record, pictures = draw_measured(
            images,
            synthetic=read_rows(Path(inputs.tables[inputs.number])) if regions else [],
            measured=read_rows(Path(inputs.measured_table)) if regions else [],
            agreement=read_numbers(Path(inputs.agreement)),
            pet=json.loads(Path(inputs.pet_report).read_text(encoding="utf-8")),
            prefix=inputs.prefix,
        )
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
        path = folder / inputs.results_name
        path.write_text(json.dumps(asdict(record), indent=2), encoding="utf-8")
        self._results["figures"] = [str(folder / name) for name in pictures]
        self._results["results"] = str(path)
        return runtime


class _SaveFiguresInputSpec(BaseInterfaceInputSpec):
    figures = traits.List(File(exists=True), mandatory=True)
    results = File(exists=True, mandatory=True, desc="saved last: it says that the figures are")
    folder = Directory(mandatory=True, desc="in OUT")


class _SaveFiguresOutputSpec(TraitedSpec):
    results = File(exists=True, desc="the file in OUT")


class SaveFigures(SimpleInterface):
    """Copy pictures and their record to OUT, each whole or not at all; always runs."""

    input_spec = _SaveFiguresInputSpec
    output_spec = _SaveFiguresOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.atomic import copy

        folder = Path(self.inputs.folder)
        saved = [
            copy(Path(path), folder / Path(path).name)
            for path in [*self.inputs.figures, self.inputs.results]
        ]
        self._results["results"] = str(saved[-1])
        return runtime
