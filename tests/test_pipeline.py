"""The runner, with real kernels and tiny notebooks that are named for their one condition."""

import io
import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import papermill
import pytest
from tiny_study import ROOT, TinyStudy, is_gone, without_kernels

from cifar_helpers import models, recipes, results, text
from cifar_helpers.errors import UserError, WeightsError
from cifar_helpers.runner import inputs, notebooks, plan, progress, record, report, run, steps
from cifar_helpers.runner.inputs import Inputs
from cifar_helpers.runner.options import Options, check

TOY = {
    "dataset": "toy",
    "name": "toy set",
    "real": False,
    "verified": False,
    "sha256": "0" * 64,
    "notice": "Toy run: these are drawn pictures, not CIFAR-10.",
    "subject": "the toy set",
    "images": 8_000,
}
REAL = {**TOY, "real": True, "verified": True, "dataset": "cifar10", "name": "CIFAR-10"}
LITE0 = {"backbone": "efficientnet-lite0", "sha256": "a", "notice": "Lite0 it is."}


def find(monkeypatch, data: dict, *weights: dict) -> None:
    """Let the runner find these data and weights."""
    monkeypatch.setattr(steps, "find_data", lambda *arguments: data)
    monkeypatch.setattr(steps, "find_weights", lambda *arguments: weights)


@pytest.fixture
def inline():
    """Notebooks run without kernels."""
    with without_kernels():
        yield


def planned_alone(monkeypatch) -> dict[str, dict]:
    """Let the runner execute no notebook; gives the parameters that each would have had."""
    passed: dict[str, dict] = {}

    def execute(overview, *_):
        passed.update({job.name: job.parameters for job in overview.jobs})

    monkeypatch.setattr(steps, "execute", execute)
    return passed


def checked(study, **given) -> tuple[Options, list[notebooks.Notebook]]:
    """Options after their check, and the notebooks that are to run."""
    options = Options(**given)
    chosen = notebooks.choose_notebooks(
        notebooks.find_notebooks(study.notebooks), options.notebooks
    )
    return check(options, chosen), chosen


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A study of which two notebooks failed: run once, looked at by many."""
    with pytest.MonkeyPatch.context() as patch:
        study = TinyStudy(tmp_path_factory.mktemp("mixed"))
        patch.chdir(study.root)
        patch.syspath_prepend(str(ROOT))
        patch.setenv("JUPYTER_PATH", str(study.root / "jupyter"))
        study.add_foreign_kernel()
        study.add("01_fails", "fails_in_second_cell")
        study.add("02_dies", "kills_its_kernel")
        study.add("05_lists", "lists_what_ran")
        study.add("06_records", "records_its_parameters")
        words = ("--epochs", "3", "--seeds", "0", "2", "-p", "rate=1", "label=a=b")
        study.status = study.run(*words, "--workers", "2", "--out", "runs/mixed")
        return study


# Order, parameters, record


def test_parameters_reach_the_notebooks_that_have_them(mixed):
    assert mixed.seen("mixed") == [
        {"epochs": 3, "seeds": [0, 2], "rate": 1.0, "verbose": False, "label": "a=b", "out": ".."}
    ]
    assert mixed.record("mixed")["notebooks"]["05_lists"]["parameters"] == {"out": ".."}


def test_comparison_runs_when_the_others_have_ended(mixed):
    ran = (mixed.runs / "mixed" / "ran.txt").read_text().split()
    assert {"01_fails.failed.ipynb", "02_dies.failed.ipynb", "06_records.ipynb"} <= set(ran)


def test_failing_notebook_is_named_and_the_others_run(mixed):
    assert mixed.status == 1
    entries = mixed.record("mixed")["notebooks"]
    statuses = [entry["status"] for entry in entries.values()]
    assert statuses == ["failed", "failed", "finished", "finished"]
    assert entries["01_fails"]["failed_cell"] == {
        "number": 3,
        "source": "numerator / 0  # the cell that fails",
        "error": "ZeroDivisionError",
        "message": "division by zero",
    }
    folder = mixed.runs / "mixed"
    assert "division by zero" in (folder / entries["01_fails"]["output"]).read_text()
    assert not (folder / "notebooks" / "01_fails.ipynb").exists()


def test_dead_kernel_fails_the_notebook_and_shows_it(mixed):
    entry = mixed.record("mixed")["notebooks"]["02_dies"]
    assert (entry["failed_cell"]["error"], entry["failed_cell"]["number"]) == ("DeadKernelError", 3)
    kept = json.loads((mixed.runs / "mixed" / entry["output"]).read_text())
    assert kept["cells"][2]["outputs"][-1]["ename"] == "DeadKernelError"


def test_kernel_is_of_this_interpreter_whatever_python3_is(mixed):
    # The kernelspec that `mixed` has put first could not have run anything.
    assert mixed.statuses("mixed")["06_records"] == "finished"


def test_paths_of_this_machine_stay_out_of_the_notebook(mixed):
    executed = mixed.runs / "mixed" / "notebooks" / "06_records.ipynb"
    assert str(mixed.root) not in executed.read_text()


def test_nothing_but_results_is_left(mixed):
    names = {path.name for path in (mixed.runs / "mixed" / "notebooks").iterdir()}
    assert not {name for name in names if ".partial" in name or name.endswith(".log")}


def test_a_failed_notebooks_page_shows_the_code_that_failed_and_folds_the_rest(mixed):
    (page,) = (mixed.runs / "mixed" / "html").glob("*fail*.html")
    cells = re.findall(r"<details class=\"code\"( open)?.*?</details>", page.read_text(), re.DOTALL)
    assert cells.count(" open") == 1 and len(cells) > 1


def test_pages_fetch_nothing(mixed):
    folder = mixed.runs / "mixed" / "html"
    assert len(list(folder.iterdir())) == 5
    for page in folder.iterdir():
        text = page.read_text()
        assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=.https?:", text)
        assert "import(" not in text and "@import" not in text
    assert "ZeroDivisionError: division by zero" in (folder / "index.html").read_text()


def test_cell_timeout_fails_the_notebook(study, capfd):
    study.add("01_sleeps", "sleeps")
    assert study.run("--no-html", "--cell-timeout", "1") == 1
    cell = study.record()["notebooks"]["01_sleeps"]["failed_cell"]
    assert (cell["error"], cell["source"]) == ("CellTimeoutError", "import os")
    assert is_gone(study.runs / "full" / "kernel.pid")
    out, err = capfd.readouterr()
    assert "01_sleeps failed in cell 3 (import os): CellTimeoutError" in out and err == ""


# The same command again


def test_finished_notebooks_are_skipped(inline, study, capfd):
    study.add("01_records", "records_its_parameters")
    study.add("05_lists", "lists_what_ran")
    assert study.run("--no-html") == study.run("--no-html", "--notebooks", "1") == 0
    assert len(study.seen("full")) == 1
    assert "01_records: finished · in an earlier run" in capfd.readouterr().out
    assert study.statuses() == {"01_records": "finished", "05_lists": "finished"}


def test_changed_notebook_and_failed_notebook_run_again(inline, study):
    study.add("01_records", "records_its_parameters")
    study.add("02_fails", "fails_in_second_cell")
    assert study.run("--no-html") == 1
    source = study.notebooks / "01_records.ipynb"
    source.write_text(source.read_text().replace('epochs:\\"', 'cap:\\"'))
    study.add("02_fails", "lists_what_ran")
    assert study.run("--no-html") == 0
    assert len(study.seen("full")) == 2
    assert not list((study.runs / "full" / "notebooks").glob("*.failed.ipynb"))


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("of other epochs")])
def test_notebook_runs_again_when_its_record_is_no_longer_what_it_left(inline, study, change):
    study.add("02_vgg10", "leaves_a_record")
    record = study.runs / "full" / "results" / "vgg10" / "base" / "seed0.json"
    assert study.run("--no-html") == 0
    change(record)
    (record.parent / "seed7.json").write_text("of another notebook")
    assert study.run("--no-html") == 0
    assert record.read_text() == "{}"


def test_other_weights_rerun_the_notebook(inline, study, monkeypatch):
    study.add("04_transfer_learning", "has_transfer_parameters")
    hashes = []
    for content in "aab":
        find(monkeypatch, TOY, {**LITE0, "sha256": content})
        assert study.run("--no-html") == 0
        (entry,) = study.record("toy-full")["notebooks"].values()
        hashes.append(entry["parameters_hash"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_edited_recipe_reruns_the_notebook_and_an_edited_runner_does_not(
    inline, study, monkeypatch
):
    package = study.root / "checkout" / "cifar_helpers"
    shutil.copytree(ROOT / "cifar_helpers", package)
    monkeypatch.setattr(plan, "ROOT", package.parent)
    study.add("02_vgg10", "records_its_parameters")
    assert study.run("--no-html") == 0
    for name, times in (("runner/report.py", 1), ("recipes.py", 2), ("models/table.py", 3)):
        with open(package / name, "a") as file:
            file.write("# edited\n")
        assert study.run("--no-html") == 0
        assert len(study.seen("full")) == times, name


# A run continues with the data and weights that it began with


def test_the_backbone_that_auto_found_is_passed_on_by_name(study, monkeypatch):
    find(monkeypatch, TOY, LITE0)
    passed = planned_alone(monkeypatch)
    study.add("04_transfer_learning", "has_transfer_parameters")
    assert study.run("--no-html") == 0
    assert passed["04_transfer_learning"]["backbone"] == "efficientnet-lite0"


def test_a_continued_run_keeps_its_backbone_or_is_refused(study, monkeypatch, capfd):
    """Also where weights of another one can be had by now, and where a notebook needed none."""
    asked = []

    def resolve(names, weights_file):
        asked.append(names)
        if names[0] in missing:
            raise WeightsError(f"No weights for {names[0]}.")
        name = "efficientnetv2b0" if names[0] == "auto" else names[0]
        return ({**LITE0, "backbone": name},)

    missing: set = set()
    monkeypatch.setattr(steps, "find_data", lambda *arguments: TOY)
    monkeypatch.setattr(inputs, "run_apart", lambda function, *arguments: resolve(*arguments))
    planned_alone(monkeypatch)
    study.add("01_records", "records_its_parameters")
    study.add("04_transfer_learning", "has_transfer_parameters")
    assert study.run("--no-html", "--backbone", "efficientnet-lite0", "--out", "lite0") == 0
    assert study.run("--no-html") == study.run("--no-html", "--notebooks", "1") == 0
    assert study.run("--no-html") == 0
    assert asked == [["efficientnet-lite0"], ["auto"], ["efficientnetv2b0"]]
    missing.add("efficientnetv2b0")
    capfd.readouterr()
    assert study.run("--no-html") == 2
    err = capfd.readouterr().err
    assert "was begun with the backbone efficientnetv2b0, whose weights can no longer be had" in err
    assert len(err.splitlines()) == 1
    assert study.run("--no-html", "--fresh") == 0
    assert asked[-1] == ["auto"]


FIRST_EDITION = {
    "status": "interrupted",
    "arguments": {"epochs": 2, "fresh": False, "workers": 1, "html": True},
    "settings": {"epochs": 2, "dataset": "toy set (000000000000)"},
    "data": {
        **{name: TOY[name] for name in ("dataset", "name", "real", "verified", "sha256", "notice")},
        "weights": {**LITE0, "origin": "a package"},
    },
    "quick": True,
    "versions": {"python": "3.12.1"},
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T04:04:05+00:00",
    "notebooks": {
        "01_records": {
            "status": "finished",
            "started": "2026-01-02T03:04:05+00:00",
            "parameters": {"epochs": 2, "seeds": [0], "out": ".."},
            "parameters_hash": "0" * 64,
            "seconds": 60.0,
            "output": "notebooks/01_records.ipynb",
            "records": {},
            "page": "01_records.html",
            "title": "Records its parameters",
        },
        "02_vgg10": {"status": "interrupted", "started": "2026-01-02T03:05:05+00:00"},
        "05_comparison": {"status": "waiting"},
    },
}


def test_a_run_of_the_first_edition_continues(inline, study, monkeypatch, capfd):
    begun_with = []
    monkeypatch.setattr(steps, "find_data", lambda *arguments: TOY)

    def find_weights(options, chosen, name):
        begun_with.append(name)
        return (LITE0,)

    monkeypatch.setattr(steps, "find_weights", find_weights)
    folder = study.runs / "toy-epochs-2"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(FIRST_EDITION))
    study.add("01_records", "records_its_parameters")
    study.add("04_transfer_learning", "has_transfer_parameters")
    assert study.run("--epochs", "2") == 0
    assert begun_with == ["efficientnet-lite0"]
    content = study.record("toy-epochs-2")
    assert content["started"] == FIRST_EDITION["started"] and content["status"] == "interrupted"
    statuses = ["finished", "interrupted", "finished", "waiting"]
    assert list(study.statuses("toy-epochs-2").values()) == statuses
    assert len(study.seen("toy-epochs-2")) == 1  # again: its hash knew nothing of the package
    capfd.readouterr()
    assert study.run("--epochs", "3", "--out", str(folder)) == 2
    assert "holds a run with epochs 2, now it is 3" in capfd.readouterr().err


def test_comparison_runs_again_when_a_record_was_added(inline, study):
    study.add("05_lists", "lists_what_ran")
    assert study.run("--no-html") == 0
    listed = study.runs / "full" / "ran.txt"
    listed.unlink()
    record = study.runs / "full" / "results" / "vgg10" / "base" / "seed0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert study.run("--no-html") == 0
    assert listed.exists()


def test_fresh_keeps_the_earlier_run(inline, study):
    study.add("01_records", "records_its_parameters")
    earlier = study.runs / "full" / "run.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{of another day")
    assert study.run("--no-html", "--fresh") == 0
    names = sorted(path.name for path in study.runs.iterdir())
    assert len(names) == 2 and re.fullmatch(r"full\.\d{8}-\d{6}", names[1])
    assert (study.runs / names[1] / "run.json").read_text() == "{of another day"


def test_other_settings_are_refused_in_the_same_folder(study):
    study.add("01_records", "records_its_parameters")
    folder = study.root / "here"

    def reopen(**given):
        record.open_record(folder, checked(study, **given)[0], Inputs({}), [])

    reopen(epochs=1)
    reopen(epochs=1, seeds=(0, 1))
    with pytest.raises(UserError, match="holds a run with epochs 1, now it is 2"):
        reopen(epochs=2)
    with pytest.raises(UserError, match="holds a run with epochs 1, now it is at its def"):
        reopen()


# Bad arguments

BAD = [
    (["--epochs", "0"], "--epochs must be a whole number of at least 1; received 0"),
    (["--epochs", "-1"], "received -1"),
    (["--train-size", "9"], "--train-size must be a whole number of at least 10; received 9"),
    (["--workers", "0"], "--workers must be a whole number of at least 1; received 0"),
    (["--cell-timeout", "0"], "--cell-timeout must be"),
    (["--seeds", "1", "1"], "--seeds must be different whole numbers"),
    (["--seeds", "-1"], "received -1"),
    (["--seeds", str(2**32)], "received 4294967296"),
    (["--image-size", "100"], "multiple of 32 from 32 to 512; received 100"),
    (["--image-size", "0"], "received 0"),
    (["--image-size", "544"], "received 544"),
    (["--image-size", "224", "96"], "received 224, 96"),
    (["--image-size", "32", "64", "96"], "received 32, 64, 96"),
    (["--recipes", "improvd"], "received 'improvd'. Did you mean improved?"),
    (["--notebooks", "7"], "there is no '7'. Known: 01_records, 02_fails"),
    (["--notebooks", "01_record"], "Did you mean 01_records?"),
    (["-p", "rate"], "-p takes NAME=VALUE; received 'rate'"),
    (["-p", "rat=1"], "Did you mean rate? Known: epochs, seeds, rate, verbose, label, out"),
    (["-p", "rate=fast"], "-p rate must be of type float, such as rate=0.5; received 'fast'"),
    (["-p", "epochs=2.5"], "-p epochs must be of type int"),
    (["-p", "epochs=True"], "-p epochs must be of type int"),
    (["-p", "epochs=0"], "--epochs must be a whole number of at least 1; received 0"),
    (["-p", "seeds=3"], "-p seeds must be of type list"),
    (["-p", "verbose=2"], "-p verbose must be of type bool"),
    (["-p", "rate=1", "-p", "rate=2"], "-p rate was given twice"),
    (["-p", "epochs=2", "--epochs", "3"], "--epochs and -p epochs say the same thing"),
    (["-p", "out=x"], "name the run's folder with --out"),
    (["--data-dir", "nowhere"], "--data-dir must exist; there is no nowhere"),
    (["--data-dir", ".", "--dataset", "toy"], "--dataset toy reads no copy; leave --data-dir out"),
    (["--weights-file", "nowhere.h5"], "--weights-file must exist; there is no nowhere.h5"),
    (["--weights-file", "sources"], "--weights-file must be a file"),
    (["--out", ""], "--out must name a file or folder"),
    (["--out", "file.txt"], "--out must be a folder; file.txt is a file"),
    (["--out", "file.txt/below"], "--out must be a folder that can be written"),
    (["--out", "sources"], "sources holds other files"),
    (["--out", "~no_such_user/x"], "must name a user's home folder; received ~no_such_user/x"),
    (["--data-dir", "~no_such_user/x"], "must name a user's home folder"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_argument_is_one_line_and_creates_nothing(study, capfd, words, message):
    study.add("01_records", "records_its_parameters")
    study.add("02_fails", "fails_in_second_cell")
    (study.root / "file.txt").touch()
    before = sorted(study.root.rglob("*"))
    assert study.run(*words) == 2
    out, err = capfd.readouterr()
    assert message in err and out == ""
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    assert sorted(study.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "five"], "argument --epochs: must be a whole number; received 'five'"),
        (["--dataset", "mnist"], "invalid choice: 'mnist'"),
        (["--epoch", "5"], "unrecognized arguments: --epoch"),
        (["--seeds"], "expected at least one argument"),
    ],
)
def test_bad_command_line_is_one_line(words, message):
    command = [sys.executable, str(ROOT / "run_all.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (False, "--scheduler needs the package distributed; install the [cluster] extra: pip"),
        (True, "--scheduler tcp://127.0.0.1:1 does not answer: refused."),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_told(study, monkeypatch, capfd, installed, message):
    def client(address, timeout):
        raise OSError("refused")

    distributed = types.SimpleNamespace(Client=client) if installed else None
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    study.add("01_records", "records_its_parameters")
    assert study.run("--scheduler", "tcp://127.0.0.1:1") == 2
    err = capfd.readouterr().err
    assert message in err and len(err.splitlines()) == 1
    assert not study.runs.exists()


@pytest.mark.parametrize("value", ["five", 2.5, True])
def test_values_of_the_wrong_type_are_refused_by_the_function_too(study, capfd, value):
    study.add("01_records", "records_its_parameters")
    asked = Options(epochs=value)
    assert run(asked, notebooks_dir=study.notebooks, runs_dir=study.runs) == 2
    assert f"received {value!r}" in capfd.readouterr().err


def test_missing_data_is_refused_before_anything_is_created(study, capfd):
    study.add("01_reads", "reads_data")
    (study.root / "empty").mkdir()
    assert study.run("--data-dir", "empty") == 2
    err = capfd.readouterr().err
    assert "run_all.py: error: " in err and "Traceback" not in err
    assert not study.runs.exists()


def test_notebooks_without_a_wanted_recipe_are_left_out(study):
    study.add("02_vgg10", "records_its_parameters")
    study.add("03_resnet20", "records_its_parameters")
    known = notebooks.find_notebooks(study.notebooks)
    kept = notebooks.with_wanted_recipes(known, ("optimized",), named=False)
    assert [notebook.name for notebook in kept] == ["02_vgg10"]
    with pytest.raises(UserError, match="names none of 03_resnet20"):
        notebooks.with_wanted_recipes(known, ("optimized",), named=True)
    assert notebooks.with_wanted_recipes(known, None, named=False) == known
    study.add("05_lists", "lists_what_ran")
    with pytest.raises(UserError, match="names none of 02_vgg10, 03_resnet20; received 224px"):
        known = notebooks.find_notebooks(study.notebooks)  # a comparison alone trains nothing
        notebooks.with_wanted_recipes(known, ("224px",), named=False)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--epochs", "five"], 2),
        (["--seeds", "1", "1"], 2),
        (["-p", "epoch=3"], 2),
        (["--notebooks", "1", "-p", "train_size=few"], 2),
    ],
)
def test_help_and_refusals_import_nothing_that_takes_long(words, status):
    program = (
        "import sys, run_all\n"
        "try:\n    status = run_all.main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "heavy = {'tensorflow', 'keras', 'papermill', 'nbformat', 'pandas', 'matplotlib', 'scipy'}\n"
        "print(status, *(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == str(status)
    assert ("--cell-timeout" in done.stdout) == (status == 0)


def test_parameters_are_those_that_papermill_finds():
    for path in (*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("tests/notebooks/*.ipynb")):
        found = papermill.inspect_notebook(path)
        types = {name: each["inferred_type_name"] for name, each in found.items()}
        assert notebooks.Notebook(path).types == types


# Data


def test_all_notebooks_use_the_data_that_auto_found(inline, study, monkeypatch, capfd):
    find(monkeypatch, TOY)
    study.add("01_reads", "reads_data")
    study.add("05_lists", "lists_what_ran")
    assert study.run("--epochs", "1") == 0
    assert study.record("toy-epochs-1")["notebooks"]["01_reads"]["parameters"] == {"dataset": "toy"}
    assert TOY["notice"] in capfd.readouterr().out
    index = (study.runs / "toy-epochs-1" / "html" / "index.html").read_text()
    assert TOY["notice"] in index and "capped at 1" in index
    assert 'href="01_reads.html"' in index and "Reads data" in index


def _transfer_parameters(study, data: dict, **given) -> dict:
    study.add("04_transfer_learning", "has_transfer_parameters")
    options, chosen = checked(study, **given)
    return plan.notebook_parameters(chosen[0], options, Inputs(data, (LITE0,)), study.runs / "x")


def test_notebooks_get_what_was_given_and_what_was_not_whatever_their_defaults(study):
    """No flags are the full study; of a quick pass only the cap on the epochs is passed."""
    left_out = {
        "epochs": 0,
        "train_size": 0,
        "recipes": list(recipes.DEFAULT),
        "seeds": [],
        "image_size": [],
    }
    found = {"dataset": "cifar10", "backbone": "efficientnet-lite0", "out": ".."}
    assert _transfer_parameters(study, REAL) == {**left_out, **found}
    quick = _transfer_parameters(study, REAL, epochs=5)
    assert quick == {**left_out, **found, "epochs": 5}
    given = _transfer_parameters(study, REAL, epochs=5, image_size=(96, 224), train_size=20_000)
    assert (given["image_size"], given["train_size"]) == ([96, 224], 20_000)


@pytest.mark.parametrize("epochs", [None, 5])
def test_seeds_and_recipes_said_aloud_are_what_the_notebook_gets(study, epochs):
    """Also where they are what another notebook, or a quick pass, would have had anyway."""
    words = {"seeds": (0,), "recipes": ("reference", "improved")}
    passed = _transfer_parameters(study, TOY, epochs=epochs, **words)
    assert (passed["seeds"], passed["recipes"]) == ([0], ["reference", "improved"])
    other = _transfer_parameters(study, TOY, epochs=epochs, seeds=(0, 1), recipes=("improved",))
    assert (other["seeds"], other["recipes"]) == ([0, 1], ["improved"])


def test_quick_pass_says_what_is_less_and_how_to_have_it_all(inline, study, monkeypatch, capfd):
    find(monkeypatch, TOY, LITE0)
    study.add("01_records", "records_its_parameters")
    study.add("04_transfer_learning", "has_transfer_parameters")
    assert study.run("--epochs", "2") == 0
    lines = capfd.readouterr().out.splitlines()
    reductions = (
        "Quick pass: every training phase is capped at 2 epochs; each recipe has one seed; "
        "04_transfer_learning on 576 training images in batches of 32 at 96 pixels. --full-size takes all images, "
        "as large as in the full study."
    )
    assert lines[1:4] == [TOY["notice"], "Lite0 it is.", reductions]
    index = (study.runs / "toy-epochs-2" / "html" / "index.html").read_text()
    assert "Lite0 it is." in index and reductions in index
    words = ("--seeds", "1", "--train-size", "50", "--image-size", "32")
    planned_alone(monkeypatch)
    assert study.run("--epochs", "2", *words) == 0
    assert "Quick pass: every training phase is capped at 2 epochs.\n" in capfd.readouterr().out


def test_at_full_size_a_quick_pass_is_capped_in_its_epochs_alone(study):
    def asked(**given):
        options = Options(full_size=True, **given).at_full_size(8_000)
        return options.train_size, options.image_size

    assert asked(epochs=5) == (8_000, (96, 224))
    assert asked(epochs=5, train_size=70, image_size=(64,)) == (70, (64,))
    assert asked() == asked(epochs=11) == (None, None)


def test_a_run_settles_on_a_precision_and_keeps_it(study, monkeypatch, capfd):
    find(monkeypatch, TOY)
    shutil.copy(ROOT / "notebooks" / "02_vgg10.ipynb", study.notebooks)
    seen, fastest = [], "bfloat16"

    def measure(function, names, environment):
        assert function is inputs.measure_precisions and "TF_CPP_MIN_LOG_LEVEL" in environment
        return dict.fromkeys(names, fastest)

    def execute(overview, *_):
        seen.append(overview.jobs[0].parameters["precision"])
        assert {each.precision for each in overview.trainings} == {seen[-1]}

    monkeypatch.setattr(inputs, "run_apart", measure)
    monkeypatch.setattr(steps, "train", lambda *arguments: None)
    monkeypatch.setattr(steps, "execute", execute)
    command = ("--epochs", "1", "--no-html")
    assert study.run(*command) == 0
    assert "Precision: bfloat16 (VGG-10)." in capfd.readouterr().out
    assert study.record("toy-epochs-1")["precisions"] == {"vgg10": "bfloat16"}
    fastest = "float32"
    study.run(*command)
    study.run(*command, "--fresh")
    study.run(*command, "--precision", "bfloat16")
    assert seen == ["bfloat16", "bfloat16", "float32", "bfloat16"]
    # Records from before the choice was written down stay what they are.
    study.run(*command, "--out", "old")
    content = json.loads((study.root / "old" / "run.json").read_text())
    (study.root / "old" / "run.json").write_text(json.dumps({**content, "precisions": {}}))
    (study.root / "old" / "results" / "vgg10" / "base").mkdir(parents=True)
    (study.root / "old" / "results" / "vgg10" / "base" / "seed0.json").write_text("{}")
    study.run(*command, "--out", "old")
    assert seen[4:] == ["float32", "auto"]


def test_the_full_study_computes_in_float32_unless_it_was_begun_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "run_apart", lambda *_: {"vgg10": "measured"})
    (notebook,) = notebooks.choose_notebooks(notebooks.find_notebooks(ROOT / "notebooks"), ["2"])

    def settled(begun_with=(), **given):
        return inputs.find_precisions(Options(**given), [notebook], tmp_path, dict(begun_with), {})

    assert settled() == settled(epochs=11) == {"vgg10": "float32"}
    assert settled(epochs=10) == settled(precision="auto") == {"vgg10": "measured"}
    assert settled({"vgg10": "bfloat16"}) == {"vgg10": "bfloat16"}
    assert settled(precision="bfloat16") == {}


def test_paths_are_passed_relative_to_the_executed_notebook(study):
    (study.root / "weights.h5").touch()
    (study.root / "images").mkdir()
    given = {"data_dir": "images", "weights_file": "weights.h5"}
    passed = _transfer_parameters(study, REAL, **given)
    assert passed["data_dir"] == "../../../images"
    assert passed["weights_file"] == "../../../weights.h5"


def test_a_picture_of_ones_own_reaches_its_notebook_and_makes_no_run_of_its_own(study):
    (study.root / "cat.png").touch()
    comparison = notebooks.find_notebooks(ROOT / "notebooks")[-1]
    asked = check(Options(parameters=("picture=cat.png",)), [comparison])
    passed = plan.notebook_parameters(comparison, asked, Inputs({}), study.runs / "x")
    assert passed["picture"] == "../../../cat.png"
    assert plan.run_name(asked, {}) == "full"


def test_files_count_by_what_is_in_them_and_not_by_where_they_are(study):
    known = notebooks.find_notebooks(ROOT / "notebooks")

    def name(number=5, **given):
        options = check(Options(**given), known)
        jobs = plan.make_plan(known, options, Inputs(REAL), study.runs / "x", {})
        return jobs[number - 1].inputs_hash

    for picture, content in (("cat.png", "a"), ("same.png", "a"), ("other.png", "b")):
        (study.root / picture).write_text(content)
    of_cat = name(picture="cat.png")
    assert name(picture="same.png") == of_cat
    assert len({of_cat, name(picture="other.png"), name()}) == 3
    assert name(1, picture="cat.png") == name(1)
    (study.root / "copy").mkdir()
    assert name(data_dir="copy") == name()


def test_a_notebook_that_trains_must_take_a_data_set():
    notebook = types.SimpleNamespace(name="01_x", model="vgg10", trains_a_plan=True, types={})
    with pytest.raises(UserError, match="must have the parameter dataset; 01_x has none"):
        inputs.find_data(Options(), [notebook])


def test_threads_are_shared_between_workers(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(plan, "cores", lambda: 8)
    assert plan.kernel_environment(3, shared=True)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in plan.kernel_environment(1, shared=True)
    assert "OMP_NUM_THREADS" not in plan.kernel_environment(3, shared=False)


def test_a_teacher_stands_on_the_runs_backbone(study, monkeypatch):
    """Also where no notebook that runs has the parameter."""
    seen = {}

    def make_plan(notebooks, options, inputs, folder, environment):
        seen.update(environment)
        raise UserError("enough")

    monkeypatch.setattr(steps, "make_plan", make_plan)
    study.add("02_records", "records_its_parameters")
    assert study.run("--backbone", "efficientnet-lite0") == 2
    assert seen[models.BACKBONE_VARIABLE] == "efficientnet-lite0"


def test_folders_of_the_environment_are_the_same_in_the_kernels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CIFAR10_DIR", "CIFAR_HELPERS_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(name, "here")
        assert plan.kernel_environment(1, shared=True)[name] == str(tmp_path / "here")


def test_run_name_is_made_from_what_decides_the_results(study):
    study.add("01_records", "records_its_parameters")

    def name(data=REAL, **given) -> str:
        return plan.run_name(checked(study, **given)[0], data)

    assert name() == "full"
    assert name(workers=4, notebooks=("1",), backbone="auto") == "full"
    assert name(precision="auto") not in ("full", name(precision="float32"))
    assert name(epochs=5, precision="auto") == "epochs-5"
    assert name(image_size=(96, 224), recipes=("reference", "improved")) == "full"
    assert name(seeds=(0,)) not in ("full", name(seeds=(1,)))
    assert name(epochs=5, seeds=(0,)) == name(epochs=5, dataset="cifar10") == "epochs-5"
    assert name(epochs=5, image_size=(96, 224)) != "epochs-5"
    assert name(TOY, epochs=5) == "toy-epochs-5"
    # As the first edition named them, so that its runs are found.
    assert name(seeds=(0, 1)) == "full-e9587d11" != name(seeds=(0, 2))
    assert name({**REAL, "verified": False}) != "full"


# The terminal


def test_piped_output_is_plain_and_short(study, environment):
    study.add("01_records", "records_its_parameters")
    done = subprocess.run(
        study.process("--epochs", "1"), env=environment, capture_output=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert "01_records: finished after" in text
    assert text.splitlines()[-1] == "Report: runs/epochs-1/html/index.html"
    assert len(text.splitlines()) < 10


def _row(recipe: str, status: str, epoch: int = 0, **changes) -> dict:
    row = {"recipe": recipe, "seed": 0, "epochs": 20, "phases": 1, "status": status}
    row |= {"epoch": epoch, "phase": 1, "val_accuracy": 0.5, "seconds_per_epoch": 60.0}
    return row | changes


def _seen(folder: Path, *rows: dict) -> str:
    """What is shown of these trainings of VGG-10."""
    path = folder / "progress" / "vgg10.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"model": "vgg10", "trainings": rows, "updated": ""}))
    return str(progress.find_training(folder, "vgg10"))


NEW = {"val_accuracy": None, "seconds_per_epoch": None}


def test_progress_tells_training_epoch_and_time_left(tmp_path):
    assert progress.find_training(tmp_path, "vgg10") is None
    waiting = [_row(name, "waiting", **NEW) for name in ("callbacks", "improved")]
    shown = _seen(tmp_path, _row("base", "waiting", **NEW), *waiting)
    assert shown == "base, seed 0 · training 1 of 3 · epoch 0 of 20"
    shown = _seen(
        tmp_path, _row("base", "finished", 20), _row("callbacks", "running", 5), waiting[1]
    )
    assert shown == (
        "callbacks, seed 0 · training 2 of 3 · epoch 5 of 20 · validation 50.0 % · "
        "about 35 min left"
    )
    stopping = _row("callbacks", "running", 5, may_stop=True)
    assert _seen(tmp_path, stopping, waiting[1]).endswith("at most 35 min left")
    assert _seen(tmp_path, *(_row(name, "finished", 20) for name in ("base", "improved"))) == "None"
    progress.forget(tmp_path, "vgg10")
    assert progress.find_training(tmp_path, "vgg10") is None


def test_a_training_that_stopped_early_is_not_shown_through_the_next_one(tmp_path):
    stopped, following = _row("callbacks", "finished", 9), _row("improved", "waiting", **NEW)
    shown = _seen(tmp_path, stopped, following)
    assert shown == "improved, seed 0 · training 2 of 2 · epoch 0 of 20 · about 20 min left"
    shown = _seen(tmp_path, stopped, {**following, "status": "running"})
    assert shown == "improved, seed 0 · training 2 of 2 · epoch 0 of 20 · about 20 min left"


@pytest.mark.parametrize(("phase", "left"), [(1, ""), (2, " · about 10 min left")])
def test_no_time_is_foretold_for_epochs_of_another_kind(tmp_path, phase, left):
    shown = _seen(tmp_path, _row("base", "running", 10, phase=phase, phases=2))
    assert shown.partition("50.0 %")[2] == left
    # At the beginning of a phase, not by the epochs of another training either.
    begun = _row("improved", "running", 10, phase=2, phases=2, seconds_per_epoch=None)
    assert "left" not in _seen(tmp_path, _row("base", "finished", 20), begun)


def test_plain_display_prints_changes_only(capsys):
    display = progress.PlainDisplay()
    for epoch in range(101):
        at = progress.State({"recipe": "base", "seed": 0, "epoch": epoch, "epochs": 100})
        display.show([progress.Row("02_vgg10", "running", 1.0, at)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == progress.LINES_A_TRAINING + 1
    assert lines[0] == "02_vgg10: running · base, seed 0 · epoch 0 of 100"


def test_durations_read_well():
    said = [text.duration(seconds) for seconds in (0.4, 89, 90, 3599, 11_100)]
    assert said == ["0 s", "89 s", "2 min", "60 min", "3 h 05 min"]


# Records in the report


RUN = {
    "status": "finished",
    "arguments": {"epochs": 20, "data_dir": "/home/somebody/cifar"},
    "data": {**TOY, "real": True, "verified": True, "name": "CIFAR-10"},
    "quick": False,
    "reductions": "",
    "versions": {"python": "3.12.1"},
    "started": "2026-01-02T03:04:05+00:00",
    "notebooks": {},
}


def test_the_reports_command_can_be_pasted_into_a_shell():
    arguments = {"epochs": 5, "seeds": [0, 1], "workers": 2, "parameters": ["label=a b"]}
    assert report._command(arguments) == ("python run_all.py --epochs 5 --seeds 0 1 -p 'label=a b'")


def test_the_reports_command_says_the_precision_where_it_is_no_default():
    assert report._command({"precision": "auto"}) == "python run_all.py --precision auto"
    assert report._command({"precision": "auto", "epochs": 5}) == "python run_all.py --epochs 5"


def test_the_reports_command_shows_no_folder_of_the_user():
    for name in ("data_dir", "weights_file", "picture"):
        flag = "--" + name.replace("_", "-")
        assert report._command({name: "/home/me/file"}) == f"python run_all.py {flag} file"


def test_a_page_is_written_again_only_where_it_changes_as_by_a_link_to_the_next_one(inline, study):
    study.add("01_records", "records_its_parameters")
    study.add("02_records", "records_its_parameters")
    page = study.runs / "full" / "html" / "01_records.html"
    assert study.run("--notebooks", "1") == 0
    assert 'rel="next"' not in page.read_text()
    page.write_text(page.read_text() + "<!-- kept -->")
    assert study.run("--notebooks", "1") == 0
    assert page.read_text().endswith("<!-- kept -->")
    assert study.run() == 0
    assert 'href="02_records.html" rel="next"' in page.read_text()


def test_the_index_shows_the_readmes_figure_and_says_what_it_shows():
    page = report.index_page("full", RUN, report.read_results(ROOT))
    assert 'src="data:image/png;base64,' in page
    figure = report.accuracy_figure(results.load_results(ROOT))
    assert f'alt="{figure.alt_text}"' in page


def test_index_shows_results_with_their_intervals():
    row = {
        "network": "VGG-10",
        "recipe": "base",
        "what changes": "dropout 0.2",
        "parameters": "402,986",
        "epochs": "20/20",
        "seeds": "1",
        "test accuracy": "78.0 %",
        "95 % interval": "77.0 to 79.0 %",
        "test loss": "0.600",
        "gap": "−2.8",
        "training": "2 min",
        "original": "78.6 % (20/20 epochs)",
    }
    page = report.index_page("full", RUN, report.Results([row], ["One processor, 2 cores"]))
    for words in ("78.0 %", "77.0 to 79.0", "78.6 %", "20/20 epochs", "402,986", "−2.8"):
        assert words in page
    assert "somebody" not in page and "One processor" in page


def test_a_notebook_that_left_nothing_has_no_page(tmp_path):
    killed = {"status": "failed", "seconds": 1, "output": None}
    about = results.published()[0].record["dataset"] | {"notice": ""}
    record = {
        "status": "finished",
        "arguments": {},
        "data": about,
        "quick": False,
        "versions": {},
        "started": "2026-01-02T03:04:05+00:00",
        "notebooks": {"01_killed": killed},
    }
    report.write_pages(tmp_path, record, report.read_results(tmp_path))
    assert [path.name for path in (tmp_path / "html").iterdir()] == ["index.html"]


def test_report_names_the_backbone_that_was_used_and_the_one_that_was_published():
    rows, machines, problem, _ = report.read_results(ROOT)
    # The first edition's records do not tell the processor's generation.
    assert problem == "" and machines[0] == "AMD EPYC, 2 cores (generation not recorded)"
    assert {name.partition(" (")[0] for name in machines} == {"AMD EPYC, 2 cores"}
    (row,) = [row for row in rows if row["recipe"].startswith("96px")]
    assert row["network"] == "EfficientNet-Lite0"
    assert row["original"].endswith("(30+30 epochs, EfficientNetV2B0)")


def test_a_log_in_a_code_page_gets_what_that_has_room_for(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import run_all

    log = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", log)
    monkeypatch.setattr(run_all, "run", lambda options: print("≈ 4 min"))
    run_all.main([])
    log.flush()
    assert log.buffer.getvalue().strip() == b"? 4 min"
