"""The toy set's pictures: ten kinds of things, drawn from simple shapes at 32x32 pixels.

What makes them hard is what makes photographs hard: the thing lies anywhere, turned, large or
small, in any colours, before a busy background and partly hidden.
"""

import hashlib
from pathlib import Path

import numpy as np

from cifar_helpers.cache import cached
from cifar_helpers.data.sets import Contents, Split

TRAIN_IMAGES, TEST_IMAGES = 10_000, 1_000
SIZE = 32

_CHUNK = 200  # pictures drawn at a time, so that what is worked on stays in the processor's cache

# How hard it is; chosen so that networks rank as on CIFAR-10 after a quick pass. A network without
# batch normalisation stays at chance for epochs where most of its inputs are far from zero, where
# light and dark tones may change places, or where things turn further: so it is dusk.
_SCALE, _TURN = (0.5, 1.0), 0.55  # of the picture; radians either way
_GROUND, _SCRAP = (5, 70), (20, 110)
_MAIN, _LIGHT, _DARK = (120, 245), (140, 245), (5, 80)  # of the thing's three tones
_SCRAPS_BEHIND, _SCRAPS_BEFORE = 5, 1
_NOISE = 3.0
_LEANING = 0.4  # how far the surroundings' colour leans to where the thing is mostly found


class _Plane:
    """The coordinates in which one thing is drawn in many pictures at once, each its own way.

    x points right and y down; the thing fills about -1 to 1. Shapes are signed distances from
    their edge, float32 `(n, 32, 32)`, negative inside.
    """

    def __init__(self, rng: np.random.Generator, count: int, scale: tuple, turn: float):
        self.rng, self.count = rng, count
        self.size = self.vary(*scale)
        angle, reach = self.vary(-turn, turn), np.maximum(1.1 - self.size, 0.15)
        mirror = np.where(self.vary(0, 1) < 0.5, -1, 1).astype(np.float32)
        axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
        x, y = axis - reach * self.vary(-1, 1), axis[:, None] - reach * self.vary(-1, 1)
        self.x = (np.cos(angle) * x + np.sin(angle) * y) * mirror / self.size
        self.y = (np.cos(angle) * y - np.sin(angle) * x) / self.size / self.vary(0.8, 1.2)

    def vary(self, low: float, high: float) -> np.ndarray:
        """A number for each picture."""
        return self.rng.uniform(low, high, (self.count, 1, 1)).astype(np.float32)

    def ellipse(self, x, y, width, height) -> np.ndarray:
        """Half-axes `width` and `height` around (x, y)."""
        radius = np.hypot((self.x - x) / width, (self.y - y) / height)
        return (radius - 1) * np.minimum(width, height)

    def box(self, x, y, width, height) -> np.ndarray:
        """Half-sides `width` and `height` around (x, y)."""
        return np.maximum(np.abs(self.x - x) - width, np.abs(self.y - y) - height)

    def taper(self, x, y, top, bottom, height) -> np.ndarray:
        """A box whose half-width goes from `top` to `bottom`; a triangle where one is 0."""
        middle, slope = (top + bottom) / 2, (bottom - top) / 2
        edge = np.abs(self.x - x) - middle - slope * (self.y - y) / height
        return np.maximum(edge, np.abs(self.y - y) - height)

    def fin(self, x, y, left, right, width) -> np.ndarray:
        """A taper lying on its side: half-heights `left` and `right`."""
        middle, slope = (left + right) / 2, (right - left) / 2
        edge = np.abs(self.y - y) - middle - slope * (self.x - x) / width
        return np.maximum(edge, np.abs(self.x - x) - width)

    def petals(self, x, y, radius, depth, number) -> np.ndarray:
        """A disc whose radius swings by `depth`, `number` times a turn."""
        angle = np.arctan2(self.y - y, self.x - x)
        distance = np.hypot(self.x - x, self.y - y)
        return (distance - radius - depth * np.cos(number * angle)) * 0.7


# Each thing is a list of (tone, shape), painted in turn; tones are a picture's own colours.


def _car(p: _Plane) -> list:
    wheel, roof = p.vary(0.16, 0.25), p.vary(-0.25, 0.1)
    return [
        (0, p.taper(roof, -0.2, p.vary(0.2, 0.35), p.vary(0.45, 0.6), 0.25)),
        (1, p.taper(roof, -0.18, 0.15, 0.35, 0.13)),
        (0, p.box(0, 0.2, p.vary(0.75, 0.95), p.vary(0.17, 0.25))),
        *((2, p.ellipse(side * p.vary(0.45, 0.6), 0.42, wheel, wheel)) for side in (-1, 1)),
    ]


def _truck(p: _Plane) -> list:
    wheel, top = p.vary(0.14, 0.22), p.vary(0.35, 0.5)
    return [
        (0, p.box(-0.3, 0.35 - top, p.vary(0.55, 0.65), top)),
        (1, p.box(0.6, 0.1, p.vary(0.25, 0.35), 0.28)),
        (2, p.box(0.68, 0.0, 0.15, 0.1)),
        *((2, p.ellipse(x, 0.42, wheel, wheel)) for x in (-0.6, p.vary(-0.3, 0.1), 0.6)),
    ]


def _boat(p: _Plane) -> list:
    mast, deck = p.vary(-0.2, 0.2), p.vary(0.3, 0.5)
    return [
        (2, p.box(mast, -0.25, 0.05, 0.7)),
        (1, p.taper(mast + p.vary(0.0, 0.2), -0.3, 0.0, p.vary(0.4, 0.6), p.vary(0.45, 0.6))),
        (0, p.taper(0, deck + 0.1, p.vary(0.8, 0.95), p.vary(0.4, 0.6), p.vary(0.15, 0.25))),
    ]


def _fish(p: _Plane) -> list:
    height = p.vary(0.28, 0.48)
    return [
        (1, p.fin(-0.75, 0, p.vary(0.35, 0.5), 0.03, 0.25)),
        (1, p.taper(0, -height, 0.05, p.vary(0.25, 0.45), p.vary(0.12, 0.25))),
        (0, p.ellipse(0.1, 0, p.vary(0.65, 0.8), height)),
        (2, p.ellipse(0.55, -0.08, 0.09, 0.09)),
    ]


def _bird(p: _Plane) -> list:
    height, head = p.vary(0.28, 0.4), p.vary(-0.5, -0.3)
    return [
        *((2, p.box(x, 0.55, 0.04, 0.25)) for x in (-0.1, 0.12)),
        (0, p.fin(-0.7, p.vary(-0.2, 0.1), p.vary(0.1, 0.25), 0.1, 0.28)),
        (2, p.fin(0.85, head, 0.12, 0.0, 0.16)),
        (0, p.ellipse(-0.05, 0.05, p.vary(0.5, 0.62), height)),
        (0, p.ellipse(0.5, head, 0.25, 0.25)),
        (1, p.ellipse(-0.15, 0.02, p.vary(0.3, 0.4), height * 0.55)),
        (2, p.ellipse(0.56, head - 0.05, 0.07, 0.07)),
    ]


def _face(p: _Plane) -> list:
    wide, eye = p.vary(0.2, 0.35), p.vary(0.07, 0.12)
    return [
        (0, p.ellipse(0, 0.1, p.vary(0.6, 0.75), p.vary(0.55, 0.7))),
        (1, p.ellipse(0, 0.35, p.vary(0.25, 0.35), p.vary(0.18, 0.28))),
        *((2, p.ellipse(side * wide, -0.05, eye, eye)) for side in (-1, 1)),
        (2, p.ellipse(0, 0.25, 0.1, 0.07)),
    ]


def _cat(p: _Plane) -> list:
    apart, tall = p.vary(0.38, 0.5), p.vary(0.3, 0.4)
    ears = [(0, p.taper(side * apart, -0.5, 0.0, 0.28, tall)) for side in (-1, 1)]
    return ears + _face(p)


def _bear(p: _Plane) -> list:
    apart, ear = p.vary(0.45, 0.55), p.vary(0.2, 0.28)
    ears = [(0, p.ellipse(side * apart, -0.45, ear, ear)) for side in (-1, 1)]
    return ears + _face(p)


def _tree(p: _Plane) -> list:
    width = p.vary(0.3, 0.45)
    crown = [(0, p.ellipse(0, -0.45, width * 1.2, 0.4))]
    crown += [(0, p.ellipse(side * width, p.vary(-0.25, 0), width, 0.35)) for side in (-1, 1)]
    fruit = [(2, p.ellipse(p.vary(-0.5, 0.5), p.vary(-0.6, 0), 0.07, 0.07)) for _ in range(3)]
    return [(1, p.taper(0, 0.5, 0.1, p.vary(0.12, 0.22), 0.45)), *crown, *fruit]


def _mushroom(p: _Plane) -> list:
    width, edge = p.vary(0.65, 0.9), p.vary(0.0, 0.2)
    cap = np.maximum(p.ellipse(0, edge, width, p.vary(0.6, 0.8)), p.box(0, edge - 1, 2, 1))
    spots = [(2, p.ellipse(x, p.vary(-0.35, -0.1), 0.1, 0.1)) for x in (-0.35, 0, 0.35)]
    return [(1, p.taper(0, 0.45, p.vary(0.12, 0.2), p.vary(0.15, 0.3), 0.45)), (0, cap), *spots]


def _flower(p: _Plane) -> list:
    number = np.floor(p.vary(5, 9))
    return [
        (2, p.box(0, 0.5, 0.06, 0.5)),
        (2, p.ellipse(p.vary(0.15, 0.3), 0.55, 0.22, 0.1)),
        (0, p.petals(0, -0.3, p.vary(0.4, 0.5), p.vary(0.1, 0.2), number)),
        (1, p.ellipse(0, -0.3, p.vary(0.14, 0.22), p.vary(0.14, 0.22))),
    ]


# Where a thing is mostly found: the colour that its surroundings lean to, at dusk. As with photographs
# it says a little about the class; without it, deep plain networks find nothing to begin with.
_THINGS = {
    _car: (48, 48, 50),
    _truck: (68, 60, 44),
    _boat: (28, 48, 76),
    _fish: (16, 60, 64),
    _bird: (68, 80, 92),
    _cat: (68, 48, 40),
    _bear: (40, 44, 28),
    _tree: (52, 76, 48),
    _mushroom: (36, 28, 20),
    _flower: (24, 52, 20),
}
CLASS_NAMES = tuple(thing.__name__[1:] for thing in _THINGS)


def _colours(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """A colour for each picture, `(n, 3, 1, 1)`, its channels between `low` and `high`."""
    return rng.uniform(low, high, (count, 3, 1, 1)).astype(np.float32)


def _waves(rng: np.random.Generator, count: int) -> np.ndarray:
    """A soft ripple in [-1, 1] across each picture, `(n, 1, 32, 32)`."""
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    across, down, phase = rng.uniform(-3, 3, (3, count, 1, 1, 1)).astype(np.float32)
    return np.sin(across * axis + down * axis[:, None] + phase)


def _paint(pictures: np.ndarray, plane: _Plane, shape: np.ndarray, colour: np.ndarray) -> None:
    """Lay a colour `(n, 3, 1 or 32, 1 or 32)` over the pictures, darker towards the shape's edge."""
    cover = np.clip(0.5 - shape * plane.size * (SIZE / 2), 0, 1)[:, None]
    light = 0.65 + 1.6 * np.clip(-shape, 0, 0.25)[:, None]
    pictures += cover * (colour * light - pictures)


def _scatter(pictures: np.ndarray, rng: np.random.Generator, number: int, scale: tuple) -> None:
    """Paint scraps of the shapes that things are made of."""
    for kind in range(number):
        p = _Plane(rng, len(pictures), scale, turn=np.pi)
        width, height = p.vary(0.2, 1), p.vary(0.2, 1)
        shapes = (p.ellipse, p.box, lambda x, y, w, h, p=p: p.taper(x, y, 0, w, h))
        shape = shapes[kind % len(shapes)](0, 0, width, height)
        _paint(pictures, p, shape, _colours(rng, len(pictures), *_SCRAP))


def _draw_chunk(label: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures of one class, uint8 `(count, 32, 32, 3)`."""
    thing, found_in = list(_THINGS.items())[label]
    horizon = 0.5 + _waves(rng, count) / 2
    above, below = (_colours(rng, count, *_GROUND) for _ in range(2))
    pictures = above * horizon + below * (1 - horizon)
    pictures += _LEANING * (np.reshape(found_in, (3, 1, 1)) - pictures)
    _scatter(pictures, rng, _SCRAPS_BEHIND, (0.1, 0.6))
    plane = _Plane(rng, count, _SCALE, _TURN)
    tones = [_colours(rng, count, *tone) for tone in (_MAIN, _LIGHT, _DARK)]
    ripple = _waves(rng, count) * 20
    for tone, shape in thing(plane):
        _paint(pictures, plane, shape, tones[tone] + ripple)
    _scatter(pictures, rng, _SCRAPS_BEFORE, (0.1, 0.3))
    light = rng.uniform(0.5, 1.1, (count, 1, 1, 1)).astype(np.float32)
    noise = rng.standard_normal(pictures.shape, dtype=np.float32) * _NOISE
    return np.clip(pictures * light + noise, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def draw(count: int, rng: np.random.Generator) -> Split:
    """Draw pictures in random order, balanced over the ten classes to within one."""
    labels = _labels(count, rng)
    images = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    for label in range(len(CLASS_NAMES)):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), _CHUNK):
            chunk = members[start : start + _CHUNK]
            images[chunk] = _draw_chunk(label, len(chunk), rng)
    return Split(images, labels)


def _labels(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.arange(count, dtype=np.int64) % len(CLASS_NAMES))


def read(data_dir: str) -> Contents:
    """The toy set, the same each time, whatever copy is named."""
    train, test = np.random.SeedSequence(0).spawn(2)
    return Contents(_kept(TRAIN_IMAGES, train), _kept(TEST_IMAGES, test), CLASS_NAMES)


def _kept(count: int, seed: np.random.SeedSequence) -> Split:
    """Drawn once and kept in the cache: it takes seconds."""
    drawing = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    key = {"toy set": drawing, "numpy": np.__version__, "count": count, "seed": seed.spawn_key}
    images = cached(key, lambda: draw(count, np.random.default_rng(seed)).images)
    return Split(np.array(images), _labels(count, np.random.default_rng(seed)))
