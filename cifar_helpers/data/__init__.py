"""Data sets of small images as one `Splits` each; augmentation; batches.

Images are uint8 `(n, 32, 32, 3)` in [0, 255] and labels int64 `(n,)` from end to end.
"""

from typing import TYPE_CHECKING, Any

from cifar_helpers.data.augmentation import POLICIES, Policy, augment, find_policy
from cifar_helpers.data.sets import DATASETS, Contents, DataSet, Split, dataset_by_label
from cifar_helpers.data.splits import Source, Splits, load

if TYPE_CHECKING:
    from cifar_helpers.data.batches import Batches

__all__ = [
    "DATASETS",
    "POLICIES",
    "Batches",
    "Contents",
    "DataSet",
    "Policy",
    "Source",
    "Split",
    "Splits",
    "augment",
    "dataset_by_label",
    "find_policy",
    "load",
]


def __getattr__(name: str) -> Any:
    if name != "Batches":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cifar_helpers.data.batches import Batches  # only they need Keras

    return Batches
