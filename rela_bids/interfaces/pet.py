"""Nipype shells around `rela_bids.realignment` and `rela_bids.pet_target`."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class _LoadFramesInputSpec(BaseInterfaceInputSpec):
    # The plan names it too; as a file its content decides whether the node runs again.
    in_file = File(exists=True, mandatory=True, desc="PET, 3-D or 4-D")
    plan = traits.Any(mandatory=True, desc="`rela_bids.frames.PetPlan`")


class _LoadFramesOutputSpec(TraitedSpec):
    frames = File(exists=True, desc="4-D, float32, not compressed: read frame by frame")


class LoadFrames(SimpleInterface):
    """The frames of the plan (`pet_target.load_frames`)."""

    input_spec = _LoadFramesInputSpec
    output_spec = _LoadFramesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.pet_target import load_frames

        path = Path(runtime.cwd, "frames.nii")
        nib.save(load_frames(self.inputs.plan), path)
        self._results["frames"] = str(path)
        return runtime


class _AverageFramesInputSpec(BaseInterfaceInputSpec):
    frames = File(exists=True, mandatory=True, desc="4-D")
    plan = traits.Any(mandatory=True, desc="`rela_bids.frames.PetPlan`")


class _AverageFramesOutputSpec(TraitedSpec):
    pet = File(exists=True, desc="average weighted by duration")
    motion = traits.List(traits.Float, desc="of each frame, mm")


class AverageFrames(SimpleInterface):
    """Realigned where nobody did so before, and averaged (`realignment.realign`, `average`)."""

    input_spec = _AverageFramesInputSpec
    output_spec = _AverageFramesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.pet_target import ORDER, frames_of
        from rela_bids.realignment import average, realign

        plan = self.inputs.plan
        frames = frames_of(nib.load(self.inputs.frames))
        weights = plan.durations or (1.0,)
        matrices, motion = [np.eye(4)] * len(frames), [0.0] * len(frames)
        if not plan.prepared:
            matrices, motion = realign(frames, weights)
        path = Path(runtime.cwd, "pet.nii.gz")
        nib.save(average(frames, matrices, weights, order=ORDER), path)
        self._results.update(pet=str(path), motion=motion)
        return runtime


class _PetToT1wInputSpec(BaseInterfaceInputSpec):
    pet = File(exists=True, mandatory=True, desc="average of the frames")
    t1w = File(exists=True, mandatory=True, desc="bias-corrected, whole head")
    brain_mask = File(exists=True, mandatory=True, desc="on the T1w grid")
    plan = traits.Any(mandatory=True, desc="`rela_bids.frames.PetPlan`")


class _PetToT1wOutputSpec(TraitedSpec):
    affine = File(exists=True, desc="ITK .mat, PET to T1w, rigid")


class PetToT1w(SimpleInterface):
    """Rigid alignment with the T1w (`pet_target.pet_to_t1w`); none where it lies there already."""

    input_spec = _PetToT1wInputSpec
    output_spec = _PetToT1wOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.pet_target import pet_to_t1w
        from rela_bids.transforms import write_affine

        matrix = np.eye(4)
        if not self.inputs.plan.in_t1w_space:
            images = (self.inputs.pet, self.inputs.t1w, self.inputs.brain_mask)
            matrix = pet_to_t1w(*(nib.load(path) for path in images))
        path = Path(runtime.cwd, "pet_to_t1w.mat")
        write_affine(path, matrix)
        self._results["affine"] = str(path)
        return runtime


class _PetSUVRInputSpec(_PetToT1wInputSpec):
    motion = traits.List(traits.Float, mandatory=True, desc="of each frame, mm, for the report")
    pet_to_t1w = File(exists=True, mandatory=True, desc="ITK .mat")
    t1w_to_template_affine = File(exists=True, mandatory=True, desc="ITK .mat")
    tracer = traits.Any(mandatory=True, desc="`rela_bids.tracers.Tracer`")
    grid = traits.Any(mandatory=True, desc="the model's Grid")


class _PetSUVROutputSpec(TraitedSpec):
    pet_on_grid = File(exists=True, desc="SUVR on the model grid")
    pet_t1w = File(exists=True, desc="SUVR on the T1w grid")
    report = File(exists=True, desc="JSON of `pet_target.report`")


class PetSUVR(SimpleInterface):
    """SUVR on both grids, and what there is to say of it (`pet_target.suvr`, `report`)."""

    input_spec = _PetSUVRInputSpec
    output_spec = _PetSUVROutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.atomic import write_json
        from rela_bids.pet_target import offset_in_brain, report, suvr
        from rela_bids.transforms import read_affine

        inputs, folder = self.inputs, Path(runtime.cwd)
        t1w, brain_mask = nib.load(inputs.t1w), nib.load(inputs.brain_mask)
        matrix = read_affine(inputs.pet_to_t1w)
        result = suvr(
            nib.load(inputs.pet),
            matrix,
            plan=inputs.plan,
            tracer=inputs.tracer,
            t1w=t1w,
            brain_mask=brain_mask,
            to_template=read_affine(inputs.t1w_to_template_affine),
            grid=inputs.grid,
        )
        images = {
            "pet_on_grid": inputs.grid.image(result.on_grid),
            "pet_t1w": nib.Nifti1Image(result.on_t1w, t1w.affine),
        }
        for name, image in images.items():
            path = folder / f"{name}.nii.gz"
            image.header.set_xyzt_units("mm")
            nib.save(image, path)
            self._results[name] = str(path)
        offset = offset_in_brain(matrix, brain_mask)
        content = report(inputs.plan, inputs.tracer, inputs.motion, offset, result)
        self._results["report"] = str(write_json(folder / "pet_report.json", content))
        return runtime
