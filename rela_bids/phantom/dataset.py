"""A BIDS dataset of phantoms, with the truth as a derivative dataset inside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from rela_bids.atomic import write_atomically, write_json, write_text
from rela_bids.exceptions import UsageError
from rela_bids.phantom import sidecars
from rela_bids.phantom.anatomy import Head, build_head, random_pose
from rela_bids.phantom.person import Person, aged, draw_person
from rela_bids.phantom.pet import (
    pattern_of,
    reference_mask,
    seen_by_scanner,
    tracer_generator,
    true_suvr,
)
from rela_bids.phantom.scans import flair_scan, head_grid, pet_scan, segmentations, t1w_scan
from rela_bids.templates import atlas_names
from rela_bids.tracers import Tracer
from rela_bids.volumes import Array

TRUTH = Path("derivatives", "truth")
YEARS_BETWEEN_SESSIONS = 2.0
PET_FWHM = (4.0, 6.0)
