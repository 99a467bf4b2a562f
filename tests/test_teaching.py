"""A student that learns from a teacher's answers to the pictures that it sees."""

import os
from dataclasses import replace

import numpy as np
import pytest
from scipy import special
from tiny_training import BACKBONE, TINY, TRANSFER, find_backbone

from cifar_helpers import cache, data, models, recipes, results, training
from cifar_helpers.data import augmentation
from cifar_helpers.errors import UserError
from cifar_helpers.training import optimizers, teaching

TEACHER = replace(TRANSFER.capped(1), name="improved", dropout=0.0, validation_fraction=0.1)
STUDENT = replace(
    TINY,
    name="taught",
    teacher="improved",
    teacher_share=0.7,
    temperature=2.0,
    augmentation=teaching.POLICY,
    validation_fraction=0.1,
)


@pytest.fixture(scope="module", autouse=True)
def tiny_backbone(untraced_module):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BACKBONES, "tiny", BACKBONE)
        yield


@pytest.fixture(scope="module")
def splits(toy_splits) -> data.Splits:
    test = data.Split(toy_splits.test.images[:50], toy_splits.test.labels[:50])
    return replace(toy_splits, test=test)


def _train(recipe, splits, out, **options):
    weights = find_backbone("") if recipe.model == "transfer" else None
    options = {"seed": 0, "precision": "float32", "verbose": False, "weights": weights} | options
    return training.train(recipe, splits, out=str(out), **options)


@pytest.fixture(scope="module")
def taught(splits, tmp_path_factory):
    """A run's folder with a teacher, and both runs."""
    out = tmp_path_factory.mktemp("run")
    teacher = _train(TEACHER, splits, out)
    return out, teacher, _train(STUDENT, splits, out)


# The views


def test_an_epoch_shows_the_views_that_its_numbers_say():
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    shown = data.augment(images, teaching.POLICY, seed=3, epoch=2)
    numbers = augmentation.grid_view_numbers(40, seed=3, epoch=2)
    assert numbers.min() >= 0 and numbers.max() < augmentation.GRID_VIEWS
    for image, view, number in zip(images, shown, numbers, strict=True):
        np.testing.assert_array_equal(view, augmentation.grid_view(image[None], number)[0])


def test_a_view_in_the_middle_is_the_image_or_its_mirror_image(images):
    middle = 2 * (2 * 5 + 2)
    np.testing.assert_array_equal(augmentation.grid_view(images, middle), images)
    mirrored = augmentation.grid_view(images, middle + 1)
    np.testing.assert_array_equal(mirrored, images[:, :, ::-1])


def test_all_views_of_an_image_are_shown_in_the_end():
    numbers = [augmentation.grid_view_numbers(100, seed=0, epoch=epoch) for epoch in range(20)]
    assert len(np.unique(numbers)) == augmentation.GRID_VIEWS
    in_a_row = np.array(numbers[0]) % 2 + np.array(numbers[1]) % 2
    assert (in_a_row == 1).all()  # mirrored in one of two epochs


# The table


def test_the_table_holds_the_logits_of_a_direct_pass(taught):
    _, teacher, student = taught
    images = student.splits.train.images
    for number in (0, 24, 49):
        seen = augmentation.grid_view(images, number)
        probabilities = training.predict(teacher.model, seen)
        table = student.teacher.table[number]
        assert table.dtype == np.float16
        np.testing.assert_array_equal(table, teaching.logits(probabilities))
        softmax = special.softmax(table.astype("float64"), axis=1)
        np.testing.assert_allclose(softmax, probabilities, atol=5e-3)


def test_targets_are_the_labels_and_the_answers_to_the_views_shown(taught):
    _, _, student = taught
    train, table = student.splits.train, student.teacher.table
    options = {"batch_size": 10, "seed": 4, "epoch": 3, "shuffle": False}
    batches = teaching.TaughtBatches(student.teacher, train.images, train.labels, **options)
    views = augmentation.grid_view_numbers(len(train), seed=4, epoch=3)
    images, targets = batches[1]
    np.testing.assert_array_equal(targets[:, 0], train.labels[10:20])
    for place, (image, target) in enumerate(zip(images, targets, strict=True), start=10):
        seen = augmentation.grid_view(train.images[place : place + 1], views[place])[0]
        np.testing.assert_array_equal(image, seen)
        np.testing.assert_array_equal(target[1:], table[views[place], place].astype("float32"))


# The loss


def test_the_taught_loss_weighs_labels_and_teacher():
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 10, 6), rng.normal(size=(6, 10))
    predicted = special.softmax(rng.normal(size=(6, 10)), axis=1)
    targets = np.column_stack([labels, answers]).astype("float32")
    loss = optimizers.TaughtCrossEntropy(0.1, teacher_share=0.7, temperature=2.0)
    found = np.asarray(loss.call(targets, predicted.astype("float32")))
    smooth = 0.9 * np.eye(10)[labels] + 0.01
    own = -(smooth * np.log(predicted)).sum(axis=1)
    soft = special.softmax(answers / 2, axis=1)
    teacher = -(soft * special.log_softmax(np.log(predicted) / 2, axis=1)).sum(axis=1)
    np.testing.assert_allclose(found, 0.3 * own + 0.7 * 4 * teacher, rtol=1e-5)
    untaught = np.asarray(loss.call(labels, predicted.astype("float32")))
    np.testing.assert_allclose(untaught, own, rtol=1e-5)
    # With a share of 0 the teacher still answers, and nobody listens.
    unheard = optimizers.SmoothedCrossEntropy(0.1).call(targets, predicted.astype("float32"))
    np.testing.assert_allclose(np.asarray(unheard), own, rtol=1e-5)


# The training


def test_a_record_names_the_teacher_and_what_its_answers_took(taught):
    out, teacher, student = taught
    assert teacher.result.record["teacher"] is None
    about = student.result.record["teacher"]
    assert about["recipe"] == "improved" and about["seconds"] > 0
    again = teaching.find_teacher(STUDENT, student.splits, str(out))
    assert again.seconds == about["seconds"]  # the price of a table does not fall to 0 on disk
    assert about["weights_sha256"] == teacher.result.record["weights_sha256"]
    assert student.result.record["history"]["accuracy"][-1] <= 1


def test_a_student_of_another_teacher_is_another_training(taught, splits):
    _, _, student = taught
    options = {"seed": 0, "weights": None, "precision": "float32"}
    other = replace(student.teacher, weights_sha256="1" * 64)
    hashes = {
        training.runs.make_run(STUDENT, student.splits, teacher=teacher, **options).parameters_hash
        for teacher in (student.teacher, other, None)
    }
    assert len(hashes) == 3 and student.parameters_hash in hashes


def test_a_table_that_was_lost_is_computed_from_the_network(taught, splits):
    out, teacher, student = taught
    cache.clear()
    found = teaching.find_teacher(STUDENT, student.splits, str(out))
    assert found.seconds > 0
    np.testing.assert_allclose(
        found.table.astype("float32"), student.teacher.table.astype("float32"), atol=0.02
    )


def test_a_teacher_of_other_images_keeps_its_place(taught, splits, tmp_path):
    _, teacher, _ = taught
    assert teaching.find_teacher(STUDENT, teacher.splits, str(tmp_path)) is None
    fewer = teacher.splits.resplit(0.1, train_size=40)
    for each in (fewer, teacher.splits):
        about = teacher.result.record["dataset"] | {"train_images": len(each.train)}
        record = teacher.result.record | {"dataset": about, "parameters_hash": str(len(each.train))}
        folder = teaching.teachers_folder(each, str(tmp_path))
        results.save_result(replace(teacher.result, record=record), folder)
    for each in (fewer, teacher.splits):
        (found,) = results.load_results(teaching.teachers_folder(each, str(tmp_path)))
        assert found.record["dataset"]["train_images"] == len(each.train)
    assert teaching.find_teacher(STUDENT, teacher.splits, str(tmp_path)).table.shape[1] == 64


@pytest.mark.parametrize("kept", ["in a folder", "on no disk"])
def test_a_teacher_that_is_not_there_is_trained_first(splits, tmp_path, monkeypatch, kept):
    # It is asked for by name, and trained for as few epochs as its student.
    long = replace(TEACHER, phases=tuple(replace(each, epochs=9) for each in TEACHER.phases))
    monkeypatch.setattr(recipes, "RECIPES", (replace(long, backbone="tiny"),))
    out = tmp_path if kept == "in a folder" else ""
    student = _train(STUDENT, splits, out)
    assert student.teacher.seconds > 0
    assert student.teacher.table.shape == (augmentation.GRID_VIEWS, len(student.splits.train), 10)
    if out:
        # On a part of the images a teacher is no row of the run.
        assert [each.record["model"] for each in results.load_results(out)] == ["baseline_cnn"]
        (teacher,) = results.load_results(out / "teachers" / "64")
        assert teacher.record["epochs"]["run"] == 6 == 2 * STUDENT.epochs
        assert teacher.record["weights_sha256"] == student.teacher.weights_sha256
        assert _train(STUDENT, splits, out).result.record == student.result.record


def test_a_teacher_without_answers_and_network_is_not_trained_over(
    taught, splits, tmp_path, monkeypatch
):
    _, teacher, _ = taught
    results.save_result(teacher.result, tmp_path / "teachers" / "64")  # its record alone
    cache.clear()
    monkeypatch.setattr(recipes, "RECIPES", (replace(TEACHER, backbone="tiny"),))
    with pytest.raises(UserError, match="Remove results/transfer/improved/seed0.json"):
        _train(STUDENT, splits, tmp_path)


def test_on_all_images_a_teacher_is_a_row_of_the_run(splits):
    whole = splits.resplit(0.1)
    assert teaching.teachers_folder(whole, "run") == "run"
    assert teaching.teachers_folder(splits, "run") == os.path.join("run", "teachers", "64")
    assert teaching.teachers_folder(splits, "") == ""


def test_a_student_on_features_that_are_computed_once_is_refused(taught, splits):
    out, _, _ = taught
    about = {"teacher": "improved", "augmentation": teaching.POLICY, "validation_fraction": 0.1}
    student = replace(TRANSFER, name="taught", **about)
    with pytest.raises(UserError, match="a teacher needs each image as it is shown"):
        _train(student, splits, out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation_fraction": 0.2}, "received 0.2, and 0.1 for the teacher, improved"),
        ({"teacher": "reference"}, "must name one recipe of transfer; received 'reference'"),
    ],
)
def test_a_student_trains_on_one_teachers_images(splits, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        _train(replace(STUDENT, **change), splits, tmp_path)


def test_a_student_sees_the_views_that_its_teacher_has_answered_to(splits, tmp_path):
    with pytest.raises(UserError, match="must show the views of grid_crop_flip; received flip"):
        _train(replace(STUDENT, augmentation="flip"), splits, tmp_path)
