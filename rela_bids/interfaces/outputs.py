"""Results from the work folder into the derivatives dataset."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class _SaveDerivativeInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    path = traits.Str(mandatory=True, desc="where it belongs in OUT")
    sidecar = traits.Dict(desc="content of the JSON beside it")


class _SaveDerivativeOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="the file in OUT")


class SaveDerivative(SimpleInterface):
    """Copy a file to its place in OUT, its sidecar first, each whole or not at all.

    It always runs: the work folder cannot know what became of OUT.
    """

    input_spec = _SaveDerivativeInputSpec
    output_spec = _SaveDerivativeOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.atomic import copy, write_json

        path = Path(self.inputs.path)
        if self.inputs.sidecar:
            write_json(path.with_name(path.name.split(".")[0] + ".json"), self.inputs.sidecar)
        self._results["out_file"] = str(copy(Path(self.inputs.in_file), path))
        return runtime
