"""One record a training: written, found again, and kept where another takes its place.

A record is `results/<model>/<recipe>/seed<k>.json`, with the predictions beside it in `seed<k>.npz`
and the trained network in `models/<model>-<recipe>-seed<k>.keras`. The JSON is written last: where
it is, the rest is too.
"""

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from cifar_helpers import files, metrics, recipes
from cifar_helpers.errors import UserError, user_path
from cifar_helpers.text import listed

_CHECKOUT = Path(__file__).resolve().parents[2]

# Arrays of `seed<k>.npz`: their types there and in memory.
_ARRAYS = {
    "probabilities": ("float16", "float32"),
    "labels": ("uint8", "int64"),
    "validation_probabilities": ("float16", "float32"),
    "validation_labels": ("uint8", "int64"),
    "heat_maps": ("float16", "float32"),
    "heat_map_images": ("int32", "int64"),
    "nearest": ("int32", "int64"),
}

# Fields of `seed<k>.json` without which a record cannot be told apart or shown: version 0.1 wrote
# records without the last four.
REQUIRED = set(
    "model recipe seed parameters_hash experiment_hash kept_epoch temperature_scaling "
    "prediction_seconds_per_image".split()
)


def backbone_of(record: Mapping[str, Any]) -> str:
    """The backbone that a record names, "" for none."""
    return (record.get("backbone") or {}).get("backbone", "")


@dataclass(frozen=True)
class Result:
    """A training's record with its predictions.

    Attributes:
        record: the fields of `seed<k>.json`.
        arrays: `probabilities`, float32 `(n, classes)`, and `labels`, int64 `(n,)`, of the test
            images; `validation_probabilities` and `validation_labels` likewise; of some rows what
            `training.explained` gives. Those of a record on disk are read when they are used.
        other_copy: whether it was made on another complete copy of the data set than the images at
            hand.
    """

    record: dict[str, Any]
    arrays: Mapping[str, np.ndarray]
    other_copy: bool = False

    @property
    def probabilities(self) -> np.ndarray:
        """Of the test images, float32 `(n, classes)`."""
        return self.arrays["probabilities"]

    @property
    def labels(self) -> np.ndarray:
        """Of the test images, int64 `(n,)`."""
        return self.arrays["labels"]

    @property
    def row(self) -> tuple[str, str]:
        """Model and recipe, by which the study's table knows it."""
        return self.record["model"], self.record["recipe"]

    @property
    def place(self) -> tuple[str, str, int]:
        """Model, recipe and seed, by which its files are named."""
        return (*self.row, self.record["seed"])

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each test image, int64 `(n,)`."""
        return metrics.predictions(self.probabilities)

    @property
    def recipe(self) -> recipes.Recipe | None:
        """The recipe the record names, as the package knows it today; None if it no longer does."""
        backbone = backbone_of(self.record)
        for row in recipes.of_model(self.record["model"]):
            if row.name == self.record["recipe"]:
                return recipes.for_backbone(row, backbone)
        return None


class _StoredArrays(Mapping):
    """The arrays of `seed<k>.npz`, each read when it is first used."""

    def __init__(self, path: Path):
        self.path = path
        self._read: dict[str, np.ndarray] = {}
        try:
            with open(path, "rb") as file:  # by its path, what cannot be read would be no archive
                whole = zipfile.is_zipfile(file)
                self._written = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            whole = False
        except OSError as error:
            raise UserError(f"the predictions {path} could not be read: {error}") from error
        if not whole:
            raise UserError(f"the predictions {path} are not there, or not whole")

    @cached_property
    def _names(self) -> list[str]:
        with self._opened() as file:
            if missing := {"probabilities", "labels"} - set(file.files):
                raise ValueError(f"without {listed(sorted(missing))}")
            # A later version may keep others too.
            return [name for name in file.files if name in _ARRAYS]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            with self._opened() as file:
                self._read[name] = file[name].astype(_ARRAYS[name][1])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with open(self.path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                if os.fstat(opened.fileno()).st_mtime_ns != self._written:
                    raise ValueError("they were written anew since their record was read")
                yield file
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"the predictions {self.path} could not be read: {error}") from error


# Where things are


@dataclass(frozen=True)
class _Place:
    """The files of one training, in a run's folder or in the folders `earlier` of it."""

    out: Path
    model: str
    recipe: str
    seed: int
    earlier: str = ""  # the hash's first eight digits, of one that another has taken the place of

    @property
    def name(self) -> str:
        return f"seed{self.seed}" + (f"-{self.earlier}" if self.earlier else "")

    @property
    def folder(self) -> str:
        return "earlier" if self.earlier else ""

    @property
    def record(self) -> Path:
        return self.out / "results" / self.model / self.recipe / self.folder / f"{self.name}.json"

    @property
    def predictions(self) -> Path:
        return self.record.with_suffix(".npz")

    @property
    def network(self) -> Path:
        return self.out / "models" / self.folder / f"{self.model}-{self.recipe}-{self.name}.keras"

    def named(self, parameters_hash: str) -> "_Place":
        """Where the same row's record of these parameters is kept, once another takes its place."""
        return replace(self, earlier=parameters_hash[:8])

    def move(self, to: "_Place") -> None:
        """Move network, predictions and record, the record last."""
        for part in ("network", "predictions", "record"):
            target = getattr(to, part)
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # none, or another process was quicker
                files.move(getattr(self, part), target)


def model_path(out: str | os.PathLike, model: str, recipe: str, seed: int) -> Path:
    """Where a run keeps the trained network of a row, a `.keras` file."""
    return _Place(user_path(out), model, recipe, seed).network


def record_path(out: str | os.PathLike, model: str, recipe: str, seed: int) -> Path:
    """Where a run keeps the record of a row, a JSON file."""
    return _Place(user_path(out), model, recipe, seed).record


def checkpoint_path(
    out: str | os.PathLike, recipe: recipes.Recipe, seed: int, parameters_hash: str
) -> Path:
    """Where a training keeps its checkpoint: trainings of other parameters have other files."""
    folder = user_path(out) / "checkpoints" / recipe.model / recipe.name / f"seed{seed}"
    return folder / f"{parameters_hash[:12]}.npz"


# Writing


def save_result(
    result: Result, out: str | os.PathLike, *, save_model: Callable[[Path], Any] | None = None
) -> Path:
    """Write a training's network, predictions and record under `out`; returns the record's path.

    A record of other parameters that has their place is moved to the folders `earlier` first, with
    its predictions and its network. `save_model` writes the trained network, whole, to a path.
    """
    record = result.record
    place = _Place(user_path(out), *result.place)
    with _held(place):
        _make_room(place, record["parameters_hash"])
        if save_model:
            place.network.parent.mkdir(parents=True, exist_ok=True)
            save_model(place.network)
        arrays: dict[str, Any] = {
            name: array.astype(_ARRAYS[name][0]) for name, array in result.arrays.items()
        }
        files.replace_file(place.predictions, lambda file: np.savez_compressed(file, **arrays))
        files.write_json(place.record, record)
    return place.record


def _held(place: _Place) -> filelock.FileLock:
    """A lock on a row's place: two processes that save there would mix their files."""
    place.record.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(place.record.with_name(f".{place.record.stem}.lock"))


def _make_room(place: _Place, wanted: str) -> None:
    """Move a record of other parameters, or a damaged one, to `earlier`."""
    try:
        found = json.loads(place.record.read_text())["parameters_hash"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        found = "damaged"
    if found != wanted:
        place.move(place.named(found))
        print(f"An earlier record of {place.model} {place.recipe} is kept in earlier/.")


# Reading


def find_result(
    out: str | os.PathLike, recipe: recipes.Recipe, seed: int, *wanted: str
) -> Result | None:
    """A row's finished record with one of the `parameters_hash` that are wanted, or None.

    That which has the row's place comes first; else one whose place another has taken is moved back,
    with its network. A damaged one is moved to the folder `earlier`.
    """
    place = _Place(user_path(out), recipe.model, recipe.name, seed)
    found = _read_wanted(place, wanted)
    for each in () if found else wanted:
        if found := _read_wanted(place.named(each), (each,)):
            with _held(place):
                _make_room(place, each)
                place.named(each).move(place)
            print("Its record was kept in earlier/ and is used again.")
            break
    return found


def _read_wanted(place: _Place, wanted: Sequence[str]) -> Result | None:
    """The record at a place if it has wanted parameters; a damaged one is moved away."""
    if not place.record.exists():
        return None
    try:
        found: Result | None = _read_whole(place)
    except UserError:
        with _held(replace(place, earlier="")):  # so that no other process is moving it
            found = _read_or_move(place)
    return found if found and found.record["parameters_hash"] in wanted else None


def _read_or_move(place: _Place) -> Result | None:
    if not place.record.exists():
        return None
    try:
        return _read_whole(place)
    except UserError as error:
        if error.__cause__ and not files.is_damage(error.__cause__):
            raise
        place.move(place.named("damaged"))
        print(f"{error}. It is kept as {place.named('damaged').name}; the training is done anew.")
    return None


def _read_whole(place: _Place) -> Result:
    """The record at a place, all of whose arrays are sound."""
    found = _read_result(place.record)
    dict(found.arrays)
    return found


def _read_result(path: Path) -> Result:
    try:
        record = json.loads(path.read_text())
        missing = REQUIRED - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"the record {path} could not be read: {error}") from error
    if missing:
        raise UserError(f"the record {path} could not be read: it lacks {listed(sorted(missing))}")
    return Result(record, _StoredArrays(path.with_suffix(".npz")))


def load_results(out: str | os.PathLike) -> list[Result]:
    """All records under `out`/results, in the order of the study's table, then by seed.

    One that cannot be read is left out, with a line that says so.
    """
    found = []
    for path in sorted((user_path(out) / "results").glob("*/*/seed*.json")):
        try:
            found.append(_read_result(path))
        except UserError as error:
            print(f"Left out: {error}.")
    order = {(row.model, row.name): place for place, row in enumerate(recipes.RECIPES)}

    def position(result: Result) -> tuple:
        return (order.get(result.row, len(order)), *result.place)

    return sorted(found, key=position)


def published() -> list[Result]:
    """The records that come with the checkout; none where the package is installed without it."""
    return load_results(_CHECKOUT)


def known(out: str | os.PathLike = "") -> list[Result]:
    """The records of a run's folder and the published ones, each training once, the folder's first.

    Args:
        out: the run's folder; "" for none.
    """
    found: dict[str, Result] = {}
    for result in (*(load_results(out) if out else ()), *published()):
        found.setdefault(result.record["parameters_hash"], result)
    return list(found.values())


def published_network(model: str, recipe: str, seed: int) -> Path:
    """Where a published row's trained network is, beside its record, for the rows that have one."""
    return _Place(_CHECKOUT, model, recipe, seed).record.with_suffix(".keras")
