"""What a variant's change is worth, and whether a new seed agrees with the published ones."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.text import Text

from cifar_helpers import narrative, plotting, recipes, results
from cifar_helpers.errors import UserError
from cifar_helpers.runner import check, options
from cifar_helpers.runner.record import hold

PUBLISHED = results.without_variants(results.published())
SEEDS = [
    result
    for result in PUBLISHED
    if (result.record["model"], result.record["recipe"]) == ("baseline_cnn", "improved")
]


def _variant(result, **changes):
    """A record of a variant of the recipe, by default with the same predictions."""
    record = deepcopy(result.record) | {"recipe": "flat", "variant_of": result.record["recipe"]}
    record |= {"parameters_hash": "0" * 64, "experiment_hash": "flat"}
    record["history"]["loss"][-1] += 0.1
    record |= changes
    return results.Result(record, dict(result.arrays))


def _wrong_on(result, images: int):
    """The same predictions, but so many more of the right ones are wrong."""
    worse = _variant(result)
    probabilities = result.probabilities.copy()
    right = np.flatnonzero(result.predictions == result.labels)[:images]
    probabilities[right] = np.roll(probabilities[right], 1, axis=1)
    return results.Result(worse.record, {**result.arrays, "probabilities": probabilities})


def test_an_effect_is_the_difference_from_the_base_over_common_seeds():
    variants = [_wrong_on(result, 100 + 10 * place) for place, result in enumerate(SEEDS)]
    (row,) = results.effects([*SEEDS, *variants]).to_dict("records")
    assert (row["recipe"], row["base"], row["seeds"]) == ("flat", "improved", len(SEEDS))
    assert row["test"] == pytest.approx(-1.1)
    assert row["images_low"] <= row["low"] < row["test"] < row["high"] <= row["images_high"]


def test_images_of_variant_and_base_were_made_smaller_alike():
    bases = [each for each in results.published() if each.row == ("transfer", "short-improved")]
    names = ("unfrozen-30", "unfrozen-0", "frozen-64px")
    variants = [each for each in results.published() if each.record["recipe"] in names]
    smaller = [
        results.Result(base.record | {"image_size": 64, "experiment_hash": "64"}, dict(base.arrays))
        for base in bases
    ]
    beside = results.effects([*smaller, *bases, *variants])
    assert beside["base_experiment"].ne("64").all()
    # A recipe that sets another size than its base is compared all the same.
    assert sorted(beside["recipe"]) == sorted(names)


def test_a_seed_without_its_base_does_not_count():
    (row,) = results.effects([SEEDS[0], *map(_variant, SEEDS)]).to_dict("records")
    assert row["seeds"] == 1 and np.isnan(row["low"])


@pytest.mark.parametrize(
    "other",
    [
        {"precision": "another"},
        {"deterministic": True},
        {"dataset": {**SEEDS[0].record["dataset"], "train_images": 1_000}},
        {"model": "vgg10"},
        {"variant_of": "reference"},
        {"backbone": {"backbone": "efficientnetv2b0"}},
    ],
    ids=["precision", "deterministic", "images", "model", "base", "backbone"],
)
def test_a_base_differs_in_nothing_else(other):
    assert results.effects([*SEEDS, _variant(SEEDS[0], **other)]).empty


def test_trainings_of_other_lengths_stand_apart():
    """As where a run holds a quick pass of what is published too."""

    def shorter(result):
        record = deepcopy(result.record)
        record["epochs"]["requested"] = record["epochs"]["phases"][0]["requested"] = 2
        record |= {"experiment_hash": f"short {record['recipe']}"}
        record |= {"parameters_hash": f"short {record['recipe']} {record['seed']}"}
        return results.Result(record, dict(result.arrays))

    published = [*SEEDS, *(_named(_variant(each), "no-averaging") for each in SEEDS)]
    published += [_named(_variant(each), "no-decay") for each in SEEDS]
    own = [shorter(each) for each in published[:6]]
    rows = results.effects([*own, *published]).set_index("recipe")
    assert rows["epochs"].to_dict() == {"no-averaging": "2", "no-decay": "10"}
    assert rows["base_experiment"].nunique() == 2
    assert len(plotting.effects(rows.reset_index()).axes) == 2
    one_seed = results.effects([own[0], own[3], *published]).set_index("recipe")
    assert set(one_seed["epochs"]) == {"10"} and set(one_seed["seeds"]) == {3}
    # Nor does a variant of fewer epochs stand beside the whole base.
    assert results.effects([own[3], *SEEDS]).empty


def test_a_change_that_never_acted_is_told_apart(tmp_path, splits):
    for result in SEEDS:
        same = _variant(result, history=result.record["history"])
        results.save_result(_named(same, "no-averaging"), tmp_path)
    (row,) = results.effects([*SEEDS, *results.load_results(tmp_path)]).to_dict("records")
    assert row["same_training"]
    text = narrative.describe_effects("baseline_cnn", str(tmp_path), splits).data
    assert (
        "**no-averaging**: the training itself went as without it; only another epoch's weights"
        in text
    )


def test_the_late_spread_is_over_the_last_third_of_the_epochs():
    history = {"val_accuracy": [0.1, 0.5, 0.6, 0.7, 0.72, 0.70, 0.74]}
    # Around their line, 0.71, 0.72, 0.73, they are 0.01 over, 0.02 under and 0.01 over it.
    expected = 100 * np.sqrt(0.01**2 + 0.02**2 + 0.01**2)
    assert results.late_spread({"history": history}) == pytest.approx(expected)


def test_a_steady_rise_is_no_spread():
    history = {"val_accuracy": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}
    assert results.late_spread({"history": history}) == pytest.approx(0, abs=1e-9)
    assert np.isnan(results.late_spread({"history": {"val_accuracy": [0.1, 0.2, 0.3]}}))


# What pages show of them


@pytest.fixture
def splits(monkeypatch):
    """As pages use them: the published records' images, without the images, and no variants."""
    monkeypatch.setattr(results.store, "published", lambda: SEEDS)
    source = SimpleNamespace(real=True, name=SEEDS[0].record["dataset"]["name"])
    return SimpleNamespace(source=source)


@pytest.fixture
def recorded(tmp_path):
    """A run's folder with a variant of three seeds and one of one seed."""
    for place, result in enumerate(SEEDS):
        results.save_result(_named(_wrong_on(result, 100 + 10 * place), "no-averaging"), tmp_path)
    results.save_result(_named(_variant(SEEDS[0]), "no-decay"), tmp_path)
    return str(tmp_path)


def _named(result, recipe):
    seed = result.record["seed"]
    names = {"recipe": recipe, "changes": recipe, "experiment_hash": recipe}
    record = {**result.record, **names, "parameters_hash": f"{recipe} {seed}"}
    return results.Result(record, result.arrays)


def test_the_figure_shows_each_change_beside_its_base(recorded, splits):
    figure = narrative.plot_effects("baseline_cnn", recorded, splits)
    assert "Against" in figure.alt_text
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no-averaging", "no-decay"]
    title = "against improved\n(10 epochs, 45,000 training images; 1 to 3 seeds)"
    assert axes.get_title("left") == title
    assert [text.get_text() for text in axes.texts] == ["−1.1", "+0.0"]


def test_an_effect_far_from_the_others_has_an_axis_of_its_own_and_titles_fit():
    transfer = [each for each in results.published() if each.record["model"] == "transfer"]
    figure = plotting.effects(results.effects(transfer))
    figure.draw_without_rendering()
    titles = [text for text in figure.findobj(Text) if text.get_text().startswith("against ")]
    assert len(titles) == len(figure.axes) > 1
    assert all("training images at 96 px" in text.get_text() for text in titles)
    assert sum("on a wider axis" in text.get_text() for text in titles) == 1
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in titles)


def test_sentences_give_the_interval_and_say_what_is_missing(recorded, splits):
    text = narrative.describe_effects("baseline_cnn", recorded, splits).data
    accuracy = np.mean([result.record["test"]["accuracy"] for result in SEEDS])
    assert (
        f"Against *improved* (10 epochs, 45,000 images), which has {100 * accuracy:.1f} %" in text
    )
    assert "**no-averaging**: −1.1 points (95 % interval over 3 seeds −1.3 to" in text
    assert "**no-decay**: +0.0 points: a single seed, so no interval." in text
    assert "5 of 7 ablations have no records." in text
    assert "--notebooks 01 --recipes ablations" in text


@pytest.mark.parametrize("model", ["vgg10", "resnet20", "transfer"])
def test_without_records_a_sentence_says_which_command_makes_them(model, tmp_path, splits):
    text = narrative.plot_effects(model, str(tmp_path), splits).data
    assert "No ablation has records yet" in text and "--recipes ablations" in text
    assert narrative.describe_effects(model, str(tmp_path), splits).data == ""


def test_a_network_without_ablations_has_none_to_train(splits, monkeypatch):
    monkeypatch.setattr(recipes, "of_model", lambda model: [])
    text = narrative.plot_effects("vgg10", "", splits).data
    assert text == "*This network has no ablations.*"


def test_on_the_toy_set_nothing_is_said(recorded, splits):
    splits.source.real = False
    text = narrative.plot_effects("baseline_cnn", recorded, splits).data
    assert "says nothing about photographs" in text
    assert narrative.describe_effects("baseline_cnn", recorded, splits).data == ""


# A new seed of a published row


def test_the_cheapest_row_is_checked_unless_others_are_named():
    (cheapest,) = check.choose_rows([], PUBLISHED)
    every = check.choose_rows(["baseline_cnn/reference", "baseline_cnn/improved"], PUBLISHED)
    seconds = [results.training_seconds(row.record) for row in every]
    assert results.training_seconds(cheapest.record) == min(seconds)
    assert cheapest.seed not in {each.record["seed"] for each in cheapest.published}
    (named,) = check.choose_rows(["baseline_cnn/improved"], PUBLISHED)
    assert named.name == "baseline_cnn/improved"


@pytest.mark.parametrize(
    ("row", "message"),
    [("baseline_cnn/improve", "Did you mean baseline_cnn/improved"), ("cnn", "which has 0")],
)
def test_a_row_that_is_not_published_is_refused(row, message):
    with pytest.raises(UserError, match=message):
        check.choose_rows([row], PUBLISHED)


def test_a_row_of_two_seeds_is_refused():
    with pytest.raises(UserError, match="at least 3 seeds; found none"):
        check.choose_rows([], SEEDS[:2])


@pytest.mark.parametrize(("accuracy", "inside"), [(None, True), (0.5, False)])
def test_a_new_seed_is_judged_by_the_prediction_interval(accuracy, inside):
    row = check.Check(SEEDS, 7)
    record = deepcopy(SEEDS[0].record)
    record["test"]["accuracy"] = accuracy or record["test"]["accuracy"]
    found, words = check.judge(row, results.Result(record, SEEDS[0].arrays))
    assert found == inside
    assert ("inside" if inside else "outside") in words and "points wide" in words


def test_a_fresh_check_keeps_the_earlier_ones_folder(tmp_path):
    folder = tmp_path / "check-published"
    folder.mkdir()
    (folder / "seed3.json").write_text("{}")
    with hold(folder, fresh=True):
        assert not (folder / "seed3.json").exists()
    (kept,) = (path for path in tmp_path.iterdir() if path != folder)
    assert (kept / "seed3.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cnn"], "received cnn, which has 0"),
        (["--out", "elsewhere"], "leave --out out"),
        (["--epochs", "3", "--seeds", "1"], "leave --epochs, --seeds out"),
    ],
)
def test_a_wrong_check_ends_with_status_2(words, message, study, capsys):
    study.add("01_first", "lists_what_ran")
    assert study.run("--check-published", *words) == 2
    assert message in capsys.readouterr().err


def test_the_check_trains_a_new_seed_and_tells_by_its_status(study, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(check, "check_rows", lambda checks, *rest: asked.extend(checks) or False)
    study.add("01_first", "lists_what_ran")
    assert study.run("--check-published") == 1
    (expected,) = check.choose_rows([], PUBLISHED)
    assert [(each.name, each.seed) for each in asked] == [(expected.name, expected.seed)]
    assert options.parse(["--check-published"]).check_published == ()
    assert options.parse([]).check_published is None
