"""Published records in place of trainings, as notebooks show them in a fresh checkout."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tiny_training import TINY

from cifar_helpers import data, models, narrative, recipes, results, training
from cifar_helpers.plotting import mechanisms

SHORT = replace(TINY, phases=(replace(TINY.phases[0], epochs=1),))


@pytest.fixture(scope="module")
def splits(toy_splits) -> data.Splits:
    test = data.Split(toy_splits.test.images[:20], toy_splits.test.labels[:20])
    return replace(toy_splits, test=test)


@pytest.fixture(scope="module")
def record(splits, tmp_path_factory):
    """A finished training, in a folder of its own."""
    out = str(tmp_path_factory.mktemp("published"))
    training.train(SHORT, splits, seed=0, out=out, precision="float32", verbose=False)
    (result,) = results.load_results(out)
    return out, result


@pytest.fixture
def train(record, monkeypatch):
    """`training.train` where that one training is the published one."""
    monkeypatch.setattr(results, "published", lambda: results.load_results(record[0]))
    return partial(training.train, SHORT, seed=0, precision="float32", published=True)


def _other_copy(splits: data.Splits) -> data.Splits:
    """The same labels, and images of which some pixels differ."""
    return replace(splits, source=replace(splits.source, sha256="f" * 64))


def test_a_published_record_stands_in_for_its_training(train, splits, tmp_path, capsys):
    run = train(splits, out=str(tmp_path))
    assert run.model is None and run.history["accuracy"]
    assert not list(tmp_path.iterdir())
    shown = capsys.readouterr().out
    assert "Stored record: 1 epochs" in shown and "validation" not in shown
    assert training.evaluate(run).record["recipe"] == SHORT.name


def test_any_precision_of_a_published_record_will_do(train, splits):
    assert train(splits, precision="auto").result is not None


def test_a_record_of_another_copy_is_shown_and_marked(train, splits, record, capsys):
    other = _other_copy(splits)
    run = train(other)
    assert run.result.other_copy and run.splits is not splits
    assert run.splits.source.sha256 == other.source.sha256
    assert "from another copy of the data set" in capsys.readouterr().out
    assert results.results_table([run.result])["mark"].tolist() == ["another copy"]


def test_a_record_of_another_copy_is_no_training_of_ones_own(train, splits, record):
    """Its file stays what it was, and a training of one's own takes no notice of it."""
    train(_other_copy(splits))
    assert not results.load_results(record[0])[0].other_copy
    run = train(_other_copy(splits), published=False, verbose=False)
    assert run.model is not None


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"recipe": replace(SHORT, label_smoothing=0.0)},
        {"deterministic": False, "precision": "bfloat16"},
    ],
    ids=["seed", "recipe", "precision"],
)
def test_what_differs_is_trained(train, splits, other, monkeypatch):
    made = []
    monkeypatch.setattr(training.trainings, "_train", lambda run, *rest: made.append(run))
    options = {"seed": 0, "precision": "float32", "published": True, **other}
    training.train(options.pop("recipe", SHORT), splits, **options)
    assert len(made) == 1 and made[0].result is None


def test_other_labels_are_other_images(train, splits, monkeypatch):
    test = data.Split(splits.test.images, splits.test.labels[::-1].copy())
    shuffled = replace(_other_copy(splits), test=test)
    made = []
    monkeypatch.setattr(training.trainings, "_train", lambda run, *rest: made.append(run))
    train(shuffled)
    assert made


def test_a_network_is_found_by_its_weights(record):
    out, result = record
    network = training.network_of(result, out)
    assert training.records.weights_digest(network) == result.record["weights_sha256"]
    other = replace(result, record=result.record | {"weights_sha256": "0"})
    assert training.network_of(other, out) is None
    assert training.network_of(replace(result, record=result.record | {"seed": 77}), out) is None


# What a notebook prepares


def test_a_notebook_that_was_not_asked_to_train_makes_a_quick_pass_on_drawings():
    splits, epochs = training.prepare("resnet20", "toy")
    assert recipes.is_quick(epochs)
    assert len(splits.train) == 1_152  # half of those of the other networks


@pytest.mark.parametrize(
    "model, epochs, asked, kept",
    [
        ("vgg10", 5, 0, 2_304),
        ("transfer", 5, 0, 576),
        ("transfer", 5, 700, 700),
        ("transfer", 11, 0, 9_000),
    ],
)
def test_a_quick_pass_has_as_many_images_as_the_model_says(model, epochs, asked, kept):
    splits, cap = training.prepare(model, "toy", epochs=epochs, train_size=asked, train_anew=True)
    assert (len(splits.train), cap) == (kept, epochs)


@pytest.mark.parametrize(
    "asked, epochs", [({"train_anew": True}, 0), ({"epochs": 20}, 20), ({"epochs": 2}, 2)]
)
def test_a_notebook_that_was_told_how_long_does_that(asked, epochs):
    assert training.prepare("baseline_cnn", "toy", **asked)[1] == epochs


def test_a_number_of_images_that_was_asked_for_stays():
    splits, _ = training.prepare("baseline_cnn", "toy", train_size=100)
    assert len(splits.train) == 100


def test_published_records_bring_their_backbone():
    weights = training.backbone_weights(train_anew=False)
    used = {
        each.record["backbone"]["backbone"]
        for each in results.published()
        if each.record["backbone"]
    }
    assert weights.backbone in used


# Recipes and trials in words


def test_a_recipe_as_code_makes_the_recipe():
    for recipe in recipes.RECIPES:
        source = narrative.as_code(recipe).data.strip("`").removeprefix("python\n")
        names = {"Recipe": recipes.Recipe, "Phase": recipes.Phase, "Reference": recipes.Reference}
        assert eval(source, names) == recipe


def _trial(name: str, splits: data.Splits) -> training.Run:
    return training.Run(
        replace(SHORT, name=name), 0, splits, parameters_hash="", history={"accuracy": [0.5]}
    )


def test_a_trial_says_when_it_decides_nothing(toy_splits):
    """On 400 images: 200 right, 4 others of them wrong, and 100 more right."""
    labels = np.zeros(400, int)
    right = [np.arange(400) < 200, np.arange(400) < 196, np.arange(400) < 300]
    right[1][396:] = True
    probabilities = [np.column_stack([each, ~each]).astype(float) for each in right]
    runs = [_trial(name, toy_splits) for name in "abc"]
    said = narrative.describe_trials(runs, probabilities, labels).data
    assert "| a | 50.0 % | 50.0 % |" in said and "| c | 50.0 % | 75.0 % |" in said
    assert "**b** is 0.0 points above" in said and "inconclusive" in said
    assert "**c** is 25.0 points above" in said and "another seed may still say otherwise" in said


# Mechanisms


def test_receptive_fields_of_vgg10_are_those_computed_by_hand():
    fields = models.receptive_fields(models.vgg10())
    assert [side for _, side in fields] == [3, 5, 6, 10, 14, 16, 24, 28]


def test_a_pixel_outside_the_receptive_field_changes_nothing():
    network = models.vgg10()
    from cifar_helpers.backend import keras

    layer = network.get_layer("block2_conv2")
    until = keras.Model(network.input, layer.output)
    side = dict(models.receptive_fields(network))[layer.name]
    images = np.zeros((3, 32, 32, 3), "float32")
    # Position 8 has its centre between pixels 16 and 17: it sees pixels 10 to 23.
    first = 16 - (side - 2) // 2
    images[1, first, 16], images[2, first - 1, 16] = 255, 255
    answers = np.array(until(images))[:, 8, 8]
    assert not np.array_equal(answers[1], answers[0])
    np.testing.assert_array_equal(answers[2], answers[0])


def test_gradient_norms_are_those_of_the_loss():
    """Beside a difference quotient along the gradient of one kernel."""
    from cifar_helpers.backend import keras

    keras.utils.set_random_seed(0)
    network = models.baseline_cnn()
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32")
    labels = np.arange(8)
    kept = network.get_weights()
    norms = models.gradient_norms(network, images, labels)
    assert list(norms) == ["block1_conv", "block2_conv"]
    for before, after in zip(kept, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)

    def loss(kernel):
        network.get_layer("block2_conv").kernel.assign(kernel)
        return float(
            keras.losses.sparse_categorical_crossentropy(labels, network(images)).numpy().mean()
        )

    kernel, rng = kept[2], np.random.default_rng(1)
    # Over random directions, slopes have the gradient's norm as their root mean square times
    # the root of the number of weights.
    step, slopes = 1e-2, []
    for _ in range(60):
        direction = rng.normal(size=kernel.shape)
        direction /= np.linalg.norm(direction)
        slopes.append(
            (loss(kernel + step * direction) - loss(kernel - step * direction)) / (2 * step)
        )
    estimate = np.sqrt(np.mean(np.square(slopes)) * kernel.size) / np.linalg.norm(kernel)
    assert norms["block2_conv"] == pytest.approx(estimate, rel=0.35)


def test_the_first_layer_responds_as_its_kernels_say():
    network = models.baseline_cnn()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype="uint8")
    kernels, responses = models.first_layer(network, image)
    assert kernels.shape == (3, 3, 3, 32) and responses.shape == (30, 30, 32)
    patch = image[4:7, 9:12] / 255
    expected = np.maximum(np.tensordot(patch, kernels, 3), 0)
    np.testing.assert_allclose(responses[4, 9], expected, atol=1e-5)


def test_the_filters_that_vary_most_are_shown():
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(30, 30, 5)) * np.array([1, 5, 3, 0, 2])
    image = rng.integers(0, 256, (32, 32, 3), dtype="uint8")
    figure = mechanisms.filters(image, rng.normal(size=(3, 3, 3, 5)), responses, count=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert [title for title in titles if title.startswith("filter")] == [
        "filter 2",
        "filter 3",
        "filter 5",
    ]


def test_squares_of_receptive_fields_stand_around_the_centre():
    image = np.zeros((32, 32, 3), "uint8")
    figure = mechanisms.receptive_fields(image, [("one", 3), ("two", 28)])
    small, large = figure.axes[0].patches
    assert (small.get_width(), large.get_width()) == (3, 28)
    assert small.get_x() + 1.5 == large.get_x() + 14 == 15.5


def test_every_network_has_its_line_of_gradients():
    figure = mechanisms.gradient_norms(
        {"with": {"a": 1.0, "b": 0.1}, "without": {"a": 1e-5, "b": 1e-4}}
    )
    assert [line.get_label() for line in figure.axes[0].lines] == ["with", "without"]
    assert figure.axes[0].get_yscale() == "log"


def test_every_class_has_its_points_in_every_panel():
    points = {"pixels": np.zeros((6, 2)), "features": np.ones((6, 2))}
    figure = mechanisms.embeddings(points, [0, 1, 2, 0, 1, 2], ["a", "b", "c"])
    assert [len(axes.collections) for axes in figure.axes] == [3, 3]
    assert [axes.get_title() for axes in figure.axes] == list(points)


def test_gradients_are_told_beside_those_of_the_last_network():
    norms = {"skips": {"a": 2.5, "b": 0.1234}, "neither": {"a": 0.001, "b": 0.01}}
    said = narrative.describe_gradients(norms).data
    about = "depending on the layer, gradients are 12 to 2,500 times as large as with neither."
    assert said == f"- **skips**: {about}"


def test_a_backbone_with_random_weights_tells_images_apart():
    """With the statistics that batch norms begin with, the signal would be gone."""
    from cifar_helpers.backend import keras

    keras.utils.set_random_seed(0)
    network = models.transfer("efficientnet-lite0", image_size=32)
    features = keras.Model(network.input, network.get_layer("head_pool").output)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype="uint8")
    before = features.predict(images, verbose=0).std(axis=0).mean()
    models.layers.standardize(network, images)
    after = features.predict(images, verbose=0)
    assert before < 1e-6 < 0.05 < after.std(axis=0).mean()
    last = [
        each
        for each in network.layers
        if isinstance(each, models.layers.InferenceBatchNormalization)
    ][-1]
    outputs = keras.Model(network.input, last.output).predict(images, verbose=0)
    np.testing.assert_allclose(outputs.mean(axis=(0, 1, 2)), 0, atol=1e-2)
