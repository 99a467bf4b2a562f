"""Trainings as units of work, with workers that only pretend."""

import os
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import pytest

from cifar_helpers import recipes
from cifar_helpers.runner import processes, schedule
from cifar_helpers.runner.estimates import expected_seconds, makespan, seconds_left
from cifar_helpers.runner.inputs import Inputs
from cifar_helpers.runner.notebooks import find_notebooks
from cifar_helpers.runner.options import Options
from cifar_helpers.runner.plan import ROOT
from cifar_helpers.runner.schedule import TRIES, train_all
from cifar_helpers.runner.trainings import Training, plan_trainings

CIFAR10 = {"dataset": "cifar10", "images": 50_000}
NOTEBOOKS = find_notebooks(ROOT / "notebooks")


def planned(number: str = "", **given) -> list[Training]:
    chosen = [notebook for notebook in NOTEBOOKS if notebook.name.startswith(number)]
    inputs = Inputs(CIFAR10, ({"backbone": "efficientnet-lite0"},), {"vgg10": "bfloat16"})
    return plan_trainings(chosen, Options(**given), inputs)


def test_a_recipe_with_a_backbone_of_its_own_has_that_ones_weights():
    backbones = {
        each.recipe.name: each.backbone for each in planned("04", recipes=("96px", "best"))
    }
    assert backbones == {"96px": "efficientnet-lite0", "best": "efficientnet-lite2"}


class Pretending:
    """Workers that end each training at once, as `outcomes` says of its name."""

    def __init__(self, count=2, outcomes=None):
        self.there, self.outcomes = set(range(count)), outcomes or {}
        self.started, self.recorded = [], []

    def names(self):
        return set(self.there)

    def submit(self, name, training):
        self.started.append(training)
        future = Future()
        outcome = self.outcomes.get(training.name, "made")
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif outcome == "is cancelled":
            future.cancel()
            future.set_running_or_notify_cancel()
            self.outcomes = {}
        elif outcome == "dies with its worker":
            self.there = {worker + 1 for worker in self.there}
            self.outcomes = {}
        else:
            future.set_result(outcome)
        return future

    def record(self, training, outcome):
        self.recorded.append((training, outcome))


def test_the_plan_is_what_the_notebooks_would_train():
    full = planned()
    assert len(full) == 2 * 3 + 4 + 2 + 3
    assert {each.name for each in full if each.recipe.model == "baseline_cnn"} >= {
        "baseline_cnn reference, seed 0",
        "baseline_cnn improved, seed 2",
    }
    assert {each.precision for each in full if each.recipe.model == "vgg10"} == {"bfloat16"}
    assert {each.backbone for each in full} == {"", "efficientnet-lite0"}
    (one,) = planned("02", recipes=("callbacks",), seeds=(7,), epochs=20, train_size=70)
    assert (one.recipe.epochs, one.seed, one.train_size) == (20, 7, 70)


def test_a_quick_pass_plans_fewer_images_in_smaller_batches():
    (quick,) = planned("03", recipes=("improved",), epochs=2)
    assert quick.train_size == 3_000
    assert quick.recipe.phases[0].batch_size == 32
    (asked,) = planned("03", recipes=("improved",), epochs=2, train_size=9_000)
    assert asked.recipe.phases[0].batch_size == 128


def test_the_longest_trainings_start_first_and_all_are_recorded():
    workers, trainings = Pretending(), planned()
    assert train_all(trainings, workers, lambda running: None) == {}
    lengths = [expected_seconds(each) for each in workers.started]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > 10 * lengths[-1]
    assert sorted(each.name for each, _ in workers.recorded) == sorted(
        each.name for each in trainings
    )


def test_students_come_after_whoever_may_teach_them():
    first, *others = planned()
    student = replace(first, recipe=replace(first.recipe, teacher="improved"))
    workers = Pretending()
    train_all([student, *others], workers, lambda running: None)
    assert workers.started[-1] == student


def test_a_training_whose_process_dies_is_tried_three_times():
    first = planned()[0]
    workers = Pretending(outcomes={first.name: BrokenProcessPool("killed")})
    failed = train_all(planned(), workers, lambda running: None)
    assert list(failed) == [first] and "want of memory" in failed[first]
    assert workers.started.count(first) == TRIES == 3


@pytest.mark.parametrize("end", ["dies with its worker", "is cancelled"])
def test_a_training_whose_worker_is_gone_goes_to_another(end):
    first = planned()[0]
    workers = Pretending(outcomes={first.name: end})
    assert train_all([first], workers, lambda running: None) == {}
    assert workers.started == [first, first]
    assert workers.recorded == [(first, "made")]


def test_an_error_in_a_training_is_told_and_the_others_go_on():
    first, *others = planned()
    workers = Pretending(outcomes={first.name: ValueError("too\nlarge")})
    assert train_all([first, *others], workers, lambda running: None) == {first: "ValueError: too"}
    assert len(workers.recorded) == len(others)


def test_without_any_worker_the_run_ends(monkeypatch):
    monkeypatch.setattr(schedule, "PATIENCE", 0.2)
    monkeypatch.setattr(schedule, "POLL", 0.05)
    with pytest.raises(OSError, match="no worker is left"):
        train_all(planned()[:1], Pretending(count=0), lambda running: None)


def test_a_process_that_trains_ends_at_once_when_the_run_is_interrupted():
    with pytest.raises(KeyboardInterrupt), processes.end_on_interruption():
        executor = processes.one_process()
        executor.submit(os.getpid).result()
        future = executor.submit(time.sleep, 600)
        started = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - started < processes.STOP_TIMEOUT / 2
    with pytest.raises(BrokenProcessPool):
        future.result()


def test_longest_first_on_several_workers():
    assert makespan([3, 3, 2, 2, 2], 2) == 7  # 3 + 2 + 2 and 3 + 2; the optimum is 6
    assert makespan([5, 1, 1], 8) == 5
    assert makespan([], 3) == 0


def test_the_time_left_follows_the_speed_here_and_early_stopping():
    (recipe,) = recipes.select("vgg10", ["callbacks"])
    trainings = [Training(recipe, seed, "cifar10", images=50_000) for seed in (0, 1)]
    whole = expected_seconds(trainings[0])
    epoch = whole / recipe.epochs
    assert seconds_left(trainings, {}, 1) is None
    running = {"status": "running", "epoch": 10, "phase": 1, "seconds_per_epoch": 2 * epoch}
    left = seconds_left(trainings, {trainings[0]: running}, 1)
    assert left == pytest.approx(2 * (40 * epoch + whole))
    assert seconds_left(trainings, {trainings[0]: running}, 2) == pytest.approx(2 * whole)
    stopped = {**running, "status": "finished", "epoch": 12}
    assert seconds_left(trainings, {trainings[0]: stopped}, 2) == pytest.approx(2 * whole)
    both = dict.fromkeys(trainings, stopped)
    assert seconds_left(trainings, both, 2) == 0


def test_epochs_that_early_stopping_has_saved_are_not_to_come():
    (recipe,) = recipes.select("transfer", ["improved"])
    training = Training(recipe, 0, "cifar10", images=50_000)
    tuning = recipe.phases[1].epochs
    once = replace(recipe.phases[1], epochs=1)
    shorter = replace(training, recipe=replace(recipe, phases=(recipe.phases[0], once)))
    each = (expected_seconds(training) - expected_seconds(shorter)) / (tuning - 1)
    # The head was stopped after three epochs; one of fine-tuning is done.
    state = {"status": "running", "epoch": 4, "epochs": 3 + tuning, "phase": 2}
    left = seconds_left([training], {training: state | {"seconds_per_epoch": each}}, 1)
    assert left == pytest.approx((tuning - 1) * each)


def test_what_a_busy_machine_added_to_published_trainings_is_left_out_of_estimates():
    base, optimized = (
        Training(recipes.select("vgg10", [name])[0], 0, "cifar10", images=50_000)
        for name in ("base", "optimized")  # 20 epochs, timed while the machine was busy, and 50
    )
    assert expected_seconds(base) < expected_seconds(optimized)


def test_an_unknown_recipe_is_estimated_by_its_models_others():
    (recipe,) = recipes.select("transfer", ["96px"])
    small = Training(recipe, 0, "cifar10", images=50_000)
    large = replace(small, recipe=replace(recipe, name="larger", image_size=192))
    assert expected_seconds(large) > 3 * expected_seconds(small) > 0
