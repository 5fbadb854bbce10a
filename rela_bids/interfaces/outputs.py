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
    isdefined,
    traits,
)


class _SaveDerivativesInputSpec(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True)
    paths = traits.List(traits.Str, mandatory=True, desc="where each belongs in OUT")
    sidecars = traits.List(traits.Dict, mandatory=True, desc="content of the JSON beside each")
    hashed = traits.Dict(
        traits.Str, traits.Str, desc="files whose SHA-256 goes into the sidecars, by what they are"
    )


class _SaveDerivativesOutputSpec(TraitedSpec):
    out_files = OutputMultiObject(File(exists=True), desc="the files in OUT")


class SaveDerivatives(SimpleInterface):
    """Copy files to their places in OUT, the sidecar first, each whole or not at all.

    Where the sidecar changes, the image that it no longer describes goes before it. It always runs:
    the work folder cannot know what became of OUT.
    """

    input_spec = _SaveDerivativesInputSpec
    output_spec = _SaveDerivativesOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        from rela_bids.atomic import copy, write_json
        from rela_bids.bids.finished import HASHES, hashes

        inputs, saved = self.inputs, []
        digests = {HASHES: hashes(inputs.hashed)} if isdefined(inputs.hashed) else {}
        for source, target, sidecar in zip(
            inputs.in_files, inputs.paths, inputs.sidecars, strict=True
        ):
            path = Path(target)
            write_json(sidecar_path(path), sidecar | digests, describes=path)
            saved.append(str(copy(Path(source), path)))
        self._results["out_files"] = saved
        return runtime


def sidecar_path(path: Path) -> Path:
    """The JSON file beside a file in OUT."""
    return path.with_name(path.name.split(".")[0] + ".json")
