"""Results from the work folder into the derivatives dataset."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class _SaveDerivativesInputSpec(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    paths = traits.List(traits.Str, mandatory=True, desc="where each belongs in OUT")
    sidecars = traits.List(traits.Dict, mandatory=True, desc="content of the JSON beside each")


class _SaveDerivativesOutputSpec(TraitedSpec):
    out_files = OutputMultiObject(File(exists=True), desc="the files in OUT")


class SaveDerivatives(SimpleInterface):
    """Copy files to their places in OUT, the sidecar first, each whole or not at all.

    It always runs: the work folder cannot know what became of OUT.
    """

    input_spec = _SaveDerivativesInputSpec
    output_spec = _SaveDerivativesOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.atomic import copy, write_json

        inputs, saved = self.inputs, []
        for source, target, sidecar in zip(
            inputs.in_files, inputs.paths, inputs.sidecars, strict=True
        ):
            path = Path(target)
            write_json(path.with_name(path.name.split(".")[0] + ".json"), sidecar)
            saved.append(str(copy(Path(source), path)))
        self._results["out_files"] = saved
        return runtime
