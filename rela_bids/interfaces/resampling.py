"""Nipype shells around the resampling of `rela_bids.transforms`."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from rela_bids import likeness, transforms
from rela_bids.volumes import Grid, read_array


class _ModelInputsInput(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="bias-corrected")
    flair = File(exists=True, desc="bias-corrected, on the T1w grid")
    brain_mask = File(exists=True, mandatory=True, desc="on the T1w grid")
    t1w_to_template_affine = File(exists=True, mandatory=True, desc="ITK .mat")
    shape = traits.Tuple(traits.Int, traits.Int, traits.Int, mandatory=True)
    voxel_size = traits.Float(mandatory=True, desc="mm")
    origin = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc="RAS+ mm")


class _ModelInputsOutput(TraitedSpec):
    t1w = File(exists=True)
    flair = File(desc="undefined where there is none")
    mask = File(exists=True, desc="uint8")


class ModelInputs(SimpleInterface):
    """T1w, FLAIR and mask on the model grid (`transforms.model_inputs`)."""

    input_spec = _ModelInputsInput
    output_spec = _ModelInputsOutput

    def _run_interface(self, runtime):
        grid = Grid(self.inputs.shape, self.inputs.voxel_size, self.inputs.origin)
        matrix = transforms.read_affine(self.inputs.t1w_to_template_affine)
        images = {
            modality: nib.load(path)
            for modality in ("t1w", "flair")
            if isdefined(path := getattr(self.inputs, modality))
        }
        mri, mask = transforms.model_inputs(images, nib.load(self.inputs.brain_mask), matrix, grid)
        for key, data in {**mri, "mask": mask.astype(np.uint8)}.items():
            path = Path(runtime.cwd, f"{key}.nii.gz")
            nib.save(grid.image(data), path)
            self._results[key] = str(path)
        return runtime


class _CheckInputsInput(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="on the model grid")
    flair = File(exists=True, desc="on the model grid")
    mask = File(exists=True, mandatory=True, desc="on the model grid")
    grid = traits.Any(mandatory=True, desc="the model's Grid")


class _CheckInputsOutput(TraitedSpec):
    likeness = File(exists=True, desc="JSON of `likeness.Likeness`")


class CheckInputs(SimpleInterface):
    """Whether the MRI looks like what models are trained on (`likeness.measure_likeness`)."""

    input_spec = _CheckInputsInput
    output_spec = _CheckInputsOutput

    def _run_interface(self, runtime):
        inputs = self.inputs
        found = likeness.measure_likeness(
            read_array(inputs.t1w),
            read_array(inputs.flair) if isdefined(inputs.flair) else None,
            read_array(inputs.mask) > 0,
            inputs.grid,
        )
        path = Path(runtime.cwd, "likeness.json")
        path.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
        self._results["likeness"] = str(path)
        return runtime


class _AffineOfCompositeInput(BaseInterfaceInputSpec):
    composite = File(exists=True, mandatory=True, desc="ITK .h5")


class _AffineOfCompositeOutput(TraitedSpec):
    affine = File(exists=True, desc="ITK .mat")


class AffineOfComposite(SimpleInterface):
    """The affine part of a transform (`transforms.affine_of_composite`)."""

    input_spec = _AffineOfCompositeInput
    output_spec = _AffineOfCompositeOutput

    def _run_interface(self, runtime):
        path = Path(runtime.cwd, "affine.mat")
        transforms.write_affine(path, transforms.affine_of_composite(self.inputs.composite))
        self._results["affine"] = str(path)
        return runtime
