"""What holds the project together: types, style, the wheel, the workflow, the words beside it."""

import ast
import dataclasses
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import cifar_helpers
from cifar_helpers import data, hardware, models, recipes

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cifar_helpers"


def run(*command, cwd=ROOT, **environment):
    """What a command prints; it has to succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def written(name):
    return (ROOT / name).read_text(encoding="utf-8")


def public_functions():
    """Functions and methods of the package that others may call, with their place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Methods of a class with a base are as that has them.
        kinds = (node for node in tree.body if isinstance(node, ast.ClassDef))
        classes = [kind for kind in kinds if not kind.bases and not kind.name.startswith("_")]
        for node in itertools.chain(tree.body, *(kind.body for kind in classes)):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


# Types and style


def test_types_fit_together(tmp_path):
    run(sys.executable, "-m", "mypy", "--cache-dir", tmp_path)


def test_public_functions_are_typed():
    untyped = []
    for place, function in public_functions():
        named = function.args
        arguments = [*named.posonlyargs, *named.args, *named.kwonlyargs]
        arguments += filter(None, (named.vararg, named.kwarg))
        if arguments and arguments[0].arg in ("self", "cls"):
            arguments = arguments[1:]
        if function.returns is None or any(argument.annotation is None for argument in arguments):
            untyped.append(place)
    assert untyped == []


def test_the_hooks_that_run_before_a_commit_pass():
    (source,) = yaml.safe_load(written(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"] for hook in source["hooks"]]
    assert [entry.split()[:2] for entry in entries] == [["ruff", "check"], ["ruff", "format"]]
    for entry in entries:
        # Judged only: a hook may rewrite files, a test may not.
        judge = ["--check"] if "format" in entry else ["--no-fix"]
        run(sys.executable, "-m", *shlex.split(entry), *judge, "--no-cache", ".")


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, ".", "--wheel-dir", "dist", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("cifar_helpers/")}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert {"cifar_helpers/py.typed", "cifar_helpers/runner/index.html.j2"} <= packed


def test_the_wheel_can_be_imported_from_an_empty_folder(wheel, tmp_path):
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target)
    run(*pip, wheel)
    program = (
        "import cifar_helpers, importlib, pathlib, pkgutil\n"
        "found = pkgutil.walk_packages(cifar_helpers.__path__, 'cifar_helpers.')\n"
        "names = [module.name for module in found]\n"
        "places = [importlib.import_module(name).__file__ for name in names]\n"
        "print(*places, *pathlib.Path(cifar_helpers.__file__).parent.rglob('*.j2'), sep='\\n')\n"
    )
    environment = {"PYTHONPATH": str(target), "TF_CPP_MIN_LOG_LEVEL": "3"}
    places = run(sys.executable, "-c", program, cwd=empty, **environment).splitlines()
    assert all(Path(place).resolve().is_relative_to(target.resolve()) for place in places)
    modules = [
        path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
    ]
    assert sum(place.endswith(".py") for place in places) == len(modules)
    assert any(place.endswith(".j2") for place in places)


# Versions, commands and places that are written more than once


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load(written("CITATION.cff"))
    assert citation["version"] == cifar_helpers.__version__
    assert f"\n## {cifar_helpers.__version__}\n" in written("CHANGELOG.md")


def test_the_citation_says_what_software_it_is_and_whose():
    citation = yaml.safe_load(written("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == written("README.md").splitlines()[0].removeprefix("# ")
    assert citation["license"] == "MIT"
    assert {"message", "authors", "references"} <= citation.keys()
    assert all({"type", "title", "authors"} <= entry.keys() for entry in citation["references"])


def test_the_workflow_runs_the_readmes_test_command_on_every_system():
    readme = written("README.md")
    section = readme[readme.index("<!-- test command -->") :].split("```")[1]
    command = section.removeprefix("bash").strip()
    (job,) = yaml.safe_load(written(".github/workflows/tests.yml"))["jobs"].values()
    assert [system.partition("-")[0] for system in job["strategy"]["matrix"]["os"]] == [
        "ubuntu",
        "macos",
        "windows",
    ]
    steps = {step.get("if"): step["run"] for step in job["steps"] if "run" in step}
    on_windows = command.replace("python3 ", "python ").replace(".venv/bin/", ".venv/Scripts/")
    assert steps == {"runner.os != 'Windows'": command, "runner.os == 'Windows'": on_windows}
    assert job["defaults"]["run"]["shell"] == "bash", "Windows has to understand the command too"


def test_the_workflow_takes_the_oldest_and_the_newest_python():
    oldest, past = re.search(
        r'requires-python = ">=3\.(\d+),<3\.(\d+)"', written("pyproject.toml")
    ).groups()
    (job,) = yaml.safe_load(written(".github/workflows/tests.yml"))["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == [f"3.{oldest}", f"3.{int(past) - 1}"]


def test_the_files_that_the_guide_for_contributors_names_are_there():
    paths = re.findall(r"`((?:[\w.]+/)+[\w.]*|\w+\.(?:py|toml))`", written("CONTRIBUTING.md"))
    named = [path for path in paths if "NAME" not in path and "MODEL" not in path]
    assert len(named) > 20
    assert [p for p in named if not ((ROOT / p).exists() or (PACKAGE / p).exists())] == []


@pytest.mark.parametrize(
    ("room", "name"),
    [
        (recipes, "Recipe"),
        (models, "Model"),
        (models, "Backbone"),
        (data, "DataSet"),
        (data, "Policy"),
    ],
)
def test_the_guide_for_contributors_names_the_fields_that_an_entry_needs(room, name):
    (shown,) = re.findall(rf"`{name}\(([^`]*)\)`", written("CONTRIBUTING.md"))
    named = set(re.findall(r"(\w+)=", shown))
    known = {field.name: field for field in dataclasses.fields(getattr(room, name))}
    needed = {key for key, field in known.items() if field.default is dataclasses.MISSING}
    assert needed <= named <= known.keys()


# What a record says of the sources


@pytest.mark.skipif(not shutil.which("git"), reason="needs Git")
def test_a_commit_is_that_of_the_sources_alone(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    names = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]

    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *names, *words], check=True)

    package, other = tmp_path / "package", tmp_path / "installed"
    for folder in (package, other):
        folder.mkdir()
        (folder / "code.py").write_text("1")
    assert hardware.commit(package) == ""  # no checkout
    git("init", "-q")
    git("add", "package")
    git("commit", "-q", "-m", "First")
    first = hardware.commit.__wrapped__(package)
    assert re.fullmatch("[0-9a-f]{40}", first)
    assert hardware.commit(other) == ""  # in a checkout, but not of it
    (tmp_path / "README").write_text("more")
    git("add", "README")
    git("commit", "-q", "-m", "Second")
    assert hardware.commit.__wrapped__(package) == first
    (package / "code.py").write_text("2")
    assert hardware.commit.__wrapped__(package) == f"{first}+changes"
