"""A data set's images as training, validation and test images."""

import hashlib
import os
import pkgutil
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cifar_helpers.data.sets import DATASETS, Contents, DataSet, Split, dataset_by_label
from cifar_helpers.errors import DataError, DataUnavailable, UserError
from cifar_helpers.text import count, listed


@dataclass(frozen=True)
class Source:
    """Where the images came from.

    Attributes:
        name: the data set's label, such as "CIFAR-10" or "toy set".
        real: whether these are CIFAR-10's images.
        verified: as of `Contents`.
        location: as of `Contents`.
        sha256: of the decoded training images, training labels, test images and test labels, as
            uint8 in the official order: the same for the same images, whatever holds them.
        reason: why `dataset="auto"` fell back; "" if it did not.
    """

    name: str
    real: bool
    verified: bool | None
    location: str
    sha256: str
    reason: str = ""

    def notice(self) -> str:
        """One or two sentences for the top of a page or a terminal."""
        entry = dataset_by_label(self.name)
        checked = {
            True: ", official checksums matched",
            False: ": complete and well-formed, but not byte for byte the official files, so "
            "recorded as unverified",
            None: "",
        }[self.verified]
        origin = f"{self.name} from {self.location}{checked}." if self.location else ""
        return " ".join(filter(None, (entry.limits if entry else "", self.reason, origin)))

    def as_dict(self) -> dict[str, str | bool]:
        """What the records keep of it."""
        kept = {name: getattr(self, name) for name in ("name", "real", "sha256")}
        return kept | {"verified": bool(self.verified)}


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images.

    Attributes:
        pool: the official training images in the official order; training and validation are
            taken from it.
        test: the official test images.
        train_indices: int64, ascending positions of the training images in `pool`.
        validation_indices: int64, ascending positions of the validation images in `pool`.
        class_names: names of the labels from 0 on.
        source: where the images came from.
        seed: of the division into training and validation.
    """

    pool: Split
    test: Split
    train_indices: np.ndarray
    validation_indices: np.ndarray
    class_names: tuple[str, ...]
    source: Source
    seed: int

    @cached_property
    def train(self) -> Split:
        """The training images, gathered once."""
        return self.pool.take(self.train_indices)

    @cached_property
    def validation(self) -> Split:
        """The validation images, gathered once."""
        return self.pool.take(self.validation_indices)

    @property
    def is_whole(self) -> bool:
        """Whether all official training images are used, those held out included."""
        return len(self.train_indices) + len(self.validation_indices) == len(self.pool)

    def notice(self) -> str:
        """A few sentences for the top of a page: where the images are from, and how many are used."""
        used = len(self.train_indices) + len(self.validation_indices)
        part = f"Of the {count(len(self.pool))} training images {count(used)} are used, those held out included."
        return " ".join(filter(None, (self.source.notice(), "" if self.is_whole else part)))

    def resplit(self, validation_fraction: float, *, train_size: int = 0) -> "Splits":
        """The same images with another share held out, by the same seed.

        A smaller validation set is a subset of a larger one, and a smaller training set of a
        larger one.

        Args:
            validation_fraction: share of the training images held out, the same of each class, in
                (0, 1). Right after `load` it is a tenth.
            train_size: as of `load`.

        Raises:
            UserError: for an argument out of range.
        """
        train, held = _divide(self.pool.labels, validation_fraction, train_size, self.seed)
        return replace(self, train_indices=train, validation_indices=held)


def load(
    dataset: str = "auto",
    *,
    data_dir: str | os.PathLike = "",
    train_size: int = 0,
    seed: int = 0,
) -> Splits:
    """A data set as training, validation and test images, a tenth of the former held out.

    CIFAR-10 is looked for in this order: `data_dir`, the environment's `CIFAR10_DIR`, the cache
    (`CIFAR_HELPERS_CACHE`, or the user's), a download into the cache, and with "auto" the toy set
    takes its place. A copy that was named is used or refused, never passed over.

    Args:
        dataset: a name in `DATASETS`, or "auto": CIFAR-10, or where it cannot be had the toy set.
        data_dir: a folder in the official python layout, the official `.tar.gz`, or a folder that
            holds either.
        train_size: training images kept at the most, balanced over the classes to within one, and
            as large a part of the validation images; 0 for all. The test set is the same whatever
            it is.
        seed: decides which images are held out.

    Raises:
        DataError: if the copy is missing, incomplete or corrupt, or cannot be had.
        UserError: for an argument out of range.
    """
    entry, contents, reason = _read(dataset, os.fspath(data_dir))
    _check(entry, contents)
    pool, test, class_names = contents.train, contents.test, tuple(contents.class_names)
    train, validation = _divide(pool.labels, 0.1, train_size, seed)
    source = Source(
        name=entry.label,
        real=entry.real,
        verified=contents.verified,
        location=contents.location,
        sha256=_fingerprint(pool, test),
        reason=reason,
    )
    return Splits(pool, test, train, validation, class_names, source, seed)


def _read(dataset: str, data_dir: str) -> tuple[DataSet, Contents, str]:
    """The entry that was read, what its reader gave, and why "auto" fell back."""
    choices = {"auto": next(iter(DATASETS.values())), **DATASETS}
    if dataset not in choices:
        raise UserError(f"dataset must be one of {listed(choices)}; received {dataset!r}.")
    entry, reason = choices[dataset], ""
    try:
        contents = pkgutil.resolve_name(entry.reader)(data_dir)
    except DataUnavailable as error:
        if dataset != "auto":
            raise
        reason = str(error).partition(". ")[0] + "."  # what happened, without what to do
        entry = next(each for each in DATASETS.values() if each.fallback)
        contents = pkgutil.resolve_name(entry.reader)(data_dir)
    return entry, contents, reason


def _check(entry: DataSet, contents: Contents) -> None:
    """Refuse what a reader must not give."""
    classes = len(contents.class_names)
    for split in (contents.train, contents.test):
        images, labels = split.images, split.labels
        shaped = images.dtype == np.uint8 and images.shape == (*labels.shape, 32, 32, 3)
        if not shaped or labels.dtype != np.int64 or set(np.unique(labels)) != set(range(classes)):
            raise DataError(
                f"{entry.reader} must give uint8 images (n, 32, 32, 3) and int64 labels (n,) of "
                f"every class from 0 to {classes - 1}; received {images.dtype} {images.shape} and "
                f"{labels.dtype} {labels.shape} of the classes {np.unique(labels).tolist()}."
            )


def _fingerprint(pool: Split, test: Split) -> str:
    digest = hashlib.sha256()
    for split in (pool, test):
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(split.labels.astype(np.uint8).data)
    return digest.hexdigest()


def _divide(
    labels: np.ndarray, validation_fraction: float, train_size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ascending positions of the training and of the validation images.

    Held out are the first images of each class's permutation; trained on are images from its end.
    With a `train_size` validation shrinks too and keeps its share, so that a small run is quick.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"validation_fraction must be above 0 and below 1; received {validation_fraction}."
        )
    if train_size < 0:
        raise UserError(f"train_size must be 1 or more, or 0 for all; received {train_size}.")
    ranks, sizes = _ranks(labels, seed)
    held_out = ranks < np.floor(validation_fraction * sizes + 0.5)
    train, held = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    # One image of every class, then a second of every class: balanced wherever it stops.
    from_the_end = (sizes - ranks)[train]
    in_turn = train[np.lexsort((labels[train], from_the_end))]
    held = held[np.lexsort((labels[held], ranks[held]))]
    if 0 < train_size < len(train):
        held = held[: max(len(np.unique(labels)), round(train_size * len(held) / len(train)))]
    return np.sort(in_turn[: train_size or None]), np.sort(held)


def _ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image's place in a seeded permutation of its class, and the size of its class."""
    ranks, sizes = np.empty((2, len(labels)), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        generator = np.random.default_rng((seed, int(label)))
        ranks[members] = generator.permutation(len(members))
        sizes[members] = len(members)
    return ranks, sizes
