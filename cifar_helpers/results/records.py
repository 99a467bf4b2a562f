"""One record a training run: made, written, found again, and put side by side.

A record is `results/<model>/<recipe>/seed<k>.json`, with the test probabilities and labels beside
it in `seed<k>.npz`. Both are written to a temporary name first, so a reader never sees half a file.
"""

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_helpers import files, hardware, metrics, recipes
from cifar_helpers.errors import UserError


@dataclass(frozen=True)
class Result:
    """A run's record with its predictions.

    Attributes:
        record: the fields of `seed<k>.json`.
        probabilities: float `(n, classes)`, of the test images.
        labels: int `(n,)`, of the test images.
        validation_probabilities: float `(m, classes)`, of the validation images; None in records
            made before they were kept.
        validation_labels: int `(m,)`, of the validation images, or None.
    """

    record: dict
    probabilities: np.ndarray
    labels: np.ndarray
    validation_probabilities: np.ndarray | None = None
    validation_labels: np.ndarray | None = None

    @property
    def recipe(self) -> recipes.Recipe | None:
        """The recipe the record names, as the package knows it today; None if it no longer does."""
        backbone = (self.record["backbone"] or {}).get("backbone", "")
        rows = (
            recipes.for_backbone(row, backbone) for row in recipes.of_model(self.record["model"])
        )
        return next((row for row in rows if row.name == self.record["recipe"]), None)

    @property
    def predictions(self) -> np.ndarray:
        """The most probable class of each test image, int `(n,)`."""
        return metrics.predictions(self.probabilities)


# Where things are


def _record_path(out: str | Path, model: str, recipe: str, seed: int) -> Path:
    return Path(out) / "results" / model / recipe / f"seed{seed}.json"


def checkpoint_path(
    out: str | Path, recipe: recipes.Recipe, seed: int, parameters_hash: str
) -> Path:
    """Where a training keeps its checkpoint; its progress is beside it.

    Trainings of other parameters have other files, so none is lost by a try in between.
    """
    folder = Path(out) / "checkpoints" / recipe.model / recipe.name / f"seed{seed}"
    return folder / f"{parameters_hash[:12]}.npz"


# Making a record


def parameters_hash(
    recipe: recipes.Recipe,
    seed: int | None,
    splits,
    weights=None,
    *,
    precision: str = "float32",
    deterministic: bool = False,
) -> str:
    """A name for all that decides a run's outcome: recipe, seed, images, backbone weights.

    Args:
        recipe: as capped and resized.
        seed: of the run; None names the experiment, whose trainings differ in their seed alone.
        splits: the images, with their source and the seed of the split.
        weights: the backbone's, where there is one.
        precision: Keras' policy that the network computes by.
        deterministic: whether only deterministic kernels are used.

    Returns:
        Hexadecimal SHA-256, 64 characters.
    """
    return recipes.parameters_hash(
        recipe,
        seed=seed,
        data_sha256=splits.source.sha256,
        split_seed=splits.seed,
        train_images=len(splits.train),
        validation_images=len(splits.validation),
        weights=getattr(weights, "sha256", weights),
        precision=precision,
        deterministic=deterministic,
    )


def make_result(
    run, validation: np.ndarray, test: np.ndarray, *, prediction_seconds: float
) -> Result:
    """A finished run's record.

    Args:
        run: a `training.Run` with its model.
        validation: probabilities of the validation images, `(n, classes)`.
        test: probabilities of the test images, `(n, classes)`.
        prediction_seconds: that the test images took.

    Returns:
        The record with the predictions.
    """
    splits, labels = run.splits, run.splits.test.labels
    # What is kept on disk is what is measured, so a record can be made anew from its predictions.
    test, validation = (kept.astype("float16").astype("float32") for kept in (test, validation))
    temperature = metrics.fit_temperature(splits.validation.labels, validation)
    scaled = metrics.temperature_scale(test, temperature)
    record = {
        "model": run.recipe.model,
        "recipe": run.recipe.name,
        "changes": run.recipe.changes,
        "seed": run.seed,
        "dataset": {
            **splits.source.as_dict(),
            "train_images": len(splits.train),
            "validation_images": len(splits.validation),
            "test_images": len(labels),
        },
        "backbone": run.backbone.as_dict() if run.backbone else None,
        "image_size": run.recipe.image_size,
        "precision": run.precision,
        "deterministic": run.deterministic,
        **_model_fields(run),
        **_training_fields(run),
        "prediction_seconds_per_image": prediction_seconds / len(labels),
        "validation": _score(splits.validation.labels, validation),
        **_test_fields(labels, test, splits.class_names),
        "temperature_scaling": {
            "temperature": temperature,
            "test_loss": metrics.cross_entropy(labels, scaled),
            "calibration": metrics.calibration(labels, scaled),
        },
        "hardware": hardware.describe_hardware(),
        "versions": hardware.versions(),
        "parameters_hash": run.parameters_hash,
        "experiment_hash": run.experiment_hash,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return Result(record, test, labels, validation, splits.validation.labels)


def _score(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    return {
        "accuracy": metrics.accuracy(labels, probabilities),
        "loss": metrics.cross_entropy(labels, probabilities),
    }


def _model_fields(run) -> dict:
    from cifar_helpers import models  # here, so that reading records does not load Keras

    return {
        "parameters": models.parameter_counts(run.model),
        "multiply_adds": models.multiply_adds(run.model),
        "weights_sha256": weights_digest(run.model),
    }


def weights_digest(model) -> str:
    """SHA-256 of all weights of a network, in order, hexadecimal."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def _training_fields(run) -> dict:
    history = run.history
    epochs = len(history["accuracy"])
    phases = [
        {"requested": phase.epochs, "run": ran}
        for phase, ran in zip(run.recipe.phases, run.phase_epochs, strict=True)
    ]
    return {
        "epochs": {
            "requested": run.recipe.epochs,
            "run": epochs,
            "best": run.best_epoch,
            "phases": phases,
        },
        "train": {"accuracy": history["accuracy"][-1], "loss": history["loss"][-1]},
        "overfitting_gap": _gap(history, epochs),
        "kept_epoch": {"epoch": run.best_epoch, "overfitting_gap": _gap(history, run.best_epoch)},
        "history": history,
        "seconds": {"train": run.seconds, "per_epoch": sum(history["seconds"]) / epochs},
        "images_per_second": run.images_per_second,
    }


def _gap(history: dict, epoch: int) -> float:
    """Training minus validation accuracy of an epoch, counted from 1, in percentage points."""
    return 100 * (history["accuracy"][epoch - 1] - history["val_accuracy"][epoch - 1])


def _test_fields(labels: np.ndarray, probabilities: np.ndarray, class_names: tuple) -> dict:
    predicted = metrics.predictions(probabilities)
    matrix = metrics.confusion_matrix(labels, predicted)
    return {
        "test": _score(labels, probabilities),
        "test_accuracy_interval": list(metrics.accuracy_interval(labels, probabilities)),
        "per_class": metrics.per_class(labels, predicted, class_names),
        "confusion_matrix": matrix.tolist(),
        "confused_pairs": metrics.confused_pairs(matrix, class_names),
        "calibration": metrics.calibration(labels, probabilities),
    }


# Writing and reading


def save_result(result: Result, out: str | Path) -> Path:
    """Write a record and its predictions under `out`/results.

    A record of other parameters that is there already is moved to the folder `earlier` beside it.

    Args:
        result: what to keep.
        out: the run's folder.

    Returns:
        The path of the JSON file, which is written last: where it is, the predictions are too.
    """
    record = result.record
    path = _record_path(out, record["model"], record["recipe"], record["seed"])
    _set_aside_other(path, record["parameters_hash"])
    arrays = {
        "probabilities": result.probabilities.astype("float16"),
        "labels": result.labels.astype("uint8"),
    }
    if result.validation_probabilities is not None:
        arrays |= {
            "validation_probabilities": result.validation_probabilities.astype("float16"),
            "validation_labels": result.validation_labels.astype("uint8"),
        }
    files.replace_file(path.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
    files.write_json(path, record)
    return path


def _set_aside_other(path: Path, wanted: str) -> None:
    """Move a record of other parameters, or a damaged one, and its network out of the way."""
    try:
        found = json.loads(path.read_text())["parameters_hash"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        found = "damaged"
    if found != wanted:
        _set_aside(path, found)


def _set_aside(path: Path, name: str) -> None:
    _move(path, _earlier_path(path, name))
    print(f"An earlier record of {path.parent.parent.name} {path.parent.name} is kept in earlier/.")


def _earlier_path(path: Path, parameters_hash: str) -> Path:
    """Where the record that `path` had with other parameters is."""
    return path.parent / "earlier" / f"{path.stem}-{parameters_hash[:8]}.json"


def _move(path: Path, to: Path) -> None:
    """Move a record with its predictions and its network, the record last."""
    files = {_model_path(path): _model_path(to)}
    files |= {path.with_suffix(suffix): to.with_suffix(suffix) for suffix in (".npz", ".json")}
    for source, target in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            os.replace(source, target)


def _model_path(path: Path) -> Path:
    """Where the trained network of a record is, under `models` or `models/earlier`."""
    earlier = ("earlier",) if path.parent.name == "earlier" else ()
    recipe = path.parents[len(earlier)]
    out = recipe.parents[2]
    name = f"{recipe.parent.name}-{recipe.name}-{path.stem}.keras"
    return Path(out, "models", *earlier, name)


def save_model(run, out: str | Path) -> Path:
    """Write a run's trained network, uncompiled, under `out`/models as a `.keras` file.

    That of a record with other parameters is moved to the folder `earlier` beside it.
    """
    import keras

    record = _record_path(out, run.recipe.model, run.recipe.name, run.seed)
    _set_aside_other(record, run.parameters_hash)
    path = _model_path(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A copy without the optimizer, whose state would treble the file.
    plain = keras.Model.from_config(run.model.get_config())
    plain.set_weights(run.model.get_weights())
    partial = path.with_name(f".{path.stem}.{os.getpid()}.keras")
    try:
        plain.save(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _read_result(path: Path) -> Result:
    try:
        record = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            kinds = {"probabilities": "float32", "labels": "int64"}
            kinds |= {f"validation_{name}": kind for name, kind in kinds.items()}
            arrays = {
                name: file[name].astype(kind) for name, kind in kinds.items() if name in file.files
            }
            return Result(record, arrays.pop("probabilities"), arrays.pop("labels"), **arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"the record {path.name} could not be read: {error}") from error


def find_result(out: str | Path, recipe: recipes.Recipe, seed: int, wanted: str) -> Result | None:
    """The finished record of exactly these parameters, or None.

    One that other parameters have displaced is put back, with its network. A damaged one is moved
    to the folder `earlier`.

    Args:
        out: the run's folder.
        recipe: names the record.
        seed: names the record.
        wanted: the `parameters_hash` that the record must have.
    """
    path = _record_path(out, recipe.model, recipe.name, seed)
    found = _read_or_set_aside(path)
    if found and found.record.get("parameters_hash") == wanted:
        return found
    # A training of other parameters may have come in between.
    earlier = _earlier_path(path, wanted)
    found = _read_or_set_aside(earlier)
    if found is None or found.record.get("parameters_hash") != wanted:
        return None
    _set_aside_other(path, wanted)
    _move(earlier, path)
    print("Its record was kept in earlier/ and is taken up again.")
    return found


def _read_or_set_aside(path: Path) -> Result | None:
    """A record, or None if there is none; a damaged one is moved aside."""
    if not path.exists():
        return None
    try:
        return _read_result(path)
    except UserError as error:
        aside = _earlier_path(path, "damaged")
        if path.parent.name == "earlier":
            aside = path.with_name(f"{path.stem}-damaged.json")
        _move(path, aside)
        print(f"{error}. It is kept as {aside.name}, and the training is done anew.")
        return None


def load_results(out: str | Path) -> list[Result]:
    """All records under `out`/results, in the order of the study's table, then by seed.

    One that cannot be read is left out, with a line that says so.
    """
    rows = [(recipe.model, recipe.name) for recipe in recipes.RECIPES]
    found = []
    for path in sorted((Path(out) / "results").glob("*/*/seed*.json")):
        try:
            found.append(_read_result(path))
        except UserError as error:
            print(f"Left out: {error}.")

    def position(result: Result) -> tuple:
        row = (result.record["model"], result.record["recipe"])
        return (rows.index(row) if row in rows else len(rows), row, result.record["seed"])

    return sorted(found, key=position)


# Tables


def by_recipe(found: list[Result]) -> dict[tuple, list[Result]]:
    """Results that differ in their seed alone, together, in the order given.

    Args:
        found: results of any kind.

    Returns:
        By model, recipe and all else that a mean must not mix: epochs asked for, training images,
        image size, backbone and precision.
    """
    groups: dict[tuple, list[Result]] = {}
    for result in found:
        groups.setdefault(_experiment(result.record), []).append(result)
    return groups


def _experiment(record: dict) -> tuple:
    return (
        record["model"],
        record["recipe"],
        record["epochs"]["requested"],
        record["dataset"]["train_images"],
        record["image_size"],
        (record["backbone"] or {}).get("sha256"),
        record["precision"],
    )


def results_table(found: list[Result]) -> pd.DataFrame:
    """One row a (model, recipe): means over seeds, and the published figure where one applies.

    Args:
        found: results of one data set.

    Returns:
        Columns model, recipe, changes, parameters, epochs, seeds, accuracy, low, high (fractions),
        interval (what the interval covers), loss, gap (percentage points), seconds, and, if the
        images are CIFAR-10's, reference (fraction), reference_loss and reference_gap, NaN where
        the study had no such row, reference_epochs (run / planned), and reference_backbone, ""
        where it is the record's own.
    """
    table = pd.DataFrame([_table_row(group) for group in by_recipe(found).values()])
    if not all(result.record["dataset"]["real"] for result in found):
        table = table.drop(columns=[name for name in table if name.startswith("reference")])
    return table


def _table_row(group: list[Result]) -> dict:
    records = [result.record for result in group]
    first, published = records[0], _published(group[0])
    accuracies = [record["test"]["accuracy"] for record in records]
    interval = metrics.seeds_interval(accuracies)
    covers = f"{len(records)} seeds" if interval else "test images"
    low, high = np.clip(interval or first["test_accuracy_interval"], 0, 1).tolist()
    return {
        "model": first["model"],
        "recipe": first["recipe"],
        "changes": first["changes"],
        "parameters": first["parameters"]["total"],
        "epochs": "/".join(str(first["epochs"][name]) for name in ("run", "requested")),
        "seeds": len(records),
        "accuracy": float(np.mean(accuracies)),
        "low": low,
        "high": high,
        "interval": covers,
        "loss": float(np.mean([record["test"]["loss"] for record in records])),
        "gap": float(np.mean([record["overfitting_gap"] for record in records])),
        "seconds": float(np.mean([record["seconds"]["train"] for record in records])),
        "reference": published.test_accuracy if published else np.nan,
        "reference_loss": published.test_loss if published else np.nan,
        "reference_gap": published.overfitting_gap if published else np.nan,
        "reference_epochs": published.epochs if published else "",
        "reference_backbone": _other_backbone(first, published),
    }


def about_reference(row) -> str:
    """What to say beside a published figure: its epochs, its backbone where that was another one.

    Args:
        row: of `results_table`, one that has a published figure.
    """
    backbone = recipes.BACKBONE_LABELS.get(row["reference_backbone"], row["reference_backbone"])
    return ", ".join(filter(None, [f"{row['reference_epochs']} epochs", backbone]))


def _published(result: Result) -> recipes.Reference | None:
    """The published figures of the row, unless it was run at another image size."""
    recipe = result.recipe
    same = recipe is not None and recipe.image_size == result.record["image_size"]
    return recipe.reference if same else None


def _other_backbone(record: dict, published: recipes.Reference | None) -> str:
    """The backbone of the published figures, where the record has another one; else ""."""
    backbone = (record["backbone"] or {}).get("backbone", "")
    return published.backbone if published and published.backbone != backbone else ""


def missing_rows(found: list[Result]) -> list[tuple[str, str]]:
    """The (model, recipe) pairs of the study that have no record."""
    have = {(result.record["model"], result.record["recipe"]) for result in found}
    return [
        (recipe.model, recipe.name)
        for recipe in recipes.RECIPES
        if (recipe.model, recipe.name) not in have
    ]


def best_by_validation(found: list[Result]) -> Result:
    """The first seed of the recipe that is best on validation, as a mean over its seeds.

    The test set has no say in it, nor has a lucky seed.
    """

    def mean_accuracy(group: list[Result]) -> float:
        return float(np.mean([result.record["validation"]["accuracy"] for result in group]))

    return max(by_recipe(found).values(), key=mean_accuracy)[0]


def best_of_each_model(found: list[Result]) -> list[Result]:
    """One result a model, in the study's order, each the model's best on validation."""
    chosen = []
    for model in recipes.MODELS:
        of_model = [result for result in found if result.record["model"] == model]
        if of_model:
            chosen.append(best_by_validation(of_model))
    return chosen


def of_data(found: list[Result], splits) -> list[Result]:
    """The results on exactly these images; records of other data never share a table.

    Raises:
        UserError: if there is none.
    """
    same = [
        result for result in found if result.record["dataset"]["sha256"] == splits.source.sha256
    ]
    if not same:
        raise UserError(
            f"the comparison needs records of {splits.source.name}; found {len(found)} records, "
            "none of these images. Run notebooks 01 to 04 with the same `out` first."
        )
    return same
