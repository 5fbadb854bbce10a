"""Nipype shells around `rela_bids.regions` and `rela_bids.regional_table`."""

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

from rela_bids.volumes import read_array


class _FindRegionsInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="bias-corrected")
    brain_mask = File(exists=True, mandatory=True, desc="on the T1w grid")
    template_to_t1w = File(exists=True, mandatory=True, desc="ITK composite with SyN")
    atlas = traits.Any(mandatory=True, desc="`rela_bids.atlases.Atlas`")


class _FindRegionsOutputSpec(TraitedSpec):
    regions = File(exists=True, desc="labels on the T1w grid")
    labels = File(exists=True, desc="TSV of their names")


class FindRegions(SimpleInterface):
    """The atlas on a person's T1w (`regions.person_regions`)."""

    input_spec = _FindRegionsInputSpec
    output_spec = _FindRegionsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.atlases import labels_table
        from rela_bids.regions import person_regions

        inputs, folder = self.inputs, Path(runtime.cwd)
        image = person_regions(
            nib.load(inputs.t1w),
            nib.load(inputs.brain_mask),
            Path(inputs.template_to_t1w),
            inputs.atlas,
        )
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / "regions.nii.gz")
        (folder / "labels.tsv").write_text(labels_table(inputs.atlas), encoding="utf-8")
        self._results["regions"] = str(folder / "regions.nii.gz")
        self._results["labels"] = str(folder / "labels.tsv")
        return runtime


class _MeasureSyntheticInputSpec(BaseInterfaceInputSpec):
    regions = File(exists=True, mandatory=True, desc="labels on the T1w grid")
    mean = traits.List(File(exists=True), mandatory=True, desc="per tracer, SUVR, on the T1w grid")
    samples = traits.List(File(exists=True), mandatory=True, desc="per tracer, .npy, SUVR")
    mask = File(exists=True, mandatory=True, desc="brain mask on the model grid")
    t1w_to_template_affine = File(exists=True, mandatory=True, desc="ITK .mat")
    tracers = traits.List(traits.Any, mandatory=True, desc="`rela_bids.tracers.Tracer`, in order")
    atlas = traits.Any(mandatory=True, desc="`rela_bids.atlases.Atlas`")
    grid = traits.Any(mandatory=True, desc="the model's Grid")


class _MeasureSyntheticOutputSpec(TraitedSpec):
    tables = traits.List(File(exists=True), desc="TSV per tracer")


class MeasureSynthetic(SimpleInterface):
    """SUVR of each region, its spread over samples (`regional_table.measure_synthetic`)."""

    input_spec = _MeasureSyntheticInputSpec
    output_spec = _MeasureSyntheticOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.regional_table import measure_synthetic, tsv_of
        from rela_bids.regions import mean_weights
        from rela_bids.transforms import read_affine

        inputs, tables = self.inputs, []
        labels, voxel_ml = _labels(inputs.regions)
        weights = mean_weights(
            nib.load(inputs.regions),
            list(inputs.atlas.names),
            read_affine(inputs.t1w_to_template_affine),
            inputs.grid,
            read_array(inputs.mask) > 0,
        )
        for mean, samples, tracer in zip(inputs.mean, inputs.samples, inputs.tracers, strict=True):
            of_samples = (weights @ np.load(samples).astype(np.float32).T).T
            rows = measure_synthetic(
                read_array(mean), labels, voxel_ml, of_samples, inputs.atlas, tracer
            )
            path = Path(runtime.cwd, f"suvr_{tracer.label}.tsv")
            path.write_text(tsv_of(rows), encoding="utf-8")
            tables.append(str(path))
        self._results["tables"] = tables
        return runtime


class _MeasurePetInputSpec(BaseInterfaceInputSpec):
    regions = File(exists=True, mandatory=True, desc="labels on the T1w grid")
    pet = File(exists=True, mandatory=True, desc="measured, SUVR, on the T1w grid")
    tracer = traits.Any(mandatory=True, desc="`rela_bids.tracers.Tracer`")
    atlas = traits.Any(mandatory=True, desc="`rela_bids.atlases.Atlas`")


class _MeasurePetOutputSpec(TraitedSpec):
    table = File(exists=True, desc="TSV")


class MeasurePet(SimpleInterface):
    """SUVR of each region of a measured PET (`regional_table.measure_pet`)."""

    input_spec = _MeasurePetInputSpec
    output_spec = _MeasurePetOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.regional_table import measure_pet, tsv_of

        inputs = self.inputs
        labels, voxel_ml = _labels(inputs.regions)
        rows = measure_pet(read_array(inputs.pet), labels, voxel_ml, inputs.atlas, inputs.tracer)
        path = Path(runtime.cwd, "suvr.tsv")
        path.write_text(tsv_of(rows), encoding="utf-8")
        self._results["table"] = str(path)
        return runtime


def _labels(path: str) -> tuple[Any, float]:
    """The labels, and the volume of a voxel, ml."""
    image = nib.load(path)
    return np.asarray(image.dataobj), float(abs(np.linalg.det(image.affine[:3, :3])) / 1000)


class _CompareInputSpec(BaseInterfaceInputSpec):
    synthetic = File(exists=True, mandatory=True, desc="SUVR, on the T1w grid")
    measured = File(exists=True, mandatory=True, desc="SUVR, on the T1w grid, 0 where not seen")
    brain_mask = File(exists=True, mandatory=True, desc="on the T1w grid")
    data_range = traits.Float(mandatory=True, desc="SUVR; the tracer's constant")


class _CompareOutputSpec(TraitedSpec):
    table = File(exists=True, desc="TSV of one row")


class Compare(SimpleInterface):
    """How near a synthetic PET is to the measured one (`quantification.agreement`)."""

    input_spec = _CompareInputSpec
    output_spec = _CompareOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.quantification import Agreement, agreement
        from rela_bids.regional_table import tsv_of

        inputs = self.inputs
        measured = read_array(inputs.measured)
        inside = (read_array(inputs.brain_mask) > 0) & (measured != 0)
        found = agreement(read_array(inputs.synthetic), measured, inside, inputs.data_range)
        path = Path(runtime.cwd, "agreement.tsv")
        path.write_text(tsv_of([found], list(Agreement.__dataclass_fields__)), encoding="utf-8")
        self._results["table"] = str(path)
        return runtime
