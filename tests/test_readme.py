import importlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cifar_helpers import results
from cifar_helpers.narrative.readme import _single_changes
from cifar_helpers.runner import readme

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def published():
    return results.without_variants(results.load_results(ROOT))


def test_the_readmes_results_are_those_of_the_records(published):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.with_results(text, published) == text


def test_the_speeds_on_their_page_are_those_that_were_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    section = importlib.import_module("page").section
    measured = json.loads((ROOT / "benchmarks" / "speed.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert readme.with_section(page, "speed", section(measured)) == page


def test_the_projection_is_of_the_records(published):
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    section = readme.scaling_section(published)
    assert readme.with_section(page, "projection", section) == page
    assert section.splitlines()[-1].startswith("| 64 |") and "the longest training" in section


def test_the_readmes_figure_is_there():
    assert (ROOT / "docs" / "accuracy.png").stat().st_size > 1_000


def test_the_figures_from_notebooks_are_those_of_the_notebooks():
    figures = readme.notebook_figures(ROOT / "notebooks")
    assert set(figures) == {"gradients", "features"}
    for name, png in figures.items():
        assert (ROOT / "docs" / f"{name}.png").read_bytes() == png


def test_published_records_are_of_one_set_of_real_images(published):
    assert {result.record["dataset"]["sha256"] for result in published} == {
        published[0].record["dataset"]["sha256"]
    }
    assert published[0].record["dataset"]["real"]


def test_published_records_hold_no_path_of_a_machine():
    for path in (ROOT / "results").glob("*/*/seed*.json"):
        text = path.read_text(encoding="utf-8")
        assert str(Path.home()) not in text and "/home/" not in text and "/Users/" not in text


def test_only_what_stands_between_the_markers_is_replaced():
    text = "before\n<!-- results: made -->\nold\n<!-- end of results -->\nafter\n"
    assert readme.with_section(text, "results", "new") == (
        "before\n<!-- results: made -->\nnew\n<!-- end of results -->\nafter\n"
    )


def test_the_headline_names_the_single_changes_that_move_accuracy():
    row = {"model": "vgg10", "base": "short-base", "seeds": 3, "same_training": False}
    row |= {"backbone": "", "recipe": "cutout"}
    changes = [("less", -2.0, -3.0, -1.0), ("noise", 1.0, -1.0, 3.0), ("more", 1.0, 0.5, 1.5)]
    rows = [dict(row, changes=name, test=x, low=low, high=high) for name, x, low, high in changes]
    alone = dict(row, seeds=1, changes="alone", test=9.0, low=np.nan, high=np.nan)
    told, largest = _single_changes(pd.DataFrame([alone, *reversed(rows)]))
    assert re.search(
        r"entails\. 3 were trained with the seeds of the unchanged recipe "
        r"\(of the others listed, 1 had one seed, \d+ have no records yet\)\. "
        r"In 2 of them \(VGG-10 2 of 3\) the 95",
        told,
    )
    assert (
        "each network, in points: VGG-10 (base, 10 epochs a phase, 20,000 images): less −2.0."
        in largest
    )
    assert _single_changes(pd.DataFrame([alone])) == []
    assert _single_changes(pd.DataFrame()) == []
