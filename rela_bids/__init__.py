"""Synthetic PET from T1w and T2-FLAIR MRI, as a BIDS App.

`synthesize` and `SyntheticImages` are here too; what they need is imported when one of them is
first asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rela_bids.api import SyntheticImages, synthesize

__all__ = ["SyntheticImages", "__version__", "synthesize"]

__version__ = version("rela_bids")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("rela_bids.api"), name)
