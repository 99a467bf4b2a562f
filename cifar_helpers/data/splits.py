"""CIFAR-10, or a drawn toy set in its place, as one `Splits`; augmentation; batches.

Images are uint8 `(n, 32, 32, 3)` in [0, 255] and labels int64 `(n,)` from end to end.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cifar_helpers.backend import keras
from cifar_helpers.data import cifar10
from cifar_helpers.data import toy as toy_pictures
from cifar_helpers.data.cifar10 import DATASETS
from cifar_helpers.errors import UserError

__all__ = [
    "DATASETS",
    "POLICIES",
    "Batches",
    "Source",
    "Split",
    "Splits",
    "affine",
    "alternating_flip",
    "augment",
    "crop",
    "flip",
    "load",
    "toy",
]

POLICIES = ("none", "flip", "crop_flip", "crop2_flip", "reference")

# Images a step. To map new memory takes longer than to fill it: few are worked on in memory that
# is used again, or as many as keep all cores busy.
_CHUNK, _CROP_CHUNK, _AFFINE_CHUNK = 32, 128, 1_000
_AUGMENTATION, _FLIPS, _ORDER = range(3)  # one stream of random numbers for each purpose


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 `(n, 32, 32, 3)` in [0, 255].
        labels: int64 `(n,)`, positions in the class names.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """Where the images came from.

    Attributes:
        name: "CIFAR-10" or "toy set".
        real: whether these are CIFAR-10's pictures.
        verified: whether every file has its official checksum; the toy set has none to match.
        location: the folder's or archive's name, without the path.
        sha256: of the decoded training images, training labels, test images and test labels, as
            uint8 in the official order: the same for the same pictures, whatever holds them.
        reason: why `dataset="auto"` fell back to the toy set; empty otherwise.
    """

    name: str
    real: bool
    verified: bool
    location: str
    sha256: str
    reason: str = ""

    def notice(self) -> str:
        """One or two sentences for the top of a page or a terminal."""
        if not self.real:
            why = f" {self.reason}" if self.reason else ""
            return (
                "Toy run: the images are drawn, not CIFAR-10, and no accuracy below says anything "
                f"about CIFAR-10.{why}"
            )
        if self.verified:
            return f"CIFAR-10 from {self.location}, official checksums matched."
        return (
            f"CIFAR-10 from {self.location}: complete and well-formed, but not byte for byte the "
            "official files, so recorded as unverified."
        )

    def as_dict(self) -> dict:
        """`{"name", "real", "verified", "sha256"}`, for the records."""
        return {
            "name": self.name,
            "real": self.real,
            "verified": self.verified,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images.

    Attributes:
        pool: the official training images in the official order; training and validation are
            taken from it.
        test: the official test images.
        train_indices: int64, ascending positions of the training images in `pool`.
        validation_indices: int64, ascending positions of the validation images in `pool`.
        class_names: names of the labels 0 to 9.
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
        return _gather(self.pool, self.train_indices)

    @cached_property
    def validation(self) -> Split:
        """The validation images, gathered once."""
        return _gather(self.pool, self.validation_indices)

    def resplit(self, validation_fraction: float, *, train_size: int = 0) -> "Splits":
        """The same images with another share held out, by the same seed.

        A smaller validation set is a subset of a larger one, and a smaller training set of a
        larger one.

        Args:
            validation_fraction: share of each class of `pool` that validation gets, in (0, 1).
            train_size: training images kept at the most, balanced over the classes, and as large
                a part of the validation images; 0 for all.

        Raises:
            UserError: if either number cannot be had.
        """
        return _split(
            self.pool,
            self.test,
            self.class_names,
            self.source,
            validation_fraction=validation_fraction,
            train_size=train_size,
            seed=self.seed,
        )


def load(
    dataset: str = "auto",
    *,
    data_dir: str | os.PathLike = "",
    validation_fraction: float = 0.1,
    train_size: int = 0,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
) -> Splits:
    """CIFAR-10 as training, validation and test images.

    Looked for in this order: `data_dir`, the environment's `CIFAR10_DIR`, the cache, a download
    into the cache, and with "auto" the toy set of `toy`. A copy that was named is used or refused,
    never passed over.

    Reference: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Args:
        dataset: "auto", "cifar10" (never the toy set) or "toy" (nothing else).
        data_dir: a folder in the official python layout, the official `.tar.gz`, or a folder that
            holds either.
        validation_fraction: share of the training images held out, the same of each class, in
            (0, 1).
        train_size: training images kept at the most, balanced over the classes to within one, and
            as large a part of the validation images; 0 for all. The test set is the same whatever
            it is.
        seed: decides which images are held out.
        cache_dir: where a download is kept; by default `CIFAR_HELPERS_CACHE` or the user's cache.

    Raises:
        DataError: if the copy is missing, incomplete or corrupt, or with "cifar10" cannot be had.
        UserError: for an argument out of range.
    """
    path, reason = cifar10.find(dataset, data_dir, cache_dir)
    if path is None:
        pool, test = toy()
        names, verified, location = toy_pictures.CLASS_NAMES, False, "made in memory"
    else:
        copy = cifar10.read(path)
        pool, test = Split(*copy.train), Split(*copy.test)
        names, verified, location = cifar10.CLASS_NAMES, copy.verified, path.name
    source = Source(
        name="CIFAR-10" if path else "toy set",
        real=bool(path),
        verified=verified,
        location=location,
        sha256=_fingerprint(pool, test),
        reason=reason,
    )
    return _split(
        pool,
        test,
        names,
        source,
        validation_fraction=validation_fraction,
        train_size=train_size,
        seed=seed,
    )


def toy(train_images: int = 10_000, test_images: int = 2_000, seed: int = 0) -> tuple[Split, Split]:
    """The toy set: pictures of ten kinds of things, drawn from a seed, hard enough to learn on.

    Args:
        train_images: training images, balanced over the classes to within one.
        test_images: test images, likewise.
        seed: the same seed draws the same pictures.

    Returns:
        Training and test images.
    """
    train_seed, test_seed = np.random.SeedSequence(seed).spawn(2)
    pool = Split(*toy_pictures.draw(train_images, np.random.default_rng(train_seed)))
    return pool, Split(*toy_pictures.draw(test_images, np.random.default_rng(test_seed)))


# --- Training and validation ---------------------------------------------------------------------


def _gather(split: Split, indices: np.ndarray) -> Split:
    return Split(split.images[indices], split.labels[indices])


def _fingerprint(pool: Split, test: Split) -> str:
    digest = hashlib.sha256()
    for split in (pool, test):
        digest.update(np.ascontiguousarray(split.images))
        digest.update(split.labels.astype(np.uint8))
    return digest.hexdigest()


def _ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image's place in a seeded permutation of its class, and the size of its class."""
    ranks, sizes = np.empty((2, len(labels)), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        generator = np.random.default_rng((seed, int(label)))
        ranks[members] = generator.permutation(len(members))
        sizes[members] = len(members)
    return ranks, sizes


def _split(
    pool: Split,
    test: Split,
    class_names: tuple[str, ...],
    source: Source,
    *,
    validation_fraction: float,
    train_size: int,
    seed: int,
) -> Splits:
    """Hold out the first images of each class's permutation, train on images from its end.

    With a `train_size` validation shrinks too and keeps its share, so that a small run is quick.
    """
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"validation_fraction must be above 0 and below 1; received {validation_fraction}."
        )
    ranks, sizes = _ranks(pool.labels, seed)
    held_out = ranks < np.floor(validation_fraction * sizes + 0.5)
    left = np.flatnonzero(~held_out)
    if train_size < 0:
        raise UserError(f"train_size must be 1 or more, or 0 for all; received {train_size}.")
    # One image of every class, then a second of every class: balanced wherever it stops.
    from_the_end = (sizes - ranks)[left]
    in_turn = left[np.lexsort((pool.labels[left], from_the_end))]
    held = np.flatnonzero(held_out)
    held = held[np.lexsort((pool.labels[held], ranks[held]))]
    if 0 < train_size < len(left):
        held = held[: max(len(class_names), round(train_size * len(held) / len(left)))]
    return Splits(
        pool=pool,
        test=test,
        train_indices=np.sort(in_turn[: train_size or None]),
        validation_indices=np.sort(held),
        class_names=tuple(class_names),
        source=source,
        seed=seed,
    )


# --- Augmentation --------------------------------------------------------------------------------


def crop(
    images: np.ndarray,
    rng: np.random.Generator,
    padding: int = 4,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Widen each image by its reflection on all sides and cut its size out at a random place.

    Args:
        images: uint8 `(n, height, width, channels)`.
        rng: decides the places.
        padding: pixels a side, at least 1; edges are not repeated, as with `numpy.pad`'s "reflect".
        out: where the result goes; new memory if None.

    Returns:
        uint8, the same shape.
    """
    count, height, width, channels = images.shape
    places = rng.integers(0, 2 * padding + 1, size=(count, 2))
    cropped = np.empty_like(images) if out is None else out
    size = (min(count, _CROP_CHUNK), height + 2 * padding, width + 2 * padding, channels)
    wide = np.empty(size, images.dtype)
    for start in range(0, count, _CROP_CHUNK):
        chunk = slice(start, start + _CROP_CHUNK)
        top, left = places[chunk].T
        reflected = _reflect(images[chunk], padding, wide[: len(top)])
        # Rows as runs of bytes: a crop is then copied row by row.
        rows = reflected.reshape(len(top), height + 2 * padding, -1)
        windows = sliding_window_view(rows, (height, width * channels), axis=(1, 2))
        chosen = windows[np.arange(len(top)), top, left * channels]
        cropped[chunk] = chosen.reshape(-1, height, width, channels)
    return cropped


def _reflect(images: np.ndarray, padding: int, out: np.ndarray) -> np.ndarray:
    """As `numpy.pad(..., mode="reflect")` of height and width, which takes three times as long."""
    inner = slice(padding, -padding)
    out[:, inner, inner] = images
    out[:, inner, :padding] = images[:, :, padding:0:-1]
    out[:, inner, -padding:] = images[:, :, -2 : -padding - 2 : -1]
    out[:, :padding] = out[:, 2 * padding : padding : -1]
    out[:, -padding:] = out[:, -padding - 2 : -2 * padding - 2 : -1]
    return out


def flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror each image left to right with probability one half.

    Args:
        images: uint8 `(n, height, width, channels)`.
        rng: decides which.

    Returns:
        uint8, the same shape.
    """
    return _flip_where(images, rng.random(len(images)) < 0.5)


def alternating_flip(
    images: np.ndarray, seed: int, epoch: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Mirror a random half of the images, and the other half in the next epoch.

    Every two epochs in a row show each image both ways, where independent flips would show half
    of the images twice the same way.

    Reference: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3.6,
    arXiv:2404.00498.

    Args:
        images: uint8 `(n, height, width, channels)`, the same images in the same order each epoch.
        seed: decides which half.
        epoch: number of the epoch, from 0.
        out: where the result goes, which may be `images`; new memory if None.

    Returns:
        uint8, the same shape.
    """
    first = np.random.default_rng((seed, _FLIPS)).integers(0, 2, size=len(images))
    return _flip_where(images, (first + epoch) % 2 == 1, out)


def _flip_where(
    images: np.ndarray, chosen: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    flipped = np.empty_like(images) if out is None else out
    if flipped is not images:
        flipped[:] = images
    for start in range(0, len(images), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        picked = images[chunk][chosen[chunk]]
        backwards = np.empty_like(picked)
        for channel in range(images.shape[-1]):  # faster than moving pixel by pixel
            backwards[..., channel] = picked[:, :, ::-1, channel]
        flipped[chunk][chosen[chunk]] = backwards
    return flipped


def affine(
    images: np.ndarray,
    rng: np.random.Generator,
    rotation: float = 15.0,
    shift: float = 0.1,
    zoom: float = 0.1,
    flip: bool = True,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Rotate, shift, zoom and mirror each image by random amounts, in one bilinear resampling.

    Pixels from outside take the nearest edge's colour.

    Args:
        images: uint8 `(n, height, width, 3)`.
        rng: decides the amounts, each uniform in its range.
        rotation: at most, in degrees either way.
        shift: at most, as a share of the height and of the width, either way.
        zoom: the section shown is 1 - zoom to 1 + zoom of the height, and of the width.
        flip: whether to mirror left to right with probability one half.
        out: where the result goes; new memory if None.

    Returns:
        uint8, the same shape.
    """
    count, height, width, _ = images.shape
    angle = np.deg2rad(rng.uniform(-rotation, rotation, count))
    scale = rng.uniform(1 - zoom, 1 + zoom, (2, count))
    moved = rng.uniform(-shift, shift, (2, count)) * [[height], [width]]
    mirror = np.where(rng.random(count) < 0.5, -1, 1) if flip else np.ones(count)
    # From a place in the result to one in the source: (x, y) = matrix @ (x, y) + offset, where the
    # centre goes to the centre, and then moves.
    matrix = np.array(
        [
            [np.cos(angle) * scale[1] * mirror, np.sin(angle) * scale[0]],
            [-np.sin(angle) * scale[1] * mirror, np.cos(angle) * scale[0]],
        ]
    )
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre[:, None] - np.einsum("ijn,j->in", matrix, centre) + moved[::-1]
    transforms = np.zeros((count, 8), np.float32)
    transforms[:, [0, 1, 3, 4]] = matrix.reshape(4, count).T
    transforms[:, [2, 5]] = offset.T
    result = np.empty_like(images) if out is None else out
    memory = np.empty((min(count, _AFFINE_CHUNK), *images.shape[1:]), np.float32)
    for start in range(0, count, _AFFINE_CHUNK):
        chunk = slice(start, start + _AFFINE_CHUNK)
        floats = memory[: len(images[chunk])]
        floats[:] = images[chunk]
        sampled = keras.ops.image.affine_transform(
            floats,
            transforms[chunk],
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )
        result[chunk] = np.rint(keras.ops.convert_to_numpy(sampled), out=floats)
    return result


def augment(
    images: np.ndarray, policy: str, *, seed: int, epoch: int, out: np.ndarray | None = None
) -> np.ndarray:
    """A whole epoch's images, augmented; the same for the same seed and epoch.

    Args:
        images: uint8 `(n, 32, 32, 3)`, the same images in the same order each epoch.
        policy: "none"; "flip" (alternating); "crop_flip" and "crop2_flip" (random crops after
            reflecting 4 or 2 pixels, and alternating flip); "reference" (rotation to 15 degrees,
            shifts and zoom to 10 %, random flip).
        seed: of the run.
        epoch: number of the epoch, from 0.
        out: where the result goes, but with "none"; new memory if None.

    Returns:
        uint8, the same shape; with "none" the images themselves.

    Raises:
        UserError: for an unknown policy.
    """
    if policy not in POLICIES:
        raise UserError(f"augmentation must be one of {', '.join(POLICIES)}; received {policy!r}.")
    rng = np.random.default_rng((seed, _AUGMENTATION, epoch))
    if policy == "none":
        return images
    if policy == "reference":
        return affine(images, rng, out=out)
    if policy == "flip":
        return alternating_flip(images, seed, epoch, out)
    cropped = crop(images, rng, padding=4 if policy == "crop_flip" else 2, out=out)
    return alternating_flip(cropped, seed, epoch, out=cropped)


# --- Batches -------------------------------------------------------------------------------------


class Batches(keras.utils.PyDataset):
    """Batches for `fit`: each image once an epoch, in a new order and augmented anew.

    What an epoch holds depends on its number and the seed alone. A run that was interrupted goes
    on as if it had not been, from `Batches(..., epoch=finished_epochs)`. Leave out `fit`'s own
    `steps_per_epoch`; its `shuffle` must be False, since it would shuffle the batches unseeded.

    Args:
        images: uint8 `(n, 32, 32, 3)`.
        labels: int64 `(n,)`.
        batch_size: images a batch; the last one holds what is left.
        policy: of `augment`.
        shuffle: whether to reorder the images each epoch.
        seed: of the run.
        epoch: number of the first epoch, from 0.

    Raises:
        UserError: for an unknown policy, no images, or a batch size below 1.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        *,
        policy: str = "none",
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
    ):
        super().__init__()
        if batch_size < 1 or len(images) == 0:
            raise UserError(
                "batches need at least one image and a batch_size of at least 1; received "
                f"{len(images)} images and a batch_size of {batch_size}."
            )
        self.images, self.labels = images, labels
        self.batch_size, self.policy, self.shuffle = batch_size, policy, shuffle
        self.seed, self.epoch = seed, epoch
        # One piece of memory for all epochs, since new memory is slow.
        self._augmented = images if policy == "none" else np.empty_like(images)
        self._prepared = None
        self._served = -1
        self._prepare()

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of the present epoch: images uint8 `(b, 32, 32, 3)` and labels `(b,)`."""
        if not 0 <= index < len(self):
            raise IndexError(f"an epoch has {len(self)} batches; received index {index}.")
        self._prepare()
        if self._served >= 0:
            self._served += 1
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return self._take(chosen), self.labels[chosen]

    def _take(self, chosen: np.ndarray) -> np.ndarray:
        return self._augmented[chosen]

    def on_epoch_begin(self) -> None:
        """Keras calls this before each epoch."""
        self._served = 0

    def on_epoch_end(self) -> None:
        """Go on to the next epoch, if this one was served in full.

        Keras also calls this before the first epoch, and it draws batches to learn their shapes:
        neither counts as an epoch.
        """
        if self._served >= len(self):
            self.epoch += 1
        self._served = -1

    def _prepare(self) -> None:
        """Augment and order the present epoch, once."""
        if self._prepared == self.epoch:
            return
        options = {"seed": self.seed, "epoch": self.epoch, "out": self._augmented}
        augment(self.images, self.policy, **options)
        self._order = np.arange(len(self.images))
        if self.shuffle:
            np.random.default_rng((self.seed, _ORDER, self.epoch)).shuffle(self._order)
        self._prepared = self.epoch
