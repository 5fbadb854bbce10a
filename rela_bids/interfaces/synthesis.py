"""Sampling PET, and bringing it back to the person's own grid."""

from collections import defaultdict
from pathlib import Path
from typing import Any

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

from rela_bids.volumes import read_array

# The sampling node keeps this file in its folder while it runs: "passes done, passes in all".
PROGRESS_FILE = "progress"


class _SamplePETInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="T1w on the model grid")
    flair = File(exists=True, desc="FLAIR on the model grid")
    brain_mask = File(exists=True, mandatory=True, desc="brain mask on the model grid")
    model = File(exists=True, mandatory=True, desc="model file")
    tracers = traits.List(traits.Str, mandatory=True, desc="labels")
    n_samples = traits.Int(mandatory=True)
    sampling_steps = traits.Int(mandatory=True)
    random_seed = traits.Int(mandatory=True)
    names = traits.List(traits.Str, mandatory=True, desc="subject and session, seeding the noise")
    device = traits.Str("cpu", usedefault=True)
    threads = traits.Int(1, usedefault=True, nohash=True)


class _SamplePETOutputSpec(TraitedSpec):
    mean = traits.List(File(exists=True), desc="mean of the samples per tracer, SUVR")
    std = traits.List(File(exists=True), desc="standard deviation of the samples per tracer, SUVR")
    samples = traits.List(
        File(exists=True), desc="per tracer, .npy, float16, SUVR, (samples, voxels of the mask)"
    )


class SamplePET(SimpleInterface):
    """`rela_bids.synthesis.sample_pet` on files on the model grid."""

    input_spec = _SamplePETInputSpec
    output_spec = _SamplePETOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.model.checkpoint import load_model
        from rela_bids.synthesis import Sampling, sample_pet

        inputs, folder = self.inputs, Path(runtime.cwd)
        sampling = Sampling(
            n_samples=inputs.n_samples,
            steps=inputs.sampling_steps,
            seed=inputs.random_seed,
            names=tuple(inputs.names),
            device=inputs.device,
            threads=inputs.threads,
        )
        results: dict[str, list[str]] = {"mean": [], "std": [], "samples": []}
        t1w, mask = nib.load(inputs.t1w), read_array(inputs.brain_mask) > 0
        # Half precision and the mask alone: with 16 samples of six tracers some 40 MB.
        samples: dict[str, list[Any]] = defaultdict(list)
        for pet in sample_pet(
            load_model(inputs.model, device=inputs.device),
            read_array(inputs.t1w),
            read_array(inputs.flair) if isdefined(inputs.flair) else None,
            mask,
            inputs.tracers,
            sampling,
            lambda done, total: (folder / PROGRESS_FILE).write_text(f"{done} {total}"),
            lambda label, suvr: samples[label].append(suvr[mask].astype(np.float16)),
        ):
            for kind, data in (("mean", pet.mean), ("std", pet.std)):
                path = folder / f"{kind}_{pet.tracer.label}.nii.gz"
                nib.Nifti1Image(data, t1w.affine).to_filename(path)
                results[kind].append(str(path))
            path = folder / f"samples_{pet.tracer.label}.npy"
            np.save(path, np.stack(samples.pop(pet.tracer.label)))
            results["samples"].append(str(path))
        self._results = results
        return runtime


class _ToT1wInputSpec(BaseInterfaceInputSpec):
    volumes = traits.List(File(exists=True), mandatory=True, desc="on the model grid")
    reference = File(exists=True, mandatory=True, desc="preprocessed T1w")
    brain_mask = File(exists=True, mandatory=True, desc="on the grid of the reference")
    t1w_to_template = File(exists=True, mandatory=True, desc="affine")
    grid = traits.Any(mandatory=True, desc="the model's Grid")


class _ToT1wOutputSpec(TraitedSpec):
    volumes = traits.List(
        File(exists=True), desc="on the grid of the reference, 0 outside the mask"
    )


class ToT1w(SimpleInterface):
    """`rela_bids.synthesis.on_t1w` on files."""

    input_spec = _ToT1wInputSpec
    output_spec = _ToT1wOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.synthesis import on_t1w
        from rela_bids.transforms import read_affine

        reference = nib.load(self.inputs.reference)
        mask = read_array(self.inputs.brain_mask) > 0
        affine = read_affine(self.inputs.t1w_to_template)
        written = []
        for volume in self.inputs.volumes:
            image = on_t1w(read_array(volume), affine, self.inputs.grid, reference, mask)
            path = Path(runtime.cwd, Path(volume).name)
            image.to_filename(path)
            written.append(str(path))
        self._results["volumes"] = written
        return runtime


class _ToTemplateInputSpec(BaseInterfaceInputSpec):
    volumes = traits.List(File(exists=True), mandatory=True, desc="on the T1w grid")
    transform = File(exists=True, mandatory=True, desc="composite from T1w to template")
    template = File(exists=True, mandatory=True, desc="the image whose grid is taken")


class _ToTemplateOutputSpec(TraitedSpec):
    volumes = traits.List(File(exists=True), desc="on the template's grid")


class ToTemplate(SimpleInterface):
    """Volumes of the T1w's space on the template's grid, linear interpolation."""

    input_spec = _ToTemplateInputSpec
    output_spec = _ToTemplateOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import ants

        template = ants.image_read(self.inputs.template)
        written = []
        for volume in self.inputs.volumes:
            moved = ants.apply_transforms(
                fixed=template,
                moving=ants.image_read(volume),
                transformlist=[self.inputs.transform],
                interpolator="linear",
            )
            path = str(Path(runtime.cwd, Path(volume).name))
            ants.image_write(moved, path)
            written.append(path)
        self._results["volumes"] = written
        return runtime
