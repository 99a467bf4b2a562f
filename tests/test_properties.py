"""Whatever a user passes and whatever a file holds: an answer or one message, never a traceback."""

import json
import os
import pickle
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pooch
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cifar_helpers import recipes
from cifar_helpers.data import cifar10
from cifar_helpers.errors import DataError, UserError
from cifar_helpers.runner import notebooks, options, plan
from cifar_helpers.runner.inputs import Inputs

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 20  # of a batch file, in place of the official 10,000


# The command line

WHOLE = st.integers(-3, 2**40).map(str) | st.sampled_from(["0", "5", "five", "1e3", "", "½", "--"])
WORD = st.text(max_size=8) | st.sampled_from(["01", "1", "03_resnet20", "05", "9", "auto"])
RECIPE = st.sampled_from([*recipes.names(), "best", ""])
PARAMETER = st.builds(
    "{}={}".format,
    st.sampled_from(["epochs", "seeds", "recipes", "out", "train_size", "image_size", "x", ""]),
    st.sampled_from(["5", "0", "[0, 1]", "[]", "True", "None", "'a'", "__import__('os')", "[", ""])
    | st.text(max_size=10),
)
OPTIONS = {
    "--epochs": WHOLE,
    "--train-size": WHOLE,
    "--workers": WHOLE,
    "--cell-timeout": WHOLE,
    "--notebooks": WORD,
    "--recipes": RECIPE,
    "--seeds": WHOLE,
    "--image-size": WHOLE | st.sampled_from(["96", "224", "100"]),
    "-p": PARAMETER,
    "--dataset": st.sampled_from(["auto", "cifar10", "toy", "mnist"]),
    "--backbone": st.sampled_from(["auto", "efficientnetv2b0", "efficientnet-lite0", "vgg"]),
    "--data-dir": st.sampled_from([".", "nowhere", "README.md", "\0"]),
    "--weights-file": st.sampled_from([".", "nowhere", "README.md", "~"]),
    "--out": st.sampled_from(["new", ".", "README.md", "README.md/inside", "~", "\0"]),
}
SEVERAL = ("--notebooks", "--recipes", "--seeds", "--image-size", "-p")


@st.composite
def command_lines(draw):
    words = []
    for option in draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=4, unique=True)):
        most = 3 if option in SEVERAL else 1
        words += [option, *draw(st.lists(OPTIONS[option], min_size=1, max_size=most))]
    return words


# Inspected once: papermill takes a while.
NOTEBOOKS = notebooks.find_notebooks(ROOT / "notebooks")


@given(command_lines())
@example(["--out", "\0"])
@example(["--epochs", "5", "-p", "epochs=3"])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_command_line_is_taken_or_refused_with_a_message(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        try:
            asked = options.parse(words)
            chosen = notebooks.choose_notebooks(NOTEBOOKS, asked.notebooks)
            asked = options.check(asked, chosen)
            named = bool(asked.notebooks)
            chosen = notebooks.with_wanted_recipes(chosen, asked.recipes, named=named)
        except SystemExit as stop:
            assert stop.code == 2
            return
        except UserError as error:
            assert str(error).strip() and "\n" not in str(error)
            return
    data = {"dataset": "toy", "name": "toy set", "real": False, "verified": False, "sha256": "0"}
    for notebook in chosen:
        passed = plan.notebook_parameters(notebook, asked, Inputs(data), ROOT / "new")
        assert set(passed) <= set(notebook.types)
        json.dumps(passed)


# Batch files


def _batch() -> dict:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, 3072), dtype=np.uint8)
    return {b"data": pixels, b"labels": rng.integers(0, 10, IMAGES).tolist(), b"batch_label": b"x"}


BATCH = {protocol: pickle.dumps(_batch(), protocol) for protocol in (2, 4)}
HEAD = 400  # bytes in which the structure is, before and after the pixels
damages = st.lists(
    st.tuples(
        st.integers(0, HEAD - 1) | st.integers(-HEAD, -1) | st.integers(0, IMAGES * 3072),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=8,
)


def _parsed(content: bytes):
    """What the reader makes of a file: images and labels, or None for a message."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "_BATCH_IMAGES", IMAGES)
        try:
            return cifar10._parse_batch("data_batch_1", content)
        except DataError as error:
            assert str(error).startswith("data_batch_1 must ")
            return None


def _check(parsed) -> None:
    """Whatever got through is well-formed."""
    if parsed is not None:
        images, labels = parsed.images, parsed.labels
        assert images.shape == (IMAGES, 32, 32, 3) and images.dtype == np.uint8
        assert labels.shape == (IMAGES,) and labels.dtype == np.int64
        assert 0 <= labels.min() and labels.max() <= 9


@pytest.mark.parametrize("protocol", BATCH)
def test_the_sound_file_reads(protocol):
    parsed = _parsed(BATCH[protocol])
    expected = _batch()
    np.testing.assert_array_equal(
        parsed.images.transpose(0, 3, 1, 2).reshape(IMAGES, -1), expected[b"data"]
    )
    np.testing.assert_array_equal(parsed.labels, expected[b"labels"])


@given(st.sampled_from(sorted(BATCH)), st.integers(0, len(BATCH[2]) - 1))
@settings(max_examples=200, deadline=None)
def test_a_truncated_file_is_refused(protocol, kept):
    assert _parsed(BATCH[protocol][: min(kept, len(BATCH[protocol]) - 1)]) is None


@given(st.sampled_from(sorted(BATCH)), damages)
@settings(max_examples=500, deadline=None)
def test_a_damaged_file_is_refused_or_well_formed(protocol, damage):
    content = bytearray(BATCH[protocol])
    for position, value in damage:
        content[position % len(content)] = value
    _check(_parsed(bytes(content)))


@pytest.fixture(scope="module")
def small_copy(tmp_path_factory):
    """A folder of small batches, each of its own images, whose checksums pass for the official."""
    folder = tmp_path_factory.mktemp("copy")
    for seed, name in enumerate((*cifar10.TRAIN_FILES, cifar10.TEST_FILE)):
        pixels = np.random.default_rng(seed).integers(0, 256, (IMAGES, 3072), dtype=np.uint8)
        batch = {b"data": pixels, b"labels": [number % 10 for number in range(IMAGES)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = [name.encode() for name in cifar10.CLASS_NAMES]
    (folder / cifar10.META_FILE).write_bytes(pickle.dumps({b"label_names": names}, protocol=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "_BATCH_IMAGES", IMAGES)
        patch.setattr(
            cifar10,
            "OFFICIAL_MD5",
            {name: pooch.file_hash(folder / name, alg="md5") for name in cifar10.OFFICIAL_MD5},
        )
        yield folder


def test_the_small_copy_passes_for_the_official_one(small_copy):
    assert cifar10.read(str(small_copy)).verified is True


@given(st.sampled_from(sorted(cifar10.OFFICIAL_MD5)), st.integers(min_value=0))
@settings(max_examples=100, deadline=None)
def test_a_copy_with_a_flipped_bit_is_refused_or_unverified(small_copy, name, bit):
    sound = (small_copy / name).read_bytes()
    content = bytearray(sound)
    bit %= 8 * len(content)
    content[bit // 8] ^= 1 << bit % 8
    (small_copy / name).write_bytes(content)
    try:
        assert cifar10.read(str(small_copy)).verified is False
    except DataError as error:
        assert " must " in str(error)
    finally:
        (small_copy / name).write_bytes(sound)


@given(
    st.fixed_dictionaries(
        {
            b"data": st.sampled_from(["uint8", "int64", "float32", "object"]).flatmap(
                lambda kind: st.tuples(st.integers(0, 30), st.integers(0, 4000)).map(
                    lambda shape: np.zeros(shape, kind)
                )
            )
            | st.none()
            | st.binary(max_size=20),
            b"labels": st.lists(st.integers(-1, 11) | st.booleans() | st.floats(), max_size=25)
            | st.lists(st.integers(0, 9), min_size=IMAGES, max_size=IMAGES)
            | st.none(),
        }
    )
)
@settings(max_examples=200, deadline=None)
def test_another_content_is_refused_or_well_formed(batch):
    _check(_parsed(pickle.dumps(batch, 2)))


@given(st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_refused(content):
    assert _parsed(content) is None


class _Calls:
    """Unpickles by calling a function: how a pickle runs code."""

    def __init__(self, function, arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@given(
    st.sampled_from([os.system, eval, exec, subprocess.call, Path.touch]),
    st.sampled_from(["whole", "pixels", "labels", "one label", "a key"]),
    st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_no_pickle_runs_code(function, place, protocol):
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder, "canary")
        arguments = {
            os.system: f"touch {canary}",
            subprocess.call: ["touch", str(canary)],
            Path.touch: canary,
        }
        code = f"open({str(canary)!r}, 'w').close()"
        call = _Calls(function, (arguments.get(function, code),))
        batch = _batch()
        batch[b"labels"][3] = call if place == "one label" else 3
        changes = {"pixels": {b"data": call}, "labels": {b"labels": call}, "a key": {call: 1}}
        content = call if place == "whole" else batch | changes.get(place, {})
        assert _parsed(pickle.dumps(content, protocol)) is None
        assert not canary.exists()
