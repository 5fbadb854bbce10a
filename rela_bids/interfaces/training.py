"""A session's images on the model grid, kept for training."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from rela_bids.volumes import read_array


class _WriteExampleInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="bias-corrected, on the model grid")
    flair = File(exists=True, desc="bias-corrected, on the model grid")
    mask = File(exists=True, mandatory=True, desc="brain mask on the model grid")
    pets = traits.List(File(exists=True), mandatory=True, desc="SUVR on the model grid")
    tracers = traits.List(traits.Str, mandatory=True, desc="labels, in the order of the PET")
    subject = traits.Str(mandatory=True)
    session = traits.Str(mandatory=True, desc="empty where the dataset has none")
    folder = Directory(mandatory=True, desc="where examples are kept")


class _WriteExampleOutputSpec(TraitedSpec):
    example = Directory(exists=True, desc="the example's own folder")


class WriteExample(SimpleInterface):
    """`rela_bids.model.dataset.write_example` on files.

    It always runs: the work folder cannot know what became of the example.
    """

    input_spec = _WriteExampleInputSpec
    output_spec = _WriteExampleOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.model.dataset import Example, write_example

        inputs = self.inputs
        example = Example(
            subject=inputs.subject,
            session=inputs.session or None,
            t1w=read_array(inputs.t1w),
            flair=read_array(inputs.flair) if isdefined(inputs.flair) else None,
            mask=read_array(inputs.mask) > 0,
            pets=dict(zip(inputs.tracers, map(read_array, inputs.pets), strict=True)),
        )
        self._results["example"] = str(write_example(Path(inputs.folder), example))
        return runtime
