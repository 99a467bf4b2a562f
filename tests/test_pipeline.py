"""The runner, with real kernels and tiny notebooks that are named for their one condition."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_study import ROOT, TinyStudy, is_gone

from cifar_helpers.runner import options, pipeline, progress, report, runs
from cifar_helpers.runner.options import Arguments

TOY = {
    "dataset": "toy",
    "name": "toy set",
    "real": False,
    "verified": False,
    "sha256": "0" * 64,
    "notice": "Toy run: these are drawn pictures, not CIFAR-10.",
}


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


def test_finished_notebooks_are_skipped(study, capfd):
    study.add("01_records", "records_its_parameters")
    study.add("05_lists", "lists_what_ran")
    assert study.run("--no-html") == study.run("--no-html", "--notebooks", "1") == 0
    assert len(study.seen("full")) == 1
    assert "01_records: finished · in an earlier run" in capfd.readouterr().out
    assert study.statuses() == {"01_records": "finished", "05_lists": "finished"}


def test_changed_notebook_and_failed_notebook_run_again(study):
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
def test_notebook_is_due_again_when_its_record_is_no_longer_what_it_left(study, change):
    study.add("02_vgg10", "leaves_a_record")
    record = study.runs / "full" / "results" / "vgg10" / "base" / "seed0.json"
    assert study.run("--no-html") == 0
    change(record)
    (record.parent / "seed7.json").write_text("of another notebook")
    assert study.run("--no-html") == 0
    assert record.read_text() == "{}"


def test_other_weights_make_the_notebook_due_again(study, monkeypatch):
    study.add("04_transfer_learning", "has_transfer_parameters")
    hashes = []
    for content in "aab":
        weights = {"backbone": "efficientnet-lite0", "sha256": content, "notice": "Weights."}
        monkeypatch.setattr(
            pipeline, "_prepare_inputs", lambda request, found=weights: {**TOY, "weights": found}
        )
        assert study.run("--no-html") == 0
        (entry,) = study.record("toy-full")["notebooks"].values()
        hashes.append(entry["parameters_hash"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_comparison_is_due_again_when_a_record_was_added(study):
    study.add("05_lists", "lists_what_ran")
    assert study.run("--no-html") == 0
    listed = study.runs / "full" / "ran.txt"
    listed.unlink()
    record = study.runs / "full" / "results" / "vgg10" / "base" / "seed0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    assert study.run("--no-html") == 0
    assert listed.exists()


def test_fresh_keeps_the_earlier_run(study):
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
        runs.open_run(folder, options.check(Arguments(**given), study.notebooks), {}, {})

    reopen(epochs=1)
    reopen(epochs=1, seeds=(0, 1))
    with pytest.raises(options.UserError, match="holds a run with epochs 1, now it is 2"):
        reopen(epochs=2)
    with pytest.raises(options.UserError, match="holds a run with epochs 1, now it is at its def"):
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
    (["--data-dir", ".", "--dataset", "toy"], "leave --data-dir out"),
    (["--weights-file", "nowhere.h5"], "--weights-file must exist; there is no nowhere.h5"),
    (["--weights-file", "sources"], "--weights-file must be a file"),
    (["--out", "file.txt"], "--out must be a folder; file.txt is a file"),
    (["--out", "file.txt/below"], "--out must be a folder that can be written"),
    (["--out", "sources"], "sources holds other files"),
    (["--out", "~no_such_user/x"], "must name a user's home folder; received ~no_such_user/x"),
    (["--data-dir", "~no_such_user/x"], "must name a user's home folder"),
    (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler"),
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


@pytest.mark.parametrize("value", ["five", 2.5, True])
def test_values_of_the_wrong_type_are_refused_by_the_function_too(study, capfd, value):
    study.add("01_records", "records_its_parameters")
    arguments = Arguments(epochs=value)
    assert pipeline.run(arguments, notebooks_dir=study.notebooks, runs_dir=study.runs) == 2
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
    arguments = Arguments(recipes=("optimized",))
    request = options.check(arguments, study.notebooks)
    assert [notebook.name for notebook in request.notebooks] == ["02_vgg10"]
    assert request.idle == ("03_resnet20",)
    with pytest.raises(options.UserError, match="names none of 03_resnet20"):
        options.check(Arguments(recipes=("optimized",), notebooks=("3",)), study.notebooks)


def test_help_needs_no_tensorflow():
    program = (
        "import sys, run_all\n"
        "try:\n    run_all.main(['--help'])\nexcept SystemExit:\n"
        "    heavy = {'tensorflow', 'keras', 'papermill', 'pandas'} & set(sys.modules)\n"
        "    sys.exit(len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--cell-timeout" in done.stdout


# Data


def test_all_notebooks_use_the_data_that_auto_found(study, monkeypatch, capfd):
    monkeypatch.setattr(pipeline, "_prepare_inputs", lambda request: TOY)
    study.add("01_reads", "reads_data")
    study.add("05_lists", "lists_what_ran")
    assert study.run("--epochs", "1") == 0
    assert study.record("toy-epochs-1")["notebooks"]["01_reads"]["parameters"] == {"dataset": "toy"}
    assert TOY["notice"] in capfd.readouterr().out
    index = (study.runs / "toy-epochs-1" / "html" / "index.html").read_text()
    assert TOY["notice"] in index and "capped at 1" in index
    assert 'href="01_reads.html"' in index and "Reads data" in index


def _transfer_parameters(study, inputs: dict, **given) -> dict:
    study.add("04_transfer_learning", "has_transfer_parameters")
    request = options.check(Arguments(**given), study.notebooks)
    return pipeline.notebook_parameters(request.notebooks[0], request, inputs, study.runs / "x")


def test_quick_pass_gives_transfer_learning_less_work(study):
    real = {**TOY, "real": True, "dataset": "cifar10"}
    quick = {
        "seeds": pipeline.QUICK_SEEDS,
        "recipes": pipeline.FULL["recipes"],
        "image_size": pipeline.QUICK_IMAGE_SIZE,
        "train_size": pipeline.QUICK_TRANSFER_TRAIN_SIZE,
    }
    rest = {"dataset": "cifar10", "out": ".."}
    assert _transfer_parameters(study, real, epochs=5) == {"epochs": 5, **quick, **rest}
    toy = _transfer_parameters(study, TOY, epochs=5)
    assert toy["train_size"] == pipeline.QUICK_TOY_TRAIN_SIZE
    assert _transfer_parameters(study, real, epochs=11) == {**pipeline.FULL, "epochs": 11, **rest}
    given = _transfer_parameters(study, real, epochs=5, image_size=(96, 224), train_size=20_000)
    assert (given["image_size"], given["train_size"]) == ([96, 224], 20_000)


@pytest.mark.parametrize("epochs", [None, 5])
def test_seeds_and_recipes_said_aloud_are_what_the_notebook_gets(study, epochs):
    """Also where they are what another notebook, or a quick pass, would have had anyway."""
    words = {"seeds": (0,), "recipes": ("reference", "improved")}
    passed = _transfer_parameters(study, TOY, epochs=epochs, **words)
    assert (passed["seeds"], passed["recipes"]) == ([0], ["reference", "improved"])
    other = _transfer_parameters(study, TOY, epochs=epochs, seeds=(0, 1), recipes=("improved",))
    assert (other["seeds"], other["recipes"]) == ([0, 1], ["improved"])


def test_quick_pass_says_what_is_less_and_how_to_have_it_all(study, monkeypatch, capfd):
    weights = {"backbone": "efficientnet-lite0", "sha256": "0", "notice": "Lite0 it is."}
    inputs = {**TOY, "weights": weights}
    monkeypatch.setattr(pipeline, "_prepare_inputs", lambda request: inputs)
    study.add("01_records", "records_its_parameters")
    study.add("04_transfer_learning", "has_transfer_parameters")
    assert study.run("--epochs", "2") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1:5] == [
        TOY["notice"],
        "Lite0 it is.",
        "Quick pass: every training phase is capped at 2 epochs, and each recipe is trained with "
        "one seed.",
        "04_transfer_learning runs at 64 and 96 pixels on 4,000 training images; add "
        "--image-size 96 224 --train-size 50000 for the full size.",
    ]
    index = (study.runs / "toy-epochs-2" / "html" / "index.html").read_text()
    assert "Lite0 it is." in index
    assert study.run("--epochs", "2", "--seeds", "1", "--train-size", "50") == 0
    out = capfd.readouterr().out
    assert "one seed" not in out and "runs at 64 and 96 pixels; add --image-size 96 224 for" in out


def test_no_flags_is_the_full_run_whatever_the_notebooks_default(study):
    assert _transfer_parameters(study, {}) == {**pipeline.FULL, "out": ".."}


def test_paths_are_passed_relative_to_the_executed_notebook(study):
    (study.root / "weights.h5").touch()
    (study.root / "images").mkdir()
    real = {**TOY, "real": True, "dataset": "cifar10"}
    given = {"data_dir": "images", "weights_file": "weights.h5"}
    passed = _transfer_parameters(study, real, **given)
    assert passed["data_dir"] == "../../../images"
    assert passed["weights_file"] == "../../../weights.h5"


def test_threads_are_shared_between_workers(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pipeline, "_cores", lambda: 8)
    assert pipeline._environment(Arguments(workers=3))["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in pipeline._environment(Arguments())


def test_folders_of_the_environment_are_the_same_in_the_kernels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CIFAR10_DIR", "CIFAR_HELPERS_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(name, "here")
        assert pipeline._environment(Arguments())[name] == str(tmp_path / "here")


def test_run_name_is_made_from_what_decides_the_results(study):
    study.add("01_records", "records_its_parameters")

    def name(inputs=TOY, **given) -> str:
        return runs.run_name(options.check(Arguments(**given), study.notebooks), inputs)

    real = {**TOY, "real": True, "verified": True}
    assert name(real) == "full"
    assert name(real, workers=4, notebooks=("1",), backbone="auto") == "full"
    assert name(real, seeds=(0,)) not in ("full", name(real, seeds=(1,)))
    assert name(real, epochs=5, seeds=(0,)) == "epochs-5"
    assert name(real, epochs=5, dataset="cifar10") == "epochs-5"
    assert name(epochs=5) == "toy-epochs-5"
    assert name(real, seeds=(0, 1)) == name(real, seeds=(0, 1)) != name(real, seeds=(0, 2))
    assert name({**real, "verified": False}) != "full"


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


def _training(folder: Path, recipe: str, epoch: int, epochs: int, phase: int = 1) -> None:
    state = {"epoch": epoch, "epochs": epochs, "seconds_per_epoch": 60.0, "val_accuracy": 0.5}
    state["phase"] = phase
    path = folder / "checkpoints" / "vgg10" / recipe / "seed0" / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state))


def test_progress_tells_training_epoch_and_time_left(tmp_path):
    plan = [
        {"model": "vgg10", "recipe": recipe, "seed": 0, "epochs": 20, "phases": 1}
        for recipe in ("base", "callbacks", "improved")
    ]
    assert progress.watch(tmp_path, "vgg10", 0.0) is None
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "vgg10.json").write_text(json.dumps(plan))
    assert str(progress.watch(tmp_path, "vgg10", 0.0)) == (
        "base, seed 0 · training 1 of 3 · epoch 0 of 20"
    )
    _training(tmp_path, "base", 20, 20)
    _training(tmp_path, "callbacks", 5, 20)
    assert str(progress.watch(tmp_path, "vgg10", 0.0)) == (
        "callbacks, seed 0 · training 2 of 3 · epoch 5 of 20 · validation 50.0% · about 35 min left"
    )
    _training(tmp_path, "improved", 20, 20)
    assert progress.watch(tmp_path, "vgg10", 0.0) is None
    assert progress.watch(tmp_path, "vgg10", time.time() + 60) is None


@pytest.mark.parametrize(("phase", "left"), [(1, ""), (2, " · about 10 min left")])
def test_no_time_is_foretold_for_epochs_of_another_kind(tmp_path, phase, left):
    row = {"model": "vgg10", "recipe": "base", "seed": 0, "epochs": 20, "phases": 2}
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "vgg10.json").write_text(json.dumps([row]))
    _training(tmp_path, "base", 10, 20, phase=phase)
    assert str(progress.watch(tmp_path, "vgg10", 0.0)).partition("50.0%")[2] == left


def test_plain_display_prints_changes_only(capsys):
    display = progress.PlainDisplay()
    for epoch in range(101):
        at = progress.Training("vgg10", "base", 0, epoch, 100, 1, 1, None, None)
        display.show([progress.Row("02_vgg10", "running", 1.0, at)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == progress.LINES_A_TRAINING + 1
    assert lines[0] == "02_vgg10: running · base, seed 0 · epoch 0 of 100"


def test_durations_read_well():
    said = [progress.duration(seconds) for seconds in (0.4, 99, 100, 3599, 11_100)]
    assert said == ["0 s", "99 s", "2 min", "1 h 00 min", "3 h 05 min"]


# Records in the report


def test_index_shows_results_with_their_intervals():
    row = {
        "model": "vgg10",
        "label": "VGG-10",
        "recipe": "base",
        "changes": "dropout 0.2",
        "parameters": 402_986,
        "epochs": "20/20",
        "seeds": 1,
        "accuracy": 0.78,
        "low": 0.77,
        "high": 0.79,
        "interval": "test images",
        "loss": 0.6,
        "gap": -2.84,
        "seconds": 120.0,
        "reference": 0.786,
        "reference_about": "20/20 epochs",
    }
    record = {
        "status": "finished",
        "arguments": {"epochs": 20, "data_dir": "/home/somebody/cifar"},
        "data": {**TOY, "real": True, "verified": True, "name": "CIFAR-10"},
        "quick": False,
        "versions": {"python": "3.12.1"},
        "started": "2026-01-02T03:04:05+00:00",
        "notebooks": {},
    }
    page = report.index_page("full", record, [row], ["One processor, 2 cores"])
    for words in ("78.0 %", "77.0 to 79.0", "78.6 %", "20/20 epochs", "402,986", "−2.8"):
        assert words in page
    assert "somebody" not in page and "One processor" in page


def test_report_names_the_backbone_that_was_used_and_the_one_that_was_published():
    rows, problem = report.results_rows(ROOT)
    assert problem == ""
    (row,) = [row for row in rows if row["recipe"] == "96px"]
    assert row["label"] == "EfficientNet-Lite0"
    assert row["reference_about"] == "30+30 epochs, EfficientNetV2B0"
    assert {row["reference_about"] for row in rows if row["reference"] is None} == {""}
