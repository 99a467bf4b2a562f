"""The trainings of a run as units of work: planned by the runner, done in any process."""

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_helpers import data, models, recipes
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe
from cifar_helpers.runner.inputs import Inputs, absolute_path
from cifar_helpers.runner.notebooks import Notebook
from cifar_helpers.runner.options import Options

if TYPE_CHECKING:
    from cifar_helpers.results import Result

WATCH = 2.0  # seconds between a cluster's worker's looks at whether the runner is still there


@dataclass(frozen=True)
class Training:
    """A recipe with a seed, and all that is needed to train it.

    Attributes:
        recipe: as capped and resized.
        seed: of the training.
        dataset: as of `data.load`.
        data_dir: as of `data.load`.
        train_size: as of `data.load`.
        images: how many images the data set has for training and validation.
        precision: as of `training.train`.
        deterministic: as of `training.train`.
        backbone: name of the backbone; "" where there is none.
        weights_file: its weights, as of `backbones.resolve`.
    """

    recipe: Recipe
    seed: int
    dataset: str
    data_dir: str = ""
    train_size: int = 0
    images: int = 0
    precision: str = "auto"
    deterministic: bool = False
    backbone: str = ""
    weights_file: str = ""

    @property
    def name(self) -> str:
        """What tells it from the other trainings of a run."""
        return f"{self.recipe.model} {self.recipe.name}, seed {self.seed}"


def plan_trainings(
    notebooks: Sequence[Notebook], options: Options, inputs: Inputs
) -> list[Training]:
    """The trainings that the notebooks will do, or find done, in their order.

    A notebook that was edited to train something else does that itself, in its turn.

    Args:
        notebooks: those that are to run.
        options: what was asked for.
        inputs: data, weights and precisions; with data alone the trainings can be counted.
    """
    from cifar_helpers import training

    found = []
    epochs, asked = options.epochs or 0, options.for_notebooks()
    for notebook in notebooks:
        if notebook.model is None or not notebook.trains_a_plan:
            continue
        entry, set_read = models.MODELS[notebook.model], data.DATASETS[inputs.data["dataset"]]
        share = training.quick_share(entry.name, epochs)
        settings: dict[str, Any] = {
            "dataset": set_read.name,
            "data_dir": absolute_path(options.data_dir) if set_read.takes_copy else "",
            "train_size": options.train_size or round(share * set_read.quick_train_size),
            "images": inputs.data.get("images", 0),
            "precision": inputs.precisions.get(entry.name, options.precision or "auto"),
            "deterministic": bool(asked.get("deterministic", False)),
        }
        plan: dict[str, Any] = {
            "seeds": options.seeds or (),
            "epochs": epochs,
            "train_size": options.train_size or 0,
        }
        if entry.has_backbone:
            weights_file = absolute_path(options.weights_file)
            settings |= {"backbone": inputs.backbone, "weights_file": weights_file}
            plan |= {"image_size": options.image_size or (), "backbone": inputs.backbone}
        wanted = list(options.recipes or recipes.DEFAULT)
        pairs = training.plan(entry.name, wanted, **plan)
        found += [Training(recipe, seed, **settings) for recipe, seed in pairs]
    return found


# In the process that trains


def train_here(training: Training, out: str, environment: dict[str, str]) -> None:
    """Train, or resume, and record in the run's folder: for a process of this machine.

    Args:
        training: what to train.
        out: the run's folder.
        environment: variables, which TensorFlow reads when it is imported.
    """
    os.environ.update(environment)
    _train(training, out, _load(training.dataset, training.data_dir), _resolve(training))


def _train(
    training: Training,
    out: str,
    splits: data.Splits,
    weights: backbones.Weights | None,
    callbacks: Sequence[Any] = (),
) -> None:
    from cifar_helpers.training import train

    if training.train_size:
        splits = splits.resplit(training.recipe.validation_fraction, train_size=training.train_size)
    with contextlib.redirect_stdout(io.StringIO()):  # what it says would cut through the display
        train(
            training.recipe,
            splits,
            seed=training.seed,
            out=out,
            weights=weights,
            precision=training.precision,
            deterministic=training.deterministic,
            verbose=False,
            callbacks=callbacks,
        )


@cache
def _load(dataset: str, data_dir: str) -> data.Splits:
    """The images, read once a process."""
    return data.load(dataset, data_dir=data_dir)


@cache
def _find(backbone: str, weights_file: str) -> backbones.Weights:
    return backbones.resolve(backbone, weights_file)


def _resolve(training: Training) -> backbones.Weights | None:
    return _find(training.backbone, training.weights_file) if training.backbone else None


# On a worker of a cluster, which shares no folder with the runner


@dataclass(frozen=True)
class Shipment:
    """What the runner sends to a cluster once, for all trainings.

    Attributes:
        splits: all images.
        weights: each backbone's weights, with the content of the file.
        client: the id of the runner's connection to the scheduler.
        topic: under which workers tell of their progress.
        environment: variables, which TensorFlow reads when it is imported.
    """

    splits: data.Splits
    weights: dict[str, tuple[backbones.Weights, bytes]]
    client: str
    topic: str
    environment: dict[str, str]


def load_shipment(trainings: Sequence[Training], **about: Any) -> Shipment:
    """Read what the trainings need; `about` are the other attributes of a `Shipment`."""
    first = trainings[0]
    found = {each.backbone: _resolve(each) for each in trainings if each.backbone}
    weights = {
        name: (weights, Path(weights.path).read_bytes())
        for name, weights in found.items()
        if weights
    }
    return Shipment(_load(first.dataset, first.data_dir), weights, **about)


def train_there(training: Training, shipment: Shipment) -> tuple["Result", bytes]:
    """Train in a folder that is gone afterwards; returns the record with the predictions, and the network.

    Raises:
        RuntimeError: if the runner is no longer there.
    """
    from distributed import get_worker

    worker = get_worker()
    threads = str(worker.state.nthreads)
    variables = {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
    for name, value in (shipment.environment | variables).items():
        os.environ.setdefault(name, value)
    from cifar_helpers import results

    with (
        tempfile.TemporaryDirectory(prefix="cifar_helpers_") as out,
        _runner_gone(shipment) as gone,
    ):
        weights = None
        if training.backbone:
            weights, content = shipment.weights[training.backbone]
            file = Path(out, Path(weights.path).name)
            file.write_bytes(content)
            weights = replace(weights, path=str(file))

        def report() -> None:
            entry = read_progress(out, training)
            worker.log_event(shipment.topic, (training.recipe.model, entry))

        _train(training, out, shipment.splits, weights, [_watcher(report, gone)])
        (result,) = results.load_results(out)
        network = results.model_path(
            out, training.recipe.model, training.recipe.name, training.seed
        )
        return replace(result, arrays=dict(result.arrays)), network.read_bytes()


def read_progress(out: str, training: Training) -> dict[str, Any]:
    """A training's entry in the file that it tells its progress in; empty where there is none yet."""
    from cifar_helpers.training import progress

    rows = progress.read_progress(out, training.recipe.model)
    key = (training.recipe.name, training.seed)
    return next((row for row in rows if (row["recipe"], row["seed"]) == key), {})


def _watcher(report: Callable[[], None], gone: threading.Event) -> Any:
    from cifar_helpers.backend import keras

    class Watcher(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            report()

        def on_train_batch_end(self, batch, logs=None):
            if gone.is_set():
                raise RuntimeError("the runner is gone")

    return Watcher()


@contextlib.contextmanager
def _runner_gone(shipment: Shipment) -> Iterator[threading.Event]:
    """An event that is set when the runner's connection to the scheduler has ended."""
    from distributed import get_client

    client, gone, over = get_client(), threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(WATCH):
            if not client.run_on_scheduler(_is_connected, shipment.client):
                gone.set()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield gone
    finally:
        over.set()


def _is_connected(client: str, dask_scheduler: Any = None) -> bool:
    return client in dask_scheduler.clients
