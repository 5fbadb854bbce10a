"""Synthetic PET from T1w and T2-FLAIR MRI, as a BIDS App."""

from importlib.metadata import version

__version__ = version("rela_bids")
