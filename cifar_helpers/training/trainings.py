"""From a recipe to a trained network and its record."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import filelock

from cifar_helpers import data, hardware, models, recipes, results
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe
from cifar_helpers.training.epochs import EpochLog
from cifar_helpers.training.explained import explain
from cifar_helpers.training.feeding import predict
from cifar_helpers.training.networks import build, check
from cifar_helpers.training.phases import check_averaging, run_phase
from cifar_helpers.training.plans import plan
from cifar_helpers.training.precision import policies
from cifar_helpers.training.progress import note_progress
from cifar_helpers.training.records import make_result, save_model, weights_digest
from cifar_helpers.training.runs import Run, make_run
from cifar_helpers.training.teaching import (
    MODEL,
    SEED,
    Teacher,
    find_teacher,
    make_teacher,
    recorded_teacher,
    teachers_folder,
)

_STANDARD = 128  # images whose statistics a backbone without pretraining begins with


def set_seed(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and the backend.

    Args:
        seed: any whole number >= 0.
        deterministic: ask TensorFlow for deterministic kernels, which are slower. Without them two
            runs agree only as far as the order of floating-point sums allows.
    """
    keras.utils.set_random_seed(seed)
    if deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def train(
    recipe: Recipe,
    splits: data.Splits,
    *,
    seed: int,
    out: str = "",
    weights: backbones.Weights | str | None = None,
    precision: str = "auto",
    deterministic: bool = False,
    published: bool = False,
    verbose: bool = True,
) -> Run:
    """Train a recipe, or resume where an earlier call with the same arguments got to.

    With `out` the training is evaluated and recorded as it ends: `evaluate` then gives that record.
    A student's teacher is trained before it, where its answers are not there.

    Args:
        recipe: what to train and how.
        splits: images and labels; the recipe's own validation share is taken from them.
        seed: of the initial weights, the order of the images, augmentation and dropout.
        out: the run's folder, with `results/` and `checkpoints/`; "" keeps nothing on disk.
        weights: the backbone's, for transfer learning, or its name; None for those that "auto"
            finds. A recipe with a backbone of its own gets that one's, one without pretraining random
            ones.
        precision: "float32", "bfloat16", or "auto": that of the record or checkpoint in `out`, else
            the one of `fastest_precision`.
        deterministic: as of `set_seed`.
        published: take the record that comes with the checkout in place of a training, where there
            is one of the same parameters and images; that of another copy of the data set, with the
            same labels in the same order, is taken too, and marked.
        verbose: print one line an epoch, or for long trainings about six lines.

    Returns:
        The run; `run.model` holds the kept weights, or is None where a finished record was found.

    Raises:
        UserError: for an unknown precision, a recipe that its network cannot follow, weight averages
            of a network with batch norms, or a student that is shown other views than its teacher is
            asked about.
        WeightsError: if the weights of the recipe's or the named backbone, or of the teacher's, cannot
            be had.
    """
    check(recipe)
    seed = int(seed)  # NumPy's have no JSON
    splits = splits.resplit(recipe.validation_fraction, train_size=_train_size(recipe, splits))
    weights = _weights_for(recipe, weights)
    if verbose:
        print(f"{recipe.model} · {recipe.name}, seed {seed}: {recipe.changes}")
    make = partial(make_run, recipe, seed=seed, weights=weights, deterministic=deterministic)
    if published and (run := _published(make, recipe, seed, splits, precision)):
        if verbose:
            print(_told_by_record(run, "Stored record"))
        return run
    allowed = policies(recipe.model, precision)
    teacher = _teacher(recipe, splits, out, deterministic, verbose) if recipe.teacher else None
    make = partial(make, splits, teacher=teacher)
    candidates = [make(precision=policy) for policy in allowed]
    run = _recorded(candidates, out)
    found = run is not None
    if run is None:
        with _one_at_a_time(candidates[0], out):
            run = _recorded(candidates, out)  # by a process that was waited for
            found = run is not None
            if run is None:
                run = _begun(candidates, out) or candidates[0]
                _train(run, out, verbose)
    if found and verbose:
        print(_told_by_record(run, "Trained before"))
    note_progress(out, run, "finished", len(recipe.phases))
    return run


def is_recorded(
    recipe: Recipe,
    splits: data.Splits,
    *,
    seed: int,
    out: str,
    weights: backbones.Weights | str | None = None,
    precision: str = "auto",
    deterministic: bool = False,
) -> bool:
    """Whether `train` with these arguments would find the training done; not for students."""
    splits = splits.resplit(recipe.validation_fraction, train_size=_train_size(recipe, splits))
    weights = _weights_for(recipe, weights)
    make = partial(make_run, recipe, splits, seed=seed, weights=weights)
    candidates = [
        make(precision=policy, deterministic=deterministic)
        for policy in policies(recipe.model, precision)
    ]
    return _recorded(candidates, out) is not None


def _teacher(
    recipe: Recipe, splits: data.Splits, out: str, deterministic: bool, verbose: bool
) -> Teacher:
    """A student's teacher, trained first where its answers are not there.

    A student of few epochs has a teacher of as few, unless one trained for all of them is there.
    """
    teachers = plan(MODEL, [recipe.teacher], seeds=[SEED], epochs=recipe.epochs)
    if len(teachers) > 1:
        raise UserError(f"teacher must name one recipe of {MODEL}; received {recipe.teacher!r}.")
    row, seed = teachers[0]
    if row.validation_fraction != recipe.validation_fraction:
        raise UserError(
            "a student must train on its teacher's images, so both must hold out the same share for "
            f"validation; received {recipe.validation_fraction:g}, and {row.validation_fraction:g} for "
            f"the teacher, {row.name}."
        )
    if found := find_teacher(recipe, splits, out):
        return found
    folder = teachers_folder(splits, out)
    run = train(
        row,
        splits,
        seed=seed,
        out=folder,
        deterministic=deterministic,
        verbose=verbose,
    )
    if run.model:
        digest, images = weights_digest(run.model), run.splits.train.images
        made = make_teacher(recipe.teacher, digest, images, run.model)
    else:  # by a process that was waited for
        made = find_teacher(recipe, splits, out)
    if made is None:
        raise UserError(
            f"the teacher {MODEL} {run.title} must answer; its record is there, but its network is "
            f"not. Remove results/{MODEL}/{row.name}/seed{seed}.json from {folder} to train it again."
        )
    return made


def _one_at_a_time(run: Run, out: str) -> contextlib.AbstractContextManager:
    """Let one process alone do a training in a folder: two students may want a teacher at once."""
    if not out:
        return contextlib.nullcontext()
    path = run.checkpoint(out).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(path)


def _train_size(recipe: Recipe, splits: data.Splits) -> int:
    """How many images to train on: the recipe's number, or that the splits were loaded with.

    The smaller one if there are both, 0 for everything.
    """
    loaded = 0 if splits.is_whole else len(splits.train_indices)
    return min(filter(None, (recipe.train_images, loaded)), default=0)


def _weights_for(
    recipe: Recipe, weights: backbones.Weights | str | None
) -> backbones.Weights | str | None:
    """A recipe's backbone: its own or the given one, as its name where the weights are to be random."""
    if not models.MODELS[recipe.model].has_backbone:
        return None
    given = weights.backbone if isinstance(weights, backbones.Weights) else weights
    # A student's notebook names no backbone for its teacher: the runner's variable does.
    name = recipe.backbone or given or os.environ.get(models.BACKBONE_VARIABLE) or "auto"
    if not recipe.pretrained and name != "auto":
        return name
    if not isinstance(weights, backbones.Weights) or weights.backbone != name:
        weights = _found_weights(name)
    return weights if recipe.pretrained else weights.backbone


@cache
def _found_weights(backbone: str) -> backbones.Weights:
    """A backbone's weights, looked for once in all trainings of a process."""
    return backbones.resolve(backbone)


def _recorded(candidates: list[Run], out: str) -> Run | None:
    """The run that `out` has a record of; of several the one whose record has the row's place."""
    by_hash = {run.parameters_hash: run for run in candidates}
    first = candidates[0]
    result = results.find_result(out, first.recipe, first.seed, *by_hash) if out else None
    if result is None:
        return None
    run = by_hash[result.record["parameters_hash"]]
    run.take_record(result)
    return run


def _published(
    make: Callable[..., Run], recipe: Recipe, seed: int, splits: data.Splits, precision: str
) -> Run | None:
    """The run whose record comes with the checkout, with `make` to name what is wanted."""
    known = recipes.PRECISIONS
    allowed = known.values() if precision == "auto" else [known.get(precision, "")]
    place = (recipe.model, recipe.name, seed)
    here = [result for result in results.published() if result.place == place]
    for result in results.records_of(splits, here):
        record = result.record
        source = replace(splits.source, sha256=record["dataset"]["sha256"])
        about = {"splits": replace(splits, source=source), "teacher": recorded_teacher(record)}
        for policy in allowed:
            run = make(precision=policy, **about)
            if run.parameters_hash == record["parameters_hash"]:
                run.splits = splits
                run.take_record(result)
                return run
    return None


def _begun(candidates: list[Run], out: str) -> Run | None:
    return next((run for run in candidates if out and run.checkpoint(out).exists()), None)


def _told_by_record(run: Run, origin: str) -> str:
    """One line that cannot be taken for a training: it was done then, there, in so long."""
    assert run.result is not None
    record = run.result.record
    where = hardware.hardware_label(record["hardware"])
    took = results.time_in_words([record])
    copy = ", from another copy of the data set" if run.result.other_copy else ""
    epochs = f"{record['epochs']['run']} epochs in {took}"
    return f"{origin}{copy}: {epochs} on {where}, finished {record['created'][:10]}."


def _train(run: Run, out: str, verbose: bool) -> None:
    """Train what is not trained yet, then evaluate and record it if there is a folder."""
    recipe, classes = run.recipe, len(run.splits.class_names)
    hardware.commit()  # kept for the record: by its end the checkout may be another
    set_seed(run.seed, deterministic=run.deterministic)
    run.model = build(recipe, run.backbone, classes=classes, precision=run.precision)
    if not recipe.pretrained:
        models.layers.standardize(run.model, run.splits.train.images[:_STANDARD])
    check_averaging(run)
    log = EpochLog(run, out, verbose)
    log.restore()
    has_backbone = models.MODELS[recipe.model].has_backbone
    for number in range(len(run.phase_epochs), len(recipe.phases)):
        if has_backbone:
            _resize(run, recipe.phases[number].image_size or recipe.image_size)
        run_phase(run, log, number)
    if has_backbone:  # also where every phase was in the checkpoint
        _resize(run, recipe.image_size)
        models.fine_tune(run.model, layers=recipe.phases[-1].unfrozen)
    run.images_per_second = log.images_per_second
    if out:
        evaluate(run, out=out)
    run.splits = replace(run.splits)  # without the images gathered for this training


def _resize(run: Run, size: int) -> None:
    """Let the network take its images at another size; its weights stay."""
    if run.model.get_layer("resize").height == size:
        return
    recipe, classes = replace(run.recipe, image_size=size), len(run.splits.class_names)
    resized = build(recipe, run.backbone, classes=classes, precision=run.precision)
    # With the states of dropout, so that a resumed training draws the same.
    for variable, old in zip(resized.variables, run.model.variables, strict=True):
        variable.assign(old)
    run.model = resized


def evaluate(run: Run, *, out: str = "") -> results.Result:
    """Read the test set, once, and make the run's record.

    Args:
        run: what `train` gave.
        out: the run's folder; the record, the predictions and the model are kept there.

    Returns:
        The record with the test probabilities; the one found by `train` where there was one.
    """
    if run.result is None:
        validation = predict(run.model, run.splits.validation.images)
        started = time.perf_counter()  # now that the network is traced
        test = predict(run.model, run.splits.test.images)
        seconds = time.perf_counter() - started
        run.result = make_result(run, validation, test, prediction_seconds=seconds)
        if run.recipe.explained:
            run.result = replace(run.result, arrays={**run.result.arrays, **explain(run)})
    where = (out, run.recipe, run.seed, run.parameters_hash)
    if out and run.model and results.find_result(*where) is None:
        results.save_result(run.result, out, save_model=partial(save_model, run.model))
        run.checkpoint(out).unlink(missing_ok=True)
    return run.result
