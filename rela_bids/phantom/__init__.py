"""Digital heads with paired T1w, FLAIR and PET, for trying out the software and for training.

No voxel of a phantom was measured. A head is the packaged ICBM template (`base`), deformed and
aged at random for each `person` (`anatomy`), seen by a random scanner (`mri`), with the uptake
that a tracer would have (`pet`). `dataset` writes BIDS datasets of whole heads, and ``python -m
rela_bids.phantom`` is its command; `training` writes what is left of such heads after
preprocessing, straight onto the model grid.
"""

from rela_bids.phantom.dataset import Recipe, write_dataset
from rela_bids.phantom.training import training_example, write_training_examples

__all__ = ["Recipe", "training_example", "write_dataset", "write_training_examples"]
