"""Sheets of axial slices, which the page's viewer scrolls through.

Volumes as in `rela_bids.reports.figures`: 1 mm, axes to the right, front and top.
"""

from io import BytesIO

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from rela_bids.reports.figures import Pixels, webp
from rela_bids.volumes import Array

COLUMNS = 10
# A slice of the sheet is this many mm thick, and so large are pixels of PET, which is no sharper.
STEP = 2


def sheet_size(volume: Array) -> tuple[int, int, int]:
    """Number of slices, and width and height in pixels of a slice, of a `t1w_sheet`."""
    width, height, depth = (n // STEP * STEP for n in volume.shape)
    return depth // STEP, width, height


def t1w_sheet(shades: Array) -> bytes:
    """A volume of shades from 0 to 1 as WebP, a slice for each 2 mm, the lowest first."""
    slices = _blocks(shades, (1, 1, STEP))
    return webp(Image.fromarray(_sheet((slices * 255).astype(np.uint8))), quality=70)


def pet_sheet(volume: Array, mask: Array, upper: float, colours: str) -> bytes:
    """PET in colours from 0 to `upper`, transparent outside the brain, at 2 mm."""
    blocks = (STEP, STEP, STEP)
    coloured = colormaps[colours](_blocks(volume, blocks) / upper, bytes=True)
    coloured[..., 3] = (_blocks(mask, blocks) > 0.5) * 255
    return webp(Image.fromarray(_sheet(coloured)), quality=80)


def colour_bar(colours: str) -> bytes:
    """A colour map from left to right, as PNG."""
    buffer = BytesIO()
    row = colormaps[colours](np.linspace(0, 1, 128), bytes=True)[None, :, :3]
    Image.fromarray(np.ascontiguousarray(row)).save(buffer, "PNG")
    return buffer.getvalue()


def _blocks(volume: Array, size: tuple[int, int, int]) -> Array:
    """Means over blocks of voxels; what is left over at the far ends is cut off."""
    even = volume[tuple(slice(0, n // STEP * STEP) for n in volume.shape)]
    x, y, z = (n // s for n, s in zip(even.shape, size, strict=True))
    return even.reshape(x, size[0], y, size[1], z, size[2]).mean(axis=(1, 3, 5))


def _sheet(slices: NDArray[np.uint8]) -> Pixels:
    """(X, Y, Z[, colour]) to a sheet of slices, `COLUMNS` to a row, front up."""
    upright = np.flip(np.moveaxis(slices, (2, 1, 0), (0, 1, 2)), axis=1)
    rows = -(-len(upright) // COLUMNS)
    padding = [(0, rows * COLUMNS - len(upright))] + [(0, 0)] * (upright.ndim - 1)
    padded = np.pad(upright, padding)
    _, height, width = padded.shape[:3]
    grid = padded.reshape(rows, COLUMNS, height, width, *padded.shape[3:]).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, COLUMNS * width, *padded.shape[3:]))
