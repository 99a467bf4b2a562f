"""Blended images with two labels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special
from tiny_training import BACKBONE, TINY, TRANSFER, find_backbone

from cifar_helpers import data, models, training
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import variant
from cifar_helpers.training import optimizers

FAST = {"seed": 0, "precision": "float32", "verbose": False}


def _batches(splits, **options):
    train = splits.train
    return data.Batches(train.images, train.labels, batch_size=16, seed=2, mixup=0.4, **options)


def test_a_blended_image_is_the_sum_of_its_two_by_their_shares(toy_splits):
    images, targets = _batches(toy_splits, shuffle=False)[0]
    train = toy_splits.train
    assert images.dtype == np.uint8 and targets.shape == (16, 3)
    assert targets[:, 2].min() >= 0.5 and targets[:, 2].max() <= 1
    np.testing.assert_array_equal(targets[:, 0], train.labels[:16])
    for place, (image, (_, other, share)) in enumerate(zip(images, targets, strict=True)):
        candidates = train.images[train.labels == other].astype("float32")
        blends = share * train.images[place] + (1 - share) * candidates
        assert np.abs(blends - image).max(axis=(1, 2, 3)).min() <= 0.51


def test_each_epoch_blends_otherwise_and_a_resumed_one_the_same(toy_splits):
    first, second = _batches(toy_splits)[0], _batches(toy_splits, epoch=1)[0]
    again = _batches(toy_splits)[0]
    assert not np.array_equal(first[1], second[1])
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loss_of_a_blend_is_that_of_both_labels_by_their_shares():
    rng = np.random.default_rng(0)
    predicted = special.softmax(rng.normal(size=(5, 10)), axis=1).astype("float32")
    first, second, share = rng.integers(0, 10, 5), rng.integers(0, 10, 5), rng.random(5)
    targets = np.column_stack([first, second, share]).astype("float32")
    found = np.asarray(optimizers.MixedCrossEntropy().call(targets, predicted))
    log = np.log(predicted[np.arange(5)[:, None], np.column_stack([first, second])])
    np.testing.assert_allclose(found, -(share * log[:, 0] + (1 - share) * log[:, 1]), rtol=1e-5)


def test_a_recipe_with_mixup_trains(toy_splits):
    mixed = variant(TINY, "mixed", mixup=0.2)
    run, plain = (training.train(each, toy_splits, **FAST) for each in (mixed, TINY))
    assert run.parameters_hash != plain.parameters_hash
    assert np.isfinite(run.history["loss"]).all()
    assert not np.allclose(*(each.model.get_weights()[0] for each in (run, plain)))


def test_mixup_and_a_teacher_do_not_go_together():
    with pytest.raises(UserError, match="answers to single images"):
        variant(TINY, "both", mixup=0.2, teacher="improved")


def test_mixup_of_features_that_are_computed_once_is_refused(toy_splits, monkeypatch):
    monkeypatch.setitem(models.BACKBONES, "tiny", BACKBONE)
    mixed = replace(TRANSFER, mixup=0.2)
    with pytest.raises(UserError, match="mixup and a teacher need each image as it is shown"):
        training.train(mixed, toy_splits, weights=find_backbone(""), **FAST)
