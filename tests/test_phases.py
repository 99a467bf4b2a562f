"""Phases of fine-tuning at sizes and layer by layer learning rates of their own."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_training import BACKBONE, BLOCKS, TRANSFER, find_backbone

from cifar_helpers import models, results, training
from cifar_helpers.recipes import variant
from cifar_helpers.training import phases, trainings
from cifar_helpers.training.records import weights_digest

# With SGD a difference in rounding stays one; Adam makes whole steps of it where gradients are small.
_HEAD, _ALL = (replace(phase, epochs=1, optimizer="sgd") for phase in TRANSFER.phases)
# The head alone, then all layers at 32 pixels, then at the recipe's 64.
GROWING = replace(
    variant(TRANSFER, "growing", image_size=64).capped(1),
    phases=(replace(_HEAD, image_size=32), replace(_ALL, image_size=32), _ALL),
)
LAST = f"block{BLOCKS}_conv"
FAST = {"seed": 0, "precision": "float32", "verbose": False}


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone(untraced_module):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BACKBONES, "tiny", BACKBONE)
        yield


def _train(recipe, splits, out=""):
    return training.train(recipe, splits, weights=find_backbone(""), out=str(out), **FAST)


@pytest.fixture(scope="module")
def whole(toy_splits, tmp_path_factory):
    """A training of all phases, its folder, and the size of the images of each phase."""
    out, sizes, run_phase = tmp_path_factory.mktemp("whole"), [], phases.run_phase

    def note(run, log, number):
        sizes.append(run.model.get_layer("resize").height)
        run_phase(run, log, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "run_phase", note)
        return _train(GROWING, toy_splits, out), out, sizes


def test_each_phase_sees_images_of_its_size_and_the_network_ends_at_the_recipes(whole):
    run, out, sizes = whole
    assert sizes == [32, 32, 64]
    assert run.model.get_layer("resize").height == 64
    (found,) = results.load_results(out)
    assert found.record["image_size"] == 64
    assert [phase["run"] for phase in found.record["epochs"]["phases"]] == [1, 1, 1]


def test_more_layers_than_the_backbone_has_are_all_of_them(toy_splits):
    part = toy_splits.resplit(0.2, train_size=20)
    recipes = [
        replace(TRANSFER, augmentation="flip", phases=(_HEAD, replace(_ALL, unfrozen=layers)))
        for layers in (None, 1_000)
    ]
    ends = [weights_digest(_train(recipe, part).model) for recipe in recipes]
    assert ends[0] == ends[1]


def test_a_training_that_stopped_between_two_sizes_goes_on_in_the_larger_one(
    whole, toy_splits, tmp_path, monkeypatch
):
    class Stopped(Exception):
        pass

    def stop_at_last(run, log, number):
        if number == 2:
            raise Stopped
        phases.run_phase(run, log, number)

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "run_phase", stop_at_last)
        with pytest.raises(Stopped):
            _train(GROWING, toy_splits, tmp_path)
    resumed = _train(GROWING, toy_splits, tmp_path)
    assert len(resumed.history["loss"]) == 3
    for one, other in zip(whole[0].model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
