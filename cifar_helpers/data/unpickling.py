"""Pickled dicts of NumPy arrays and plain values, read without running anything in them."""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np


def load_dict(content: bytes) -> dict:
    """A pickled dict of plain values and integer arrays (read-only), its keys as text.

    Any Python and pickle protocol may have written it.

    Raises:
        pickle.UnpicklingError: for anything else, and whatever is wrong with a damaged file.
    """
    try:
        _check_opcodes(content)
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise pickle.UnpicklingError(f"it holds {describe(loaded)}")
        return {
            text(key): value.array if isinstance(value, _Array) else value
            for key, value in loaded.items()
        }
    # A damaged pickle can fail in any way its opcodes can: type, index, memory, end of file, ...
    except Exception as error:
        raise pickle.UnpicklingError(str(error)) from error


def describe(value: object) -> str:
    """A value in a few words, however large it is."""
    if isinstance(value, np.ndarray):
        span = f" from {value.min()} to {value.max()}" if value.size else ""
        return f"{value.dtype} of shape {value.shape}{span}"
    if not isinstance(value, list):
        return "none" if value is None else f"a {type(value).__name__}"
    if value and all(type(item) is int and abs(item) < 2**63 for item in value):
        return f"{len(value)} integers from {min(value)} to {max(value)}"
    return f"a list of {len(value)}"


def text(value: Any) -> Any:
    """Bytes, which is what Python 2 wrote for text, as text; all else as it is."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _check_opcodes(content: bytes) -> None:
    """Refuse a file that would have the unpickler reserve memory it has no data for.

    One flipped bit can turn "call" into "remember under number 4,000,000,000", for which CPython's
    unpickler makes a table of that length. Strings that reach past the end are found here too.
    """
    for position, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name.endswith("PUT") and (argument or 0) > position:
            raise pickle.UnpicklingError(f"its opcode {position} numbers an object {argument}")


class _Dtype:
    """Stands for a pickled `numpy.dtype`: integers only, so never objects or structures."""

    def __init__(self, name: str | bytes, *_: object):
        kind = text(name)
        if kind not in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
            raise pickle.UnpicklingError(f"arrays must hold integers; this one is of type {kind}")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(text(state[1]))


class _Array:
    """Stands for a pickled `numpy.ndarray`, made from its bytes and nothing else."""

    def __init__(self, *_: object):
        """Takes, and does without, what NumPy's own reconstruction is told."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        flat = np.frombuffer(content, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")

    @classmethod
    def from_buffer(cls, content: bytes, dtype: _Dtype, shape: tuple, order: str) -> "_Array":
        """How protocol 5 writes an array."""
        array = cls()
        array.__setstate__((1, shape, dtype, order == "F", content))
        return array


class _Unpickler(pickle.Unpickler):
    """Admits plain values and integer arrays; every other name in the file is refused unloaded.

    The names that NumPy pickles arrays by are answered with stand-ins, so that no state from the
    file reaches NumPy's own unpickling, which trusts it.
    """

    def find_class(self, module: str, name: str) -> Callable:
        admitted: dict[str, Callable] = {
            "numpy.core.multiarray._reconstruct": _Array,
            "numpy.core.numeric._frombuffer": _Array.from_buffer,
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "_codecs.encode": self._encode,
        }
        wanted = f"{module}.{name}".replace("numpy._core", "numpy.core")  # NumPy 2's name for it
        if wanted not in admitted:
            raise pickle.UnpicklingError(f"it asks for {wanted}, which is not admitted")
        return admitted[wanted]

    def _encode(self, characters: str, encoding: str | bytes) -> bytes:
        """How Python 3 writes bytes in protocol 2."""
        if text(encoding) != "latin1":
            raise pickle.UnpicklingError(f"bytes must be written as latin1, not {encoding!r}")
        return characters.encode("latin1")
