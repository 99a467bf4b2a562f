"""Augmentation of a whole epoch's images at once, one entry a policy.

Images are uint8 `(n, height, width, 3)`, the same in the same order each epoch; the result depends
on them, the run's seed and the epoch's number (from 0) alone. It is written to `out`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cifar_helpers.errors import UserError
from cifar_helpers.text import listed

# One stream of random numbers for each purpose.
AUGMENTATION, FLIPS, ORDER, CUTOUT = range(4)
MEAN_COLOUR = (125, 123, 114)  # of CIFAR-10's training images, RGB
ROTATION, SHIFT, ZOOM = 15.0, 0.1, 0.1  # of `affine`: degrees, and shares of the sides

_GRID = 5  # places a side of `grid_crop_flip`
GRID_VIEWS = 2 * _GRID**2

# Images a step: few are worked on in memory that is used again, since to map new memory takes
# longer than to fill it, or as many as keep all cores busy.
_CROP_CHUNK, _AFFINE_CHUNK = 128, 1_000


def crop(images: np.ndarray, seed: int, epoch: int, out: np.ndarray, *, padding: int) -> None:
    """Widen each image by its reflection on all sides and cut its size out at a random place.

    `padding` is in pixels a side; edges are not repeated, as with `numpy.pad`'s "reflect".
    """
    rng = np.random.default_rng((seed, AUGMENTATION, epoch))
    places = rng.integers(0, 2 * padding + 1, size=(len(images), 2))
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    for start in range(0, len(images), _CROP_CHUNK):
        chunk = slice(start, start + _CROP_CHUNK)
        top, left = places[chunk].T
        padded = np.pad(images[chunk], border, "reflect")
        windows = sliding_window_view(padded, images.shape[1:3], axis=(1, 2))
        out[chunk] = windows[np.arange(len(top)), top, left].transpose(0, 2, 3, 1)


def grid_crop_flip(images: np.ndarray, seed: int, epoch: int, out: np.ndarray) -> None:
    """`crop` at every second of the places that 4 pixels of padding leave, then `alternating_flip`.

    An image then has 50 views, few enough to ask a teacher about each of them beforehand.
    """
    numbers = grid_view_numbers(len(images), seed, epoch)
    for number in np.unique(numbers):
        chosen = numbers == number
        out[chosen] = grid_view(images[chosen], number)


def grid_view_numbers(count: int, seed: int, epoch: int) -> np.ndarray:
    """Which view `grid_crop_flip` shows of each of `count` images, int64 in [0, `GRID_VIEWS`)."""
    rng = np.random.default_rng((seed, AUGMENTATION, epoch))
    return 2 * rng.integers(0, _GRID**2, size=count) + _mirrored(count, seed, epoch)


def grid_view(images: np.ndarray, number: int) -> np.ndarray:
    """One of an image's 50 views, of all images: uint8 `(n, height, width, 3)`."""
    place, mirrored = divmod(int(number), 2)
    top, left = 2 * np.array(divmod(place, _GRID))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), "reflect")
    view = padded[:, top : top + images.shape[1], left : left + images.shape[2]]
    return view[:, :, ::-1] if mirrored else view


def alternating_flip(images: np.ndarray, seed: int, epoch: int, out: np.ndarray) -> None:
    """Mirror a random half of the images left to right, and the other half in the next epoch.

    Every two epochs in a row show each image both ways, where independent flips would show half
    of the images twice the same way. `out` may be `images`.

    Reference: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3.6,
    arXiv:2404.00498.
    """
    mirrored = _mirrored(len(images), seed, epoch)
    if out is not images:
        out[:] = images
    out[mirrored] = images[mirrored][:, :, ::-1]


def _mirrored(count: int, seed: int, epoch: int) -> np.ndarray:
    first = np.random.default_rng((seed, FLIPS)).integers(0, 2, size=count)
    return (first + epoch) % 2 == 1


def crop_flip(images: np.ndarray, seed: int, epoch: int, out: np.ndarray, *, padding: int) -> None:
    """`crop`, then `alternating_flip`."""
    crop(images, seed, epoch, out, padding=padding)
    alternating_flip(out, seed, epoch, out)


def cutout(images: np.ndarray, seed: int, epoch: int, out: np.ndarray, *, size: int) -> None:
    """Blank out a square of each image, around a random pixel, as far as it lies in the image.

    `size` is its side in pixels, an even number. Its colour is CIFAR-10's mean, so that it says
    nothing. `out` may be `images`.

    Reference: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout", arXiv:1708.04552.
    """
    if out is not images:
        out[:] = images
    height, width = images.shape[1:3]
    rng = np.random.default_rng((seed, CUTOUT, epoch))
    rows, columns = rng.integers(0, (height, width), size=(len(images), 2)).T
    for image, row, column in zip(out, rows, columns, strict=True):
        top, left = max(0, row - size // 2), max(0, column - size // 2)
        image[top : row + size // 2, left : column + size // 2] = MEAN_COLOUR


def crop_flip_cutout(
    images: np.ndarray, seed: int, epoch: int, out: np.ndarray, *, padding: int, size: int
) -> None:
    """`crop_flip`, then `cutout`."""
    crop_flip(images, seed, epoch, out, padding=padding)
    cutout(out, seed, epoch, out, size=size)


def affine(images: np.ndarray, seed: int, epoch: int, out: np.ndarray) -> None:
    """Rotate, shift, zoom and mirror each image by random amounts, in one bilinear resampling.

    Rotations are uniform to `ROTATION` either way, shifts to the share `SHIFT` of height and width;
    the section shown is 1 - `ZOOM` to 1 + `ZOOM` of the height, and of the width; half of the
    images are mirrored. Pixels from outside take the nearest edge's colour.
    """
    from cifar_helpers.backend import keras

    transforms = _transforms(images.shape, seed, epoch)
    for start in range(0, len(images), _AFFINE_CHUNK):
        chunk = slice(start, start + _AFFINE_CHUNK)
        sampled = keras.ops.image.affine_transform(
            images[chunk].astype(np.float32),
            transforms[chunk],
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )
        out[chunk] = np.rint(keras.ops.convert_to_numpy(sampled))


def _transforms(shape: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    """What `affine_transform` takes, float32 `(n, 8)`, drawn anew each epoch."""
    rng = np.random.default_rng((seed, AUGMENTATION, epoch))
    count, height, width, _ = shape
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, count))
    scale = rng.uniform(1 - ZOOM, 1 + ZOOM, (2, count))
    moved = rng.uniform(-SHIFT, SHIFT, (2, count)) * [[height], [width]]
    mirror = np.where(rng.random(count) < 0.5, -1, 1)
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
    return transforms


@dataclass(frozen=True)
class Policy:
    """How an epoch's images are augmented.

    Attributes:
        name: what recipes call it.
        label: what readers see.
        views: how many images one image can become; None for very many.
        apply: `(images, seed, epoch, out) -> None`: writes the augmented images to `out`, uint8 of
            the same shape; None to leave them as they are.
    """

    name: str
    label: str
    views: int | None
    apply: Callable[[np.ndarray, int, int, np.ndarray], None] | None


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("none", "none", 1, None),
        Policy("flip", "flip", 2, alternating_flip),
        Policy("crop_flip", "4-pixel crop, flip", None, partial(crop_flip, padding=4)),
        Policy("grid_crop_flip", "4-pixel crop in steps of 2, flip", GRID_VIEWS, grid_crop_flip),
        Policy("crop2_flip", "2-pixel crop, flip", None, partial(crop_flip, padding=2)),
        Policy(
            "crop_flip_cutout",
            "4-pixel crop, flip, 8-pixel cutout",
            None,
            partial(crop_flip_cutout, padding=4, size=8),
        ),
        Policy("reference", "rotation, shift, zoom, flip", None, affine),
    )
}


def find_policy(name: str) -> Policy:
    """A policy of `POLICIES`.

    Raises:
        UserError: for an unknown one.
    """
    if name not in POLICIES:
        raise UserError(f"augmentation must be one of {listed(POLICIES)}; received {name!r}.")
    return POLICIES[name]


def augment(
    images: np.ndarray, policy: str, *, seed: int, epoch: int, out: np.ndarray | None = None
) -> np.ndarray:
    """A whole epoch's images by a policy of `POLICIES`; with "none" the images themselves.

    The result goes to `out`, to new memory if that is None.

    Raises:
        UserError: for an unknown policy.
    """
    apply = find_policy(policy).apply
    if apply is None:
        return images
    out = np.empty_like(images) if out is None else out
    apply(images, seed, epoch, out)
    return out
