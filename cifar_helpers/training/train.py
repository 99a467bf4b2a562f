"""Training a recipe on the splits: seeding, compiling, fitting, resuming, evaluating.

The only module that compiles and fits. A run that was interrupted goes on from its last finished
epoch; a run whose record is found is not trained again.
"""

import hashlib
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from cifar_helpers import cache, data, files, hardware, models, recipes, results
from cifar_helpers.backend import keras, on_tensorflow_cpu
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Phase, Recipe

# What may be asked for, and Keras' policy for it, by which it is hashed and recorded.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_FASTER_IN_BFLOAT16 = ("baseline_cnn", "vgg10", "resnet20")
# Policies under which an image has so few views that the frozen part need see each only once.
_CACHED = ("none", "flip")
_SHORT_STEP = 5e8  # multiply-adds of the forward pass
_CURVES = ("accuracy", "val_accuracy", "loss", "val_loss", "learning_rate")


@dataclass
class Run:
    """A trained model and how it came about.

    Attributes:
        recipe: what was asked for.
        seed: seed of the initial weights, the order of the images, augmentation and dropout.
        splits: the images, with the recipe's validation share.
        parameters_hash: names all that decides the run's outcome.
        experiment_hash: the same without the seed.
        precision: Keras' policy that the network computes by.
        deterministic: whether TensorFlow was told to use deterministic kernels only.
        history: one value an epoch, over all phases: accuracy, val_accuracy (fractions), loss,
            val_loss (cross-entropy), learning_rate, seconds.
        phase_epochs: epochs run in each phase.
        best_epoch: the epoch, from 1, whose weights were kept.
        seconds: wall time of the training, over all sittings.
        images_per_second: training images a second inside epochs, validation left out.
        model: the trained model; None where a finished record was found.
        result: the record and test predictions, once `evaluate` has run or where it was found.
        backbone: the backbone's weights, where there is one.
    """

    recipe: Recipe
    seed: int
    splits: data.Splits
    parameters_hash: str
    experiment_hash: str = ""
    precision: str = "float32"
    deterministic: bool = False
    history: dict[str, list[float]] = field(default_factory=dict)
    phase_epochs: list[int] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    model: keras.Model | None = None
    result: "results.Result | None" = None
    backbone: backbones.Weights | None = None

    @property
    def title(self) -> str:
        """Recipe and seed, for logs and legends."""
        return f"{self.recipe.name}, seed {self.seed}"

    @property
    def fine_tuning_start(self) -> int | None:
        """The epoch, from 1, at which the second phase starts; None where there is one phase."""
        return self.phase_epochs[0] + 1 if len(self.phase_epochs) > 1 else None


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


def plan(
    model: str,
    wanted: list[str],
    *,
    seeds: list[int],
    epochs: int = 0,
    image_size: list[int] | None = None,
    backbone: str = "",
    out: str = "",
) -> list[tuple[Recipe, int]]:
    """The trainings of a notebook: each wanted recipe with each seed, in the table's order.

    Args:
        model: one of `recipes.MODELS`.
        wanted: recipe names, "reference" for all reference rows.
        seeds: one training each.
        epochs: cap on the epochs of every phase; 0 for the recipes' own.
        image_size: for transfer learning, the sizes in pixels of the `96px` and the `224px` recipe;
            no recipe runs larger than the larger of them.
        backbone: for transfer learning, the one that `backbones.resolve` found: the reference rows
            fine-tune EfficientNet-Lite0 otherwise than EfficientNetV2B0.
        out: the run's folder; the plan is left there for whoever shows progress.

    Returns:
        Pairs of recipe and seed.

    Raises:
        UserError: for an unknown recipe, no recipe or seed at all, or a number out of range.
    """
    _check_numbers(seeds, epochs, image_size)
    chosen = [
        recipes.for_backbone(recipe, backbone).capped(epochs)
        for recipe in recipes.select(model, wanted)
    ]
    if not chosen:
        names = ", ".join(recipe.name for recipe in recipes.of_model(model))
        raise UserError(
            f"recipes must name at least one of {model} ({names}, reference); received {wanted}."
        )
    if image_size:
        chosen = [_resize(recipe, image_size) for recipe in chosen]
    pairs = [(recipe, seed) for recipe in chosen for seed in seeds]
    if out:
        rows = [
            {
                "model": model,
                "recipe": recipe.name,
                "seed": seed,
                "epochs": recipe.epochs,
                "phases": len(recipe.phases),
            }
            for recipe, seed in pairs
        ]
        files.write_json(Path(out) / "plan" / f"{model}.json", rows)
    return pairs


def _check_numbers(seeds: list[int], epochs: int, image_size: list[int] | None) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"seeds must be different whole numbers from 0 up; received {seeds}.")
    if epochs < 0:
        raise UserError(f"epochs must be 1 or more, or 0 for the recipe's own; received {epochs}.")
    if image_size is not None and not (image_size and min(image_size) >= 32):
        raise UserError(f"image_size must hold sizes of 32 pixels or more; received {image_size}.")


def _resize(recipe: Recipe, image_size: list[int]) -> Recipe:
    sizes = {"96px": image_size[0], "224px": image_size[-1]}
    size = sizes.get(recipe.name, min(recipe.image_size, max(image_size)))
    if size == recipe.image_size:
        return recipe
    changes = recipe.changes.replace(f"{recipe.image_size} px", f"{size} px")
    return replace(recipe, image_size=size, changes=changes)


def build(
    recipe: Recipe,
    weights: "backbones.Weights | str | None" = None,
    *,
    precision: str = "float32",
) -> keras.Model:
    """The recipe's untrained network.

    Args:
        recipe: names the model, its dropout and image size.
        weights: the backbone's, for transfer learning.
        precision: Keras' policy; "mixed_bfloat16" computes in bfloat16 and keeps float32 weights.

    Returns:
        An uncompiled model.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        if recipe.model == "transfer":
            return models.transfer(weights, image_size=recipe.image_size, dropout=recipe.dropout)
        options = {} if recipe.dropout is None else {"dropout": recipe.dropout}
        return getattr(models, recipe.model)(centred=recipe.centred, **options)
    finally:
        keras.config.set_dtype_policy(before)


def fastest_precision(model: str) -> str:
    """The precision that was measured to train a model fastest, at equal accuracy, on this device.

    Only processors that multiply bfloat16 in hardware gain from it, and not with every network:
    `benchmarks/speed.py` measures both. Elsewhere float32 is used.

    Args:
        model: one of `recipes.MODELS`.

    Returns:
        "mixed_bfloat16" or "float32".
    """
    fast = model in _FASTER_IN_BFLOAT16 and on_tensorflow_cpu() and hardware.has_bfloat16()
    return "mixed_bfloat16" if fast else "float32"


def train(
    recipe: Recipe,
    splits: data.Splits,
    *,
    seed: int,
    out: str = "",
    weights: "backbones.Weights | str | None" = None,
    precision: str = "auto",
    deterministic: bool = False,
    verbose: bool = True,
) -> Run:
    """Train a recipe, or pick up where an earlier call with the same arguments got to.

    With `out` the training is evaluated and recorded as it ends: `evaluate` then gives that record.

    Args:
        recipe: what to train and how.
        splits: images and labels; the recipe's own validation share is taken from them.
        seed: of the initial weights, the order of the images, augmentation and dropout.
        out: the run's folder, with `results/` and `checkpoints/`; "" keeps nothing on disk.
        weights: the backbone's, for transfer learning.
        precision: "float32", "bfloat16", or "auto": that of the record or checkpoint in `out`, else
            the one of `fastest_precision`.
        deterministic: as of `set_seed`.
        verbose: print one line an epoch, or for long trainings about six lines.

    Returns:
        The run; `run.model` holds the kept weights, or is None where `out` has the finished record.

    Raises:
        UserError: for an unknown precision.
    """
    splits = splits.resplit(recipe.validation_fraction, train_size=_train_size(splits))
    runs = []
    for policy in _policies(recipe, precision):
        options = {"precision": policy, "deterministic": deterministic}
        name = partial(results.parameters_hash, recipe, splits=splits, weights=weights, **options)
        runs.append(Run(recipe, seed, splits, name(seed=seed), name(seed=None), **options))
    run = next((run for run in runs if _is_begun(run, out)), runs[0])
    run.backbone = weights if isinstance(weights, backbones.Weights) else None
    if verbose:
        print(f"{recipe.model} · {run.title}: {recipe.changes}")
    if out and _take_record(run, out):
        if verbose:
            _print_history(run)
        return run
    set_seed(seed, deterministic=deterministic)
    run.model = build(recipe, weights, precision=run.precision)
    log = _Log(run, _checkpoint_path(run, out) if out else None, verbose)
    log.restore()
    for number in range(len(run.phase_epochs), len(recipe.phases)):
        _run_phase(run, log, number)
    if run.recipe.model == "transfer":  # also where every phase was in the checkpoint
        models.fine_tune(run.model, layers=recipe.phases[-1].unfrozen)
    run.images_per_second = log.images_per_second
    if out:
        evaluate(run, out=out)
    return run


def _policies(recipe: Recipe, precision: str) -> list[str]:
    """Keras' policies that a precision stands for, the one to begin a training with first."""
    if precision == "auto":
        fastest = fastest_precision(recipe.model)
        return [fastest, *(policy for policy in PRECISIONS.values() if policy != fastest)]
    if precision not in PRECISIONS:
        raise UserError(
            f"precision must be one of auto, {', '.join(PRECISIONS)}; received {precision!r}."
        )
    return [PRECISIONS[precision]]


def _is_begun(run: Run, out: str) -> bool:
    """Whether a folder holds the run's record or checkpoint."""
    return bool(out) and (
        results.find_result(out, run.recipe, run.seed, run.parameters_hash) is not None
        or _checkpoint_path(run, out).exists()
    )


def _checkpoint_path(run: Run, out: str) -> Path:
    return results.checkpoint_path(out, run.recipe, run.seed, run.parameters_hash)


def _train_size(splits: data.Splits) -> int:
    """The `train_size` the splits were loaded with; 0 where they hold everything."""
    every = len(splits.train_indices) + len(splits.validation_indices) == len(splits.pool)
    return 0 if every else len(splits.train_indices)


def evaluate(run: Run, *, out: str = "") -> "results.Result":
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
        run.result = results.make_result(run, validation, test, prediction_seconds=seconds)
        if out:
            results.save_model(run, out)
            results.save_result(run.result, out)
            _checkpoint_path(run, out).unlink(missing_ok=True)
    return run.result


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Class probabilities, float32 `(n, classes)`, of uint8 images `(n, 32, 32, 3)`."""
    if on_tensorflow_cpu():
        model.jit_compile = False  # a network that is not compiled would go through XLA
    batches = _in_order(model, images, np.zeros(len(images), "int64"))
    return model.predict(feed(batches), verbose=0)


def _evaluation_batch(model: keras.Model) -> int:
    # Enlarged images need more memory: 64 at 224 pixels take about as much as 2,000 at 32.
    return 64 if model.name in ("transfer", "trunk") else 512


def _take_record(run: Run, out: str) -> bool:
    """Fill the run from its record, if `out` has one for exactly these parameters."""
    result = results.find_result(out, run.recipe, run.seed, run.parameters_hash)
    if result is None:
        return False
    record = result.record
    run.result = result
    run.history = record["history"]
    run.phase_epochs = [phase["run"] for phase in record["epochs"]["phases"]]
    run.best_epoch = record["epochs"]["best"]
    run.seconds = record["seconds"]["train"]
    run.images_per_second = record["images_per_second"]
    return True


# One phase


def _run_phase(run: Run, log: "_Log", number: int) -> None:
    """Compile, fit from the last finished epoch, and keep the weights the recipe wants."""
    phase = run.recipe.phases[number]
    log.started = time.perf_counter()  # what the frozen part computes is part of the price
    batches, model, validation = _phase_inputs(run, phase, log.epochs_before)
    steps = math.ceil(len(run.splits.train) / phase.batch_size)
    compile_for(model, phase, steps, run.recipe.label_smoothing)
    callbacks = _callbacks(phase)
    log.begin_phase(number, model, callbacks)
    if not log.phase_is_over:
        model.fit(
            feed(batches),
            epochs=phase.epochs,
            initial_epoch=log.epochs_in_phase,
            validation_data=feed(validation),
            callbacks=[*callbacks, log],
            shuffle=False,  # the batches are in their own, seeded order
            verbose=0,
        )
    if phase.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    log.end_phase()


def _phase_inputs(run: Run, phase: Phase, epoch: int):
    """What the phase trains, and on what: images, or what the frozen part makes of them."""
    model, train, validation = run.model, run.splits.train, run.splits.validation
    options = {"batch_size": phase.batch_size, "seed": run.seed, "epoch": epoch}
    if run.recipe.model == "transfer":
        models.fine_tune(model, layers=phase.unfrozen)
        if phase.unfrozen == 0 or (phase.unfrozen and run.recipe.augmentation in _CACHED):
            trunk, tail = models.split(model)
            views = [train.images, train.images[:, :, ::-1]]
            if run.recipe.augmentation == "none":
                del views[1]
            views = [_activations(run, trunk, view) for view in views]
            held_out = _activations(run, trunk, validation.images)
            batches = _ViewBatches(views, train.labels, **options)
            return batches, tail, _in_order(tail, held_out, validation.labels)
    batches = data.Batches(train.images, train.labels, policy=run.recipe.augmentation, **options)
    return batches, model, _in_order(model, validation.images, validation.labels)


def _in_order(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> data.Batches:
    return data.Batches(images, labels, _evaluation_batch(model), shuffle=False)


def feed(batches: data.Batches):
    """Batches as `fit` and `predict` take them in without delay.

    Keras would wrap them in a `tf.data` pipeline that tunes itself. When an epoch ends TensorFlow
    2.21 often sits idle until the tuner wakes, 5, 10, 20 or 41 s after the epoch's beginning: one
    that had taken 22 s took 41.

    Args:
        batches: of images or activations, of any order and augmentation.

    Returns:
        With TensorFlow the same batches as a `tf.data.Dataset` that does not tune itself, else the
        batches.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def epoch():
        batches.on_epoch_begin()
        # The first augments them all: in a thread that, unlike tf.data's, may use every core.
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(batches.__getitem__, 0).result()
        for index in range(len(batches)):
            batch = batches[index] if index else first
            if index == len(batches) - 1:  # nobody asks what comes after the last one
                batches.on_epoch_end()
            yield batch

    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in batches[0])
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def _activations(run: Run, trunk: keras.Model, images: np.ndarray) -> np.ndarray:
    """What the frozen part of a network makes of images, float16, from the cache if it is there."""

    def compute() -> np.ndarray:
        # Of order one, so that float16 keeps three digits in half the room.
        activations = predict(trunk, images).astype("float16")
        if not np.isfinite(activations).all():
            raise ValueError(f"activations at {trunk.layers[-1].name} are too large for float16.")
        return activations

    if not run.backbone:  # random weights: nobody will ask for them again
        return compute()
    weights = hashlib.sha256()
    for weight in trunk.get_weights():
        weights.update(np.ascontiguousarray(weight))
    key = {
        "weights": weights.hexdigest(),
        "network": trunk.to_json(),
        "images": cache.digest(images),
        "versions": {name: hardware.versions().get(name) for name in ("keras", "cifar-helpers")},
    }
    return cache.cached(key, compute)


class _ViewBatches(data.Batches):
    """Batches of activations: each epoch, each image's activations of one of its views.

    Args:
        views: one array `(n, ...)` of the images as they are, and perhaps one of them mirrored.
        labels: int64 `(n,)`.
        batch_size: images a batch.
        options: as of `data.Batches`.
    """

    def __init__(self, views: list[np.ndarray], labels: np.ndarray, batch_size: int, **options):
        self.views = views
        super().__init__(views[0], labels, batch_size, **options)
        self._first = np.random.default_rng(self.seed).integers(0, 2, size=len(labels))

    def _take(self, chosen: np.ndarray) -> np.ndarray:
        # The same alternation as of flipped images: two epochs in a row show both views.
        view = (self._first[chosen] + self.epoch) % len(self.views)
        taken = self.views[0][chosen]
        if len(self.views) > 1:
            taken[view == 1] = self.views[1][chosen[view == 1]]
        return taken


def compile_for(model: keras.Model, phase: Phase, steps: int, label_smoothing: float = 0.0) -> None:
    """Compile a network for a phase, the fastest way on this device.

    Args:
        model: from `build`, or its upper part; compiled in place.
        phase: names the optimizer and its schedule.
        steps: optimizer steps an epoch.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
    """
    short = phase.batch_size * models.multiply_adds(model) < _SHORT_STEP
    model.compile(
        optimizer=_optimizer(phase, steps),
        loss=_SmoothedCrossEntropy(label_smoothing),
        metrics=[
            "accuracy",
            keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"),
        ],
        # XLA's CPU convolutions halve the speed of these networks.
        jit_compile=False if on_tensorflow_cpu() else "auto",
        # Between short steps Keras' own work in Python would take a tenth of an epoch. PyTorch
        # knows no steps together, and JAX warns of an epoch that is no multiple of them.
        steps_per_execution=16 if short and keras.backend.backend() == "tensorflow" else 1,
    )


@keras.saving.register_keras_serializable(package="cifar_helpers")
class _SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer labels, a share of the target spread evenly over the classes."""

    def __init__(self, label_smoothing: float = 0.0, name="smoothed_cross_entropy", **options):
        super().__init__(name=name, **options)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        targets = keras.ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            targets, y_pred, label_smoothing=self.label_smoothing
        )

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="cifar_helpers")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its peak and falls to zero at the last step.

    Args:
        peak: the highest learning rate.
        steps: optimizer steps of the whole training.
        warmup: share of the steps that rise, in [0, 1).
        shape: "linear" or "cosine", the way down.
    """

    def __init__(self, peak: float, steps: int, warmup: float = 0.0, shape: str = "linear"):
        if shape not in ("linear", "cosine"):
            raise ValueError(f'shape must be "linear" or "cosine"; received {shape!r}.')
        self.peak, self.steps, self.warmup, self.shape = peak, steps, warmup, shape

    def __call__(self, step):
        """The learning rate of the step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        rising = max(1.0, self.warmup * self.steps)
        falling = max(1.0, self.steps - self.warmup * self.steps)
        left = keras.ops.clip((self.steps - step) / falling, 0.0, 1.0)
        if self.shape == "cosine":
            left = 0.5 - 0.5 * keras.ops.cos(math.pi * left)
        rise = (step + 1.0) / rising if self.warmup else keras.ops.ones_like(step)
        return self.peak * keras.ops.minimum(rise, left)

    def get_config(self):
        """The constructor's arguments."""
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup": self.warmup,
            "shape": self.shape,
        }


def _optimizer(phase: Phase, steps: int) -> keras.optimizers.Optimizer:
    rate = phase.learning_rate
    if phase.schedule != "constant":
        rate = WarmupDecay(rate, phase.epochs * steps, phase.warmup, phase.schedule)
    options = {"learning_rate": rate}
    if phase.ema:
        options |= {"use_ema": True, "ema_momentum": phase.ema}
    if phase.weight_decay or phase.optimizer == "adamw":  # which has a default of its own
        options["weight_decay"] = phase.weight_decay
    if phase.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **options)
    else:
        kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
        optimizer = kinds[phase.optimizer](**options)
    if phase.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _callbacks(phase: Phase) -> list[keras.callbacks.Callback]:
    callbacks = []
    if phase.ema:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if phase.reduce_on_plateau:
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=phase.reduce_on_plateau)
        )
    if phase.early_stopping:
        callbacks.append(
            keras.callbacks.EarlyStopping(patience=phase.early_stopping, restore_best_weights=True)
        )
    return callbacks


# What is kept from epoch to epoch


class _Log(keras.callbacks.Callback):
    """Records each epoch, prints its line, and keeps a checkpoint from which to go on."""

    def __init__(self, run: Run, path: Path | None, verbose: bool):
        super().__init__()
        self.run, self.path, self.verbose = run, path, verbose
        self.watched: list[keras.callbacks.Callback] = []
        self.restored: dict | None = None
        self.phase = 0
        self.epochs_in_phase = 0
        self.phase_is_over = False
        self.started = 0.0
        self.fit_seconds = 0.0
        self.run.history = {name: [] for name in (*_CURVES, "seconds")}

    @property
    def epochs_before(self) -> int:
        """Finished epochs over all phases."""
        return len(self.run.history["accuracy"])

    @property
    def images_per_second(self) -> float:
        """Training images a second, over the epochs so far."""
        images = self.epochs_before * len(self.run.splits.train)
        return images / self.fit_seconds if self.fit_seconds else 0.0

    # Beginning and end of a phase

    def begin_phase(self, number: int, model: keras.Model, watched: list) -> None:
        """Get ready for `fit`; take the optimizer's state from the checkpoint if there is one."""
        self.phase, self.watched = number, watched
        self.epochs_in_phase, self.phase_is_over = 0, False
        if self.restored:
            state = self.restored["state"]
            self.epochs_in_phase = state["epochs_in_phase"]
            self.phase_is_over = (
                state["stopped"] or self.epochs_in_phase >= self.run.recipe.phases[number].epochs
            )
            model.optimizer.build(model.trainable_variables)
            _assign(model.optimizer.variables, self.restored["optimizer"])
            if self.phase_is_over and self.restored["best"]:
                model.set_weights(self.restored["best"])

    def end_phase(self) -> None:
        """Note how long the phase took and which epoch's weights it keeps."""
        run = self.run
        before = sum(run.phase_epochs)
        run.phase_epochs.append(self.epochs_in_phase)
        stopping = _first(self.watched, keras.callbacks.EarlyStopping)
        kept = self.epochs_in_phase
        if self.restored and self.phase_is_over:
            kept = self.restored["state"]["best_epoch"] or kept
        elif stopping and stopping.best_weights is not None:
            kept = stopping.best_epoch + 1
        run.best_epoch = before + kept
        run.seconds += time.perf_counter() - self.started
        self.restored = None
        self.epochs_in_phase = 0
        self.save(between_phases=True)

    # Hooks of Keras

    def on_train_begin(self, logs=None):
        if self.restored:
            for callback, state in zip(
                self.watched, self.restored["state"]["watched"], strict=True
            ):
                vars(callback).update(state)
            stopping = _first(self.watched, keras.callbacks.EarlyStopping)
            if stopping and self.restored["best"]:
                stopping.best_weights = self.restored["best"]
            self.restored = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_started = self.validation_started = time.perf_counter()
        # Now, since a callback may change it at the epoch's end; of a schedule, its first step's.
        rate = self.model.optimizer.learning_rate
        self.learning_rate = float(keras.ops.convert_to_numpy(rate))

    def on_test_begin(self, logs=None):
        self.validation_started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        history = self.run.history
        self.fit_seconds += self.validation_started - self.epoch_started
        values = {
            "accuracy": logs["accuracy"],
            "val_accuracy": logs["val_accuracy"],
            # Without label smoothing, whatever the training objective: comparable over recipes.
            "loss": logs["cross_entropy"],
            "val_loss": logs["val_cross_entropy"],
            "learning_rate": self.learning_rate,
            "seconds": time.perf_counter() - self.epoch_started,
        }
        for name, value in values.items():
            history[name].append(float(value))
        self.epochs_in_phase = epoch + 1
        self.save()
        if self.verbose and _is_shown(self.epochs_before, self.run.recipe.epochs):
            print(_epoch_line(self.run, self.epochs_before - 1))

    # Checkpoints

    def save(self, *, between_phases: bool = False) -> None:
        """Write the state after an epoch, and how far the training is, for whoever watches."""
        if self.path is None:
            return
        run = self.run
        seconds = run.seconds
        if not between_phases:
            seconds += time.perf_counter() - self.started
        stopping = _first(self.watched, keras.callbacks.EarlyStopping)
        best = [] if between_phases or not stopping else stopping.best_weights or []
        state = {
            "parameters_hash": run.parameters_hash,
            "versions": hardware.versions(),
            "history": run.history,
            "phase_epochs": run.phase_epochs,
            "best_epoch_before": run.best_epoch,
            "epochs_in_phase": self.epochs_in_phase,
            "between_phases": between_phases,
            "stopped": bool(getattr(self.model, "stop_training", False)),
            "best_epoch": stopping.best_epoch + 1 if len(best) else 0,
            "watched": [_plain_state(callback) for callback in self.watched],
            "seconds": seconds,
            "fit_seconds": self.fit_seconds,
        }
        optimizer = [] if between_phases else self.model.optimizer.variables
        arrays = {"model": run.model.variables, "optimizer": optimizer, "best": best}
        _write_checkpoint(self.path, arrays, state)
        self._write_progress()

    def _write_progress(self) -> None:
        run = self.run
        seconds = run.history["seconds"][-5:]
        progress = {
            "model": run.recipe.model,
            "recipe": run.recipe.name,
            "seed": run.seed,
            "phase": self.phase + 1,
            "phases": len(run.recipe.phases),
            "epoch": self.epochs_before,
            "epochs": run.recipe.epochs,
            "seconds_per_epoch": sum(seconds) / max(len(seconds), 1),
            "val_accuracy": run.history["val_accuracy"][-1],
            "updated": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        files.write_json(self.path.with_name("progress.json"), progress)

    def restore(self) -> None:
        """Take up the checkpoint of an earlier sitting, if it fits; else set it aside."""
        if self.path is None or not self.path.exists():
            return
        saved = _read_checkpoint(self.path)
        problem = "could not be read" if saved is None else self._misfit(saved)
        if problem:
            aside = self.path.with_suffix(".corrupt" if saved is None else ".other")
            os.replace(self.path, aside)
            print(f"The checkpoint {problem}: set aside as {aside.name}; training starts anew.")
            return
        state, run = saved["state"], self.run
        run.history, run.phase_epochs = state["history"], state["phase_epochs"]
        run.best_epoch, run.seconds = state["best_epoch_before"], state["seconds"]
        self.fit_seconds = state["fit_seconds"]
        _assign(run.model.variables, saved["model"])
        self.restored = None if state["between_phases"] else saved
        if self.verbose and self.epochs_before:
            print(f"going on after epoch {self.epochs_before}")

    def _misfit(self, saved: dict) -> str:
        """Why training cannot go on from a checkpoint as if it had not stopped; "" if it can."""
        state = saved["state"]
        if state["parameters_hash"] != self.run.parameters_hash:
            return "is of other parameters"
        now = hardware.versions()
        for name, before in state["versions"].items():
            if now.get(name) != before:
                return f"was made with {name} {before}, now it is {now.get(name)}"
        shapes = [tuple(variable.shape) for variable in self.run.model.variables]
        if [value.shape for value in saved["model"]] != shapes:
            return "is of another network"
        return ""


def _first(callbacks: list, kind: type):
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def _plain_state(callback: keras.callbacks.Callback) -> dict:
    """The numbers by which a callback remembers earlier epochs."""
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
    state = {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    return {
        name: float(value) if name == "best" and value is not None else value
        for name, value in state.items()
    }


def _assign(variables: list, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _write_checkpoint(path: Path, arrays: dict[str, list], state: dict) -> None:
    flat = {
        f"{group}/{position}": keras.ops.convert_to_numpy(value)
        for group, values in arrays.items()
        for position, value in enumerate(values)
    }
    encoded = np.array(json.dumps(state))
    files.replace_file(path, lambda file: np.savez(file, state=encoded, **flat))


def _read_checkpoint(path: Path) -> dict | None:
    """The checkpoint, or None if it cannot be read."""
    saved: dict = {"model": [], "optimizer": [], "best": []}
    try:
        with np.load(path, allow_pickle=False) as file:
            saved["state"] = json.loads(str(file["state"]))
            for group in ("model", "optimizer", "best"):
                count = sum(name.startswith(f"{group}/") for name in file.files)
                saved[group] = [file[f"{group}/{position}"] for position in range(count)]
    except Exception:  # zipfile, zlib, json and NumPy each have their own ways to object
        return None
    return saved


# Lines in the notebook


def _is_shown(epoch: int, epochs: int) -> bool:
    """Whether the epoch gets a line: all of a short training, about six of a long one."""
    every = 1 if epochs <= 6 else math.ceil(epochs / 5)
    return epoch == 1 or epoch == epochs or epoch % every == 0


def _epoch_line(run: Run, index: int) -> str:
    value = {name: values[index] for name, values in run.history.items()}
    return (
        f"epoch {index + 1:3d}/{run.recipe.epochs}  {value['seconds']:5.1f} s  "
        f"training {value['accuracy']:6.1%} loss {value['loss']:.3f}  "
        f"validation {value['val_accuracy']:6.1%} loss {value['val_loss']:.3f}"
    )


def _print_history(run: Run) -> None:
    """The lines of a run that was trained earlier."""
    epochs = len(run.history["accuracy"])
    for index in range(epochs):
        if _is_shown(index + 1, run.recipe.epochs) or index == epochs - 1:
            print(_epoch_line(run, index))
