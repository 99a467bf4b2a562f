"""Sentences and tables that notebooks and README compute from records."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_study import ROOT

from cifar_helpers import files, metrics, narrative, recipes, results, text
from cifar_helpers.narrative.html import to_html
from cifar_helpers.runner import notebooks, options

CLASSES = [f"class{number}" for number in range(10)]
LABELS = np.arange(200) % 10
LITE0 = {"backbone": "efficientnet-lite0", "sha256": "0" * 64}


def made(model="vgg10", recipe="base", *, wrong=range(40), confidence=0.9, **changes):
    """A result on 200 images, as sure of each and wrong about those whose positions are given."""
    predicted = LABELS.copy()
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 10
    probabilities = np.full((200, 10), (1 - confidence) / 9)
    probabilities[np.arange(200), predicted] = confidence
    accuracy = metrics.accuracy(LABELS, probabilities)
    matrix = metrics.confusion_matrix(LABELS, predicted, 10)
    epochs = recipes.select(model, [recipe])[0].epochs
    record = {
        "model": model,
        "recipe": recipe,
        "changes": "what changes",
        "seed": 0,
        "dataset": {
            "name": "CIFAR-10",
            "train_images": 40_000,
            "real": True,
            "verified": True,
            "sha256": "",
        },
        "backbone": LITE0 if model == "transfer" else None,
        "image_size": 96 if model == "transfer" else 32,
        "precision": "float32",
        "parameters": {"total": 402_986},
        "multiply_adds": 10_000_000,
        "parameters_hash": "",
        "epochs": {
            "requested": epochs,
            "run": 4,
            "best": 4,
            "phases": [{"requested": epochs - 3, "run": 1}, {"requested": 3, "run": 3}],
        },
        "history": {
            "seconds": [100.0, 7.0, 9.0, 8.0],
            "accuracy": [0.4, 0.6, 0.8, 0.9],
            "val_accuracy": [0.5, 0.6, 0.7, 0.8],
            "loss": [recipe] * 4,
        },
        "validation": {"accuracy": accuracy},
        "test": {"accuracy": accuracy, "loss": 0.5},
        "test_accuracy_interval": list(metrics.accuracy_interval(LABELS, probabilities)),
        "overfitting_gap": 3.0,
        "kept_epoch": {"overfitting_gap": 3.0},
        "per_class": metrics.per_class(LABELS, predicted, CLASSES),
        "confused_pairs": metrics.confused_pairs(matrix, CLASSES),
        "calibration": metrics.calibration(LABELS, probabilities),
        "temperature_scaling": {
            "temperature": 1.0,
            "calibration": metrics.calibration(LABELS, probabilities),
        },
        "prediction_seconds_per_image": 0.001,
        "seconds": {"train": 120.0},
        "hardware": {"processor": "One Processor", "cores": 2, "accelerators": []},
        "versions": {"python": "3.12", "tensorflow": "2.21", "keras": "3.15", "numpy": "2.4"},
    }
    record |= changes
    told = (
        "model",
        "recipe",
        "changes",
        "dataset",
        "backbone",
        "image_size",
        "precision",
        "epochs",
    )
    record.setdefault("experiment_hash", files.json_hash({name: record[name] for name in told}))
    return results.Result(record, {"probabilities": probabilities, "labels": LABELS})


def lines(markdown) -> list[str]:
    return markdown.data.splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (3_599, "60 min"), (5_460, "1 h 31 min")],
)
def test_durations_are_read_at_a_glance(seconds, words):
    assert text.duration(seconds) == words


def test_p_values_have_no_more_digits_than_they_deserve():
    assert [text.p_value(p) for p in (0.0002, 0.0234, 1)] == [
        "p < 0.001",
        "p = 0.023",
        "p = 1.000",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "VGG-10 (base)"),
        ({"model": "transfer", "recipe": "96px"}, "EfficientNet-Lite0 (96px)"),
        (
            {"model": "transfer", "recipe": "improved", "image_size": 128},
            "EfficientNet-Lite0 (improved)",
        ),
        (
            {"model": "transfer", "recipe": "224px", "image_size": 96},
            "EfficientNet-Lite0 (224px at 96 px)",
        ),
        (
            {"model": "transfer", "recipe": "improved", "image_size": 64},
            "EfficientNet-Lite0 (improved at 64 px)",
        ),
    ],
)
def test_a_label_says_an_image_size_that_is_not_the_recipes_own(given, words):
    assert results.row_label(made(**given)) == words


def test_a_difference_that_rounds_to_zero_has_no_minus():
    assert [text.points(value) for value in (-0.04, 0.04, -0.06, 2.25)] == [
        "+0.0",
        "+0.0",
        "−0.1",
        "+2.2",
    ]


def test_a_difference_of_losses_that_rounds_to_zero_has_no_minus_either():
    assert [text.loss_difference(value) for value in (-0.001, -0.289)] == ["+0.00", "−0.29"]


# Conclusions


def test_the_conclusions_of_one_training():
    best, unknown, hardest, confidence = lines(narrative.describe_findings([made()]))
    low, high = metrics.accuracy_interval(LABELS, made().probabilities)
    assert best == (
        "- **base** classifies **80.0 %** of the test images correctly "
        f"(95 % interval over test images {100 * low:.1f} – {100 * high:.1f})."
    )
    assert unknown == "- Not known: how far another seed would move **base**, trained once."
    assert hardest.startswith("- The hardest class is **class")
    assert "mean confidence is 90.0 %: overconfident by 10.0 points" in confidence


def test_the_conclusions_of_several_seeds_say_which_they_are_about():
    found = [made(seed=seed, wrong=range(40 + 2 * seed)) for seed in range(3)]
    text = narrative.describe_findings(found).data
    assert "on average over 3 seeds **79.0 %**" in text
    assert "95 % interval over 3 seeds" in text
    assert "- With seed 0, the hardest class" in text
    assert "- With seed 0, the mean confidence is 90.0 %: overconfident by 10.0 points" in text


def test_neighbouring_rows_are_compared_over_the_seeds_of_both():
    found = [
        made(seed=seed, recipe=recipe, wrong=range(count + seed))
        for recipe, count in (("base", 60), ("callbacks", 60), ("improved", 20))
        for seed in range(3)
    ]
    found[-1] = made(seed=2, recipe="improved", wrong=range(16))  # three points better yet
    for result in found[6:]:
        result.record["epochs"]["run"] = 9
    whole, first, second = lines(narrative.describe_findings(found))[1:4]
    assert whole == (
        "- The way the same network is trained, from **base** to **improved**, is worth +21.0 points "
        "on average (95 % interval over 3 seeds +16.7 to +25.3): from 69.5 % to 90.5 %. "
        "The second was also trained for 9 epochs instead of 4; the table of recipes lists every "
        "difference."
    )
    assert "**base** to **callbacks**: +0.0 points on average" in first
    assert "not distinguishable from zero" in first
    assert "also trained" not in first
    assert "**callbacks** to **improved**: +21.0 points on average" in second
    # Differences of 20, 20 and 23 points: their mean more or less t(0.975, 2) standard errors.
    assert "(95 % interval over 3 seeds +16.7 to +25.3)" in second


def test_rows_of_one_seed_are_compared_over_the_test_images():
    found = [made(recipe="base", wrong=range(60)), made(recipe="improved", wrong=range(20))]
    (line,) = [line for line in lines(narrative.describe_findings(found)) if "McNemar" in line]
    assert "**improved**, is worth +20.0 points (95 % interval over test images" in line
    assert "McNemar p < 0.001)" in line


def test_luck_is_not_called_a_difference():
    text = narrative.describe_findings(
        [made(wrong=range(40)), made(recipe="improved", wrong=range(1, 40))]
    )
    assert "; no clear difference)" in text.data


def test_recipes_that_gave_the_same_network_are_named():
    text = narrative.describe_findings([made(), made(recipe="callbacks")]).data
    assert "**base** and **callbacks** gave the same network" in text


def test_shortened_trainings_are_named_and_called_provisional():
    epochs = {"requested": 5, "run": 5, "phases": [{"requested": 5, "run": 5}]}
    short, full = made(epochs=epochs), made(recipe="improved")
    for said in (
        narrative.describe_findings([short, full]).data,
        narrative.describe_limits([short, full]).data,
        narrative.describe_results([short, full]),
    ):
        assert "**Shortened training runs of VGG-10 (base), not the full study:**" in said
        assert "figures are provisional" in said
    assert "**Shortened training runs, not the full study:**" in narrative.describe_results([short])
    assert "Shortened" not in narrative.describe_findings([full]).data
    assert "Shortened" not in narrative.describe_results([full])


# Notebook 05


def test_the_answer_goes_by_accuracy_and_says_what_the_best_costs():
    ladder = [
        made(wrong=range(40), multiply_adds=10),
        made("resnet20", "improved", wrong=range(20), multiply_adds=25),
    ]
    order, step, certainty, cost = lines(narrative.describe_answer(ladder))
    assert order.endswith(
        "ResNet-20 (improved) **90.0 %** (1 seed); VGG-10 (base) **80.0 %** (1 seed)."
    )
    assert "ResNet-20 (improved) against VGG-10 (base): +10.0 points" in step
    assert "Of 2 rows, 2 rest on a single training run" in certainty
    assert cost == (
        "- The most accurate row costs 2 times the multiply-adds per image of VGG-10 (base)."
    )


def test_what_recipes_decide_is_said_of_each_network():
    found = [
        made(wrong=range(60)),
        made(recipe="improved", wrong=range(20)),
        made("transfer", "96px", wrong=range(30)),
        made("transfer", "improved", wrong=range(10), image_size=128),
    ]
    text = narrative.describe_answer(found).data
    assert "rises by these points: VGG-10 20.0 (20 and 50 epochs); EfficientNet" in text
    assert re.search(r"EfficientNet-Lite0 10\.0 \(.*96 and 128 pixels\)\. The recipes of two", text)
    assert "Without pretraining, VGG-10 (improved) is best: 90.0 % with 402,986 weights" in text


def test_an_epochs_time_is_that_of_the_last_phase():
    assert "<td" in narrative.cost_table([made()]).data
    assert ">8 s<" in narrative.cost_table([made()]).data


def test_agreement_is_told_beside_that_of_independent_mistakes():
    one, other = made(wrong=[3, 5, 7]), made("resnet20", "improved", wrong=[5, 7, 9])
    # 98.5 % each: 0.985² and a ninth of 0.015² by chance; 198 of 200 predictions are the same, and
    # both are wrong on two of the images, with one class.
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", narrative.agreement_table([one, other]).data)
    expected = ["VGG-10 (base), ResNet-20 (improved)", "99.0 %", "97.0 %", "1.0 %", "0.0 %"]
    assert cells == [*expected, "100.0 %"]
    twins = [made(wrong=range(60)), made("resnet20", "improved", wrong=range(60))]
    # 70 % each: 0.7² and a ninth of 0.3².
    assert ">50.0 %<" in narrative.agreement_table(twins).data
    assert narrative.agreement_table([one, *twins]).data.count("<tr>") == 4
    assert not narrative.agreement_table([one]).data


def test_limits_say_what_the_intervals_do_not_cover():
    one, other = made(), made(seed=1)
    assert "Each row is **one training run**" in narrative.describe_limits([one]).data
    assert "choice of seed" not in narrative.describe_limits([one, other]).data
    mixed = narrative.describe_limits([one, other, made(recipe="improved")]).data
    assert "Some rows rest on one training run" in mixed
    assert "official checksum" not in mixed
    unverified = made(dataset={**one.record["dataset"], "verified": False})
    assert "official checksum" in narrative.describe_limits([unverified]).data


def test_missing_rows_are_named_with_their_model():
    found = [made(model, recipe) for model, recipe in recipes.default_rows()]
    assert narrative.describe_missing(found).data == (
        f"Every row that `run_all.py` trains without options is here, {len(found)} training runs in all. More rows are "
        "trained when asked for: `--recipes best`."
    )
    # A row that is trained when asked for is none of them.
    with_best = [*found, made("baseline_cnn", "best")]
    assert f"here, {len(found)} training runs" in narrative.describe_missing(with_best).data
    less = [result for result in found if results.row_label(result) != "VGG-10 (base)"]
    text = narrative.describe_missing(less).data
    assert "**Missing:** VGG-10 base." in text


def test_rows_that_are_trained_when_asked_for_are_no_missing_ones(monkeypatch):
    found = [made(model, recipe) for model, recipe in recipes.default_rows()]
    best = replace(recipes.RECIPES[0], name="long", group="best", reference=None)
    others = (recipe for recipe in recipes.RECIPES if recipe.group != "best")
    monkeypatch.setattr(recipes, "RECIPES", (*others, best))
    text = narrative.describe_missing(found).data
    assert "Missing" not in text
    assert text.endswith("More rows are trained when asked for: `--recipes best`.")
    there = narrative.describe_missing([*found, made("baseline_cnn", "long")]).data
    assert there.endswith("training runs in all.")


def test_a_calibration_by_temperature_is_told():
    scaling = {"temperature": 0.8, "calibration": {"ece": 0.01}}
    said = "With a temperature of 0.80, fitted on the validation images, the error is 1.0 %."
    assert said in narrative.describe_findings([made(temperature_scaling=scaling)]).data


def test_records_are_described_without_keras():
    program = (
        "import sys\nfrom cifar_helpers import narrative, results\n"
        "narrative.results_section(results.published())\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# Tables


def test_columns_of_words_are_set_to_the_left():
    table = pd.DataFrame({"claim": ["callbacks help"], "points": [1.2]})
    styled = to_html(table, "claims").data
    assert re.findall(r"#T_claims \.(col\d) {\s*text-align: left", styled) == ["col0"]


def test_the_results_table_breaks_no_line_within_a_quantity():
    table = narrative.results_table(results.published()).data
    assert "4\N{NO-BREAK SPACE}min" in table and "67.5\N{NO-BREAK SPACE}%" in table
    assert not re.search(r"\d [%m]", table.partition("<tbody>")[2])


# Recipes


def test_the_recipe_table_says_what_each_phase_sees_and_when_it_stops():
    plan = [(recipe, 0) for recipe in recipes.select("transfer", ["improved"])]
    assert ">flip → 4-pixel crop, flip<" in narrative.recipe_table(plan).data
    plan = [(recipe, 0) for recipe in recipes.select("transfer", ["unfrozen-0"])]
    assert ">flip<" in narrative.recipe_table(plan).data
    plan = [(recipe, 0) for recipe in recipes.select("vgg10", ["base", "callbacks"])]
    table = narrative.recipe_table(plan).data
    assert ">after 5 epochs without progress, back to the best epoch<" in table
    assert ">0.001, halved after 2 epochs without progress<" in table
    assert ">0.001, constant<" in table


def test_the_recipe_table_names_what_few_recipes_have_where_one_has_it():
    plain, taught = (recipes.select("resnet20", [name])[0] for name in ("improved", "best"))
    shown = narrative.recipe_table([(plain, 0), (taught, 0)]).data
    assert "transfer learning, improved: 100 % of the loss, temperature 4" in shown
    assert "training images" not in shown and "backbone" not in shown
    assert "teacher" not in narrative.recipe_table([(plain, 0)]).data
    (row,) = recipes.select("transfer", ["improved"])
    head, tuned = row.phases
    sizes = replace(row, phases=(head, replace(tuned, image_size=64), tuned), train_images=9_000)
    shown = narrative.recipe_table([(sizes, 0)]).data
    assert "128 px → 64 px" in shown and ">9,000<" in shown


def test_the_recipe_table_says_how_a_learning_rate_rises_and_falls():
    plan = [(recipe, 0) for recipe in recipes.select("resnet20", ["improved"])]
    table = narrative.recipe_table(plan).data
    assert ">0.15, reached over the first 20 % of the steps, linear decay to zero<" in table
    assert ">SGD, Nesterov momentum 0.9<" in table


# The README


@pytest.mark.parametrize("row", recipes.RECIPES, ids=lambda row: f"{row.model}-{row.name}")
def test_the_readmes_commands_train_their_row_and_no_other(row):
    group = [made(row.model, row.name, seed=seed) for seed in (0, 2)]
    *_, line = re.findall(r"^\|.+$", narrative.commands_section(group), re.MULTILINE)
    command = line.split("`")[1]
    script, *words = command.split()
    assert script == "run_all.py"
    asked = options.parse(words)
    known = notebooks.find_notebooks(ROOT / "notebooks")
    chosen = notebooks.choose_notebooks(known, asked.notebooks)
    options.check(asked, chosen)
    assert [notebook.model for notebook in chosen] == [row.model]
    assert recipes.select(row.model, list(asked.recipes)) == [row]
    assert (asked.seeds, asked.epochs) == ((0, 2), None)
    assert asked.backbone == (LITE0["backbone"] if row.model == "transfer" else None)


def test_what_a_plain_run_takes_is_told_where_all_of_its_rows_are_known():
    rows = [made(model, name) for model, name in recipes.default_rows()]
    total = results.time_in_words([result.record for result in rows], total=True)
    command = f"`run_all.py --backbone {LITE0['backbone']}` trains all of these rows"
    *_, last = narrative.commands_section(rows).strip().splitlines()
    assert command in last and f"add up to {total};" in last
    more = [*rows, made("baseline_cnn", "best"), made("vgg10", "base", seed=7)]
    assert narrative.commands_section(more).strip().endswith(last)
    assert "trains all of these rows" not in narrative.commands_section(rows[1:])


def test_the_command_of_a_shortened_row_has_its_cap():
    phases = [{"requested": epochs, "run": epochs} for epochs in (3, 5)]
    epochs = {"requested": 8, "run": 8, "phases": phases}
    assert "--epochs 5`" in narrative.commands_section([made(epochs=epochs)])


def test_the_words_of_a_table_are_flush_left_and_its_numbers_are_not():
    table = pd.DataFrame({"recipe": ["96px", "improved"], "accuracy": ["88.0 %", text.DASH]})
    style = to_html(table, "name").data.partition("</style>")[0]
    assert "#T_name .col0 {\n  text-align: left;" in style
    assert ".col1" not in style


def test_numbers_on_a_shade_are_dark():
    page = narrative.classification_report(made()).data
    assert "background-color" in page and "color: #000000" in page and "color: #f1f1f1" not in page


# Answers


@pytest.fixture
def others(monkeypatch, toy_splits):
    """Published records: a list to fill; the images of all of them are at hand."""
    published = []
    monkeypatch.setattr(results, "published", lambda: published)
    monkeypatch.setattr(results.store, "published", lambda: published)
    source = replace(toy_splits.source, name="CIFAR-10", real=True, sha256="")
    return published, replace(toy_splits, source=source)


def test_published_rows_are_compared_with_published_ones(others, tmp_path):
    """Also where the folder holds a quick pass of the model before."""
    published, splits = others
    shown = made(parameters_hash="shown")
    published += [made("baseline_cnn", "improved", wrong=range(50)), shown]
    quick = made("baseline_cnn", "improved", wrong=range(150), parameters_hash="quick")
    results.save_result(quick, tmp_path)
    text = narrative.describe_findings([shown], out=str(tmp_path), splits=splits).data
    assert "the best row of the model before: +5.0 points" in text
    own = narrative.describe_findings(
        [made(parameters_hash="own")], out=str(tmp_path), splits=splits
    )
    assert "the best row of the model before: +55.0 points" in own.data


def test_the_best_row_stands_beside_that_of_the_model_before(others):
    published, splits = others
    weights, work = {"total": 100_000}, 5_000_000
    published += [
        made("baseline_cnn", "improved", wrong=range(50), parameters=weights, multiply_adds=work),
        made("baseline_cnn", "reference", wrong=range(90), parameters=weights, multiply_adds=work),
        made("resnet20", "improved", wrong=range(2)),
    ]
    text = narrative.describe_findings([made(wrong=range(10))], splits=splits).data
    assert "Compared with **Baseline CNN (improved)**, the best row of the model" in text
    assert "before: +20.0 points (95 %" in text
    assert "with 4 times the weights and 2 times the multiply-adds per image" in text
    assert "ResNet-20" not in text


def test_rows_of_the_network_that_are_not_on_the_page_are_named(others):
    published, splits = others
    shown, callbacks = made(), made(recipe="callbacks", wrong=range(10))
    published += [shown, callbacks, made("resnet20", "improved")]
    text = narrative.describe_findings([shown], splits=splits).data
    assert (
        "- Also trained with this network, by `--recipes callbacks`: **callbacks** 95.0 % (1 seed; "
        "what changes)." in text
    )
    assert "Also trained" not in narrative.describe_findings([shown, callbacks], splits=splits).data


def test_reasons_are_given_where_ablations_make_them_clear(others):
    published, splits = others
    base = recipes.select("vgg10", ["short-base"])[0]
    for seed in range(3):
        unchanged = {"recipe": base.name, "parameters_hash": f"base {seed}"}
        published.append(made(seed=seed, wrong=range(40 + seed % 2), **unchanged))
        for name, wrong in (("one-convolution", 80), ("no-dropout", 40)):
            changed = made(
                recipe=name,
                seed=seed,
                wrong=range(wrong + seed),
                variant_of=base.name,
                parameters_hash=f"{name} {seed}",
                changes=f"changed as {name}",
            )
            changed.record["test"]["loss"] = 0.9
            published.append(changed)
    text = narrative.describe_findings([made()], splits=splits).data
    assert "interval of test accuracy over seeds that excludes zero: changed as one-conv" in text
    assert "Without a clear effect on it: changed as no-dropout (−0.3 points" in text
    assert "against short-base, but test loss +0.40)." in text
    untested = (
        "Not tested against short-base: + early stopping, lower learning rate on a plateau; two"
    )
    assert untested in text
    assert "Not tested against short-improved: no augmentation; flip alone; rotation" in text


def test_a_change_with_one_seed_is_named_without_a_verdict(others):
    published, splits = others
    base = recipes.select("vgg10", ["short-base"])[0]
    published.append(made(recipe=base.name, parameters_hash="base"))
    changed = {"variant_of": base.name, "parameters_hash": "other", "changes": "no dropout"}
    published.append(made(recipe="no-dropout", wrong=range(20), **changed))
    text = narrative.describe_findings([made()], splits=splits).data
    told = "With one seed, so without an interval: no dropout (+10.0 points against short-base)."
    assert f"ablations in one. {told} Not tested" in text


def test_seeds_of_trainings_like_these_tell_what_one_seed_leaves_open(others):
    published, splits = others
    for name, wrong in (("short-base", 50), ("no-dropout", 55), ("long-base", 150)):
        published += [
            made(
                recipe=name,
                seed=seed,
                wrong=range(wrong + 2 * seed),
                parameters_hash=f"{name} {seed}",
            )
            for seed in range(3)
        ]
    text = narrative.describe_findings([made()], splits=splits).data
    # One and two points apart; no ablation starts from the second, and the third learned far less.
    assert "start from has a standard deviation of 1.0 points" in text
    assert "standard deviation" not in narrative.describe_findings([made()]).data


def test_means_of_unlike_seeds_are_told_apart_from_the_difference():
    base = [made(seed=seed, wrong=range(40 + 20 * seed)) for seed in (0, 1)]
    better = made(recipe="improved", wrong=range(20))
    text = narrative.describe_findings([*base, better]).data
    assert "is worth +10.0 points between the training runs with seed 0 (" in text
    assert "; the means over all seeds (2 seeds and 1 seed) go from 75.0 % to 90.0 %." in text


def test_a_step_says_until_when_the_trainings_went_alike():
    losses = {"loss": [2.0, 1.5, 1.2], "seconds": [8.0] * 3}
    found = [made(recipe=name) for name in ("base", "callbacks", "improved")]
    for result, loss in zip(
        found, ([2.0, 1.5, 1.2], [2.0, 1.5, 1.1], [1.9, 1.5, 1.1]), strict=True
    ):
        result.record["history"] |= losses | {"loss": loss}  # alike again later is not alike
    text = narrative.describe_findings(found).data
    assert "Until epoch 2 (seed 0) the two are one and the same training run." in text
    assert text.count("one and the same") == 1


def test_rows_without_a_seed_in_common_are_compared_by_their_first_ones():
    found = [made(wrong=range(40))]
    found += [made(recipe="improved", seed=seed, wrong=range(20)) for seed in (1, 2)]
    text = narrative.describe_findings(found).data
    assert "+10.0 points between seed 0 and seed 1 (95 % interval over test images" in text


def test_without_ablations_no_reason_is_claimed(others):
    _, splits = others
    text = narrative.describe_findings([made()], splits=splits).data
    assert "No ablation has been trained yet, so no single change can be credited" in text


def test_drawings_give_no_reasons(others, toy_splits):
    text = narrative.describe_findings([made()], splits=toy_splits).data
    assert "ingle change" not in text
