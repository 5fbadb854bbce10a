"""Nipype shells around `rela_bids.registration` and `rela_bids.brain_mask`."""

import json
import logging
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

from rela_bids import brain_mask, head_templates, registration, transforms, volumes

LOGGER = logging.getLogger("rela_bids")


def _save(image: nib.Nifti1Image, runtime: object, name: str) -> str:
    path = Path(runtime.cwd, name)
    nib.save(image, path)
    return str(path)


class _InFile(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="scan, any header that scanners write")


class _OutFile(TraitedSpec):
    out_file = File(exists=True)


class LoadVolume(SimpleInterface):
    """One 3-D float32 volume with an unambiguous header (`volumes.load_volume`)."""

    input_spec = _InFile
    output_spec = _OutFile

    def _run_interface(self, runtime):
        image = volumes.load_volume(self.inputs.in_file)
        self._results["out_file"] = _save(image, runtime, "loaded.nii.gz")
        return runtime


class _CorrectBiasInput(_InFile):
    out_name = traits.Str("corrected.nii.gz", usedefault=True)


class CorrectBias(SimpleInterface):
    """N4 over the whole head (`registration.correct_bias`)."""

    input_spec = _CorrectBiasInput
    output_spec = _OutFile

    def _run_interface(self, runtime):
        corrected = registration.correct_bias(nib.load(self.inputs.in_file))
        self._results["out_file"] = _save(corrected, runtime, self.inputs.out_name)
        return runtime


class _ExtractBrainInput(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="bias-corrected, whole head")
    template = File(exists=True, mandatory=True, desc="T1w of a brain, 0 outside")
    method = traits.Enum("ants", "deepbet", "skip", usedefault=True)
    head_t1w = File(exists=True, requires=["head_mask"], desc="T1w template of a whole head")
    head_mask = File(exists=True, desc="its brain mask")


class _ExtractBrainOutput(TraitedSpec):
    mask = File(exists=True, desc="uint8, on the T1w grid")


class ExtractBrain(SimpleInterface):
    """A brain mask by one of the methods of ``--skull-strip`` (`brain_mask.make_mask`)."""

    input_spec = _ExtractBrainInput
    output_spec = _ExtractBrainOutput

    def _run_interface(self, runtime):
        mask = brain_mask.make_mask(
            nib.load(self.inputs.t1w),
            nib.load(self.inputs.template),
            self.inputs.method,
            self._whole_head(),
        )
        self._results["mask"] = _save(mask, runtime, "mask.nii.gz")
        return runtime

    def _whole_head(self):
        if not isdefined(self.inputs.head_t1w):
            return None
        return head_templates.load_marked(self.inputs.head_t1w, self.inputs.head_mask)


class _AdoptMaskInput(BaseInterfaceInputSpec):
    given_mask = File(exists=True, mandatory=True, desc="of the brain, any grid in T1w space")
    t1w = File(exists=True, mandatory=True, desc="bias-corrected")


class AdoptMask(SimpleInterface):
    """A brain mask that another program made (`brain_mask.adopt_mask`)."""

    input_spec = _AdoptMaskInput
    output_spec = _ExtractBrainOutput

    def _run_interface(self, runtime):
        t1w = nib.load(self.inputs.t1w)
        mask = brain_mask.adopt_mask(Path(self.inputs.given_mask), t1w)
        self._results["mask"] = _save(mask, runtime, "mask.nii.gz")
        return runtime


class _BrainInput(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="bias-corrected")
    mask = File(exists=True, mandatory=True, desc="of the brain, on the T1w grid")
    template = File(exists=True, mandatory=True, desc="T1w of a brain, 0 outside")


class _AffineOutput(TraitedSpec):
    affine = File(exists=True, desc="ITK .mat, T1w to template")


class BrainToTemplate(SimpleInterface):
    """Affine of the stripped T1w to the stripped template (`registration.brain_to_template`)."""

    input_spec = _BrainInput
    output_spec = _AffineOutput

    def _run_interface(self, runtime):
        matrix = registration.align_brain(*_brain_and_template(self.inputs))
        path = Path(runtime.cwd, "t1w_to_template.mat")
        transforms.write_affine(path, matrix)
        self._results["affine"] = str(path)
        return runtime


def _brain_and_template(inputs: object) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    brain = brain_mask.strip(nib.load(inputs.t1w), nib.load(inputs.mask))
    return brain, nib.load(inputs.template)


class _StripTemplateInput(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="of a template, whole head")
    mask = File(exists=True, mandatory=True, desc="of its brain")


class _StripTemplateOutput(TraitedSpec):
    brain = File(exists=True, desc="the T1w on its own grid, 0 outside the brain")


class StripTemplate(SimpleInterface):
    """The brain of a template (`head_templates.load_marked`)."""

    input_spec = _StripTemplateInput
    output_spec = _StripTemplateOutput

    def _run_interface(self, runtime):
        t1w, mask = head_templates.load_marked(self.inputs.t1w, self.inputs.mask)
        data = np.where(np.asarray(mask.dataobj) > 0, np.asarray(t1w.dataobj, np.float32), 0)
        brain = nib.Nifti1Image(data.astype(np.float32), t1w.affine)
        self._results["brain"] = _save(brain, runtime, "template_brain.nii.gz")
        return runtime


class _JudgeMaskInput(_BrainInput):
    affine = File(exists=True, mandatory=True, desc="ITK .mat, T1w to template")
    source = traits.Str(mandatory=True, desc="the T1w as the user knows it, for messages")


class _JudgeMaskOutput(TraitedSpec):
    mask = File(exists=True, desc="the mask that came in, once it is known to be usable")
    quality = File(exists=True, desc="JSON of `brain_mask.MaskQuality`")


class JudgeMask(SimpleInterface):
    """Let a usable mask through; fail where it is certainly wrong, warn where it is doubtful."""

    input_spec = _JudgeMaskInput
    output_spec = _JudgeMaskOutput

    def _run_interface(self, runtime):
        quality = brain_mask.mask_quality(
            nib.load(self.inputs.t1w),
            nib.load(self.inputs.mask),
            transforms.read_affine(self.inputs.affine),
            nib.load(self.inputs.template),
        )
        path = Path(runtime.cwd, "mask_quality.json")
        path.write_text(json.dumps(quality.to_dict(), indent=2) + "\n")
        brain_mask.require_usable(quality, self.inputs.source)
        if quality.verdict == "warn":
            LOGGER.warning("Brain mask of %s is doubtful: %s", self.inputs.source, quality.reason)
        self._results.update(mask=self.inputs.mask, quality=str(path))
        return runtime


class _FlairInput(BaseInterfaceInputSpec):
    flair = File(exists=True, mandatory=True, desc="bias-corrected, whole head")
    t1w = File(exists=True, mandatory=True, desc="bias-corrected, whole head")
    mask = File(exists=True, mandatory=True, desc="of the brain, on the T1w grid")


class _FlairOutput(TraitedSpec):
    flair = File(exists=True, desc="on the T1w grid")
    affine = File(exists=True, desc="ITK .mat, FLAIR to T1w, rigid")


class FlairToT1w(SimpleInterface):
    """Rigid alignment of the FLAIR, and the FLAIR on the T1w grid (`flair_to_t1w`)."""

    input_spec = _FlairInput
    output_spec = _FlairOutput

    def _run_interface(self, runtime):
        flair, t1w, mask = (
            nib.load(path) for path in (self.inputs.flair, self.inputs.t1w, self.inputs.mask)
        )
        matrix = registration.flair_to_t1w(flair, t1w, mask)
        path = Path(runtime.cwd, "flair_to_t1w.mat")
        transforms.write_affine(path, matrix)
        moved = transforms.resample(flair, t1w, matrix)
        self._results["affine"] = str(path)
        self._results["flair"] = _save(moved, runtime, "flair_on_t1w.nii.gz")
        return runtime


class _CompositesInput(_BrainInput):
    affine = File(exists=True, mandatory=True, desc="ITK .mat, T1w to template")
    bend = traits.Bool(mandatory=True, desc="SyN after the affine")


class _CompositesOutput(TraitedSpec):
    to_template = File(exists=True, desc="ITK .h5, T1w to template")
    from_template = File(exists=True, desc="ITK .h5, template to T1w")


class Composites(SimpleInterface):
    """Both directions of the transform to the template as ITK composites, bent where asked."""

    input_spec = _CompositesInput
    output_spec = _CompositesOutput

    def _run_interface(self, runtime):
        matrix = transforms.read_affine(self.inputs.affine)
        forward, backward = [matrix], [np.linalg.inv(matrix)]
        if self.inputs.bend:
            brain, template = _brain_and_template(self.inputs)
            found = registration.bend_to_template(brain, template, matrix)
            # The affine as it is everywhere else: ANTs hands it back rounded to single precision.
            forward = [found.field, matrix]
            backward = [np.linalg.inv(matrix), found.inverse_field]
        for name, steps in (("to_template", forward), ("from_template", backward)):
            path = Path(runtime.cwd, f"{name}.h5")
            transforms.write_composite(path, steps)
            self._results[name] = str(path)
        return runtime
