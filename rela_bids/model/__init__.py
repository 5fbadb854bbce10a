"""RelA-Diffusion: networks, diffusion, losses, sampling, training. Tensors only, no BIDS.

`Model`, `load_model` and `save_model` are here too; torch is imported when one of them is first
asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rela_bids.model.checkpoint import Model, load_model, save_model

__all__ = ["Model", "load_model", "save_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rela_bids.model import checkpoint

    return getattr(checkpoint, name)
