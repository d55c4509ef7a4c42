"""The refusals that all readers of camera files share; each names the file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError


def broken(path: Path, found: object, expected: str, do: str = "write the file again") -> InputError:
    """Return the refusal of a file that is not what its format asks for."""
    first_line = (str(found).strip().splitlines() or ["nothing"])[0]
    return InputError(f"{path} is not a file of this format", found=first_line, expected=expected, do=do)


def load_arrays(path: Path, expected: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file, or the one of an npy file under the name `array`."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"array": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise broken(path, error, expected) from error


def as_floats(path: Path, key: str, array: NDArray[Any], expected: str) -> NDArray[np.float64]:
    """Return an array as floats; NaN is left to the caller."""
    if array.dtype.kind not in "fiu":
        raise broken(path, f"{key} of type {array.dtype}", expected)
    return array.astype(np.float64)


def load_object(path: Path, expected: str) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise broken(path, error, expected) from error
    if not isinstance(record, dict):
        raise broken(path, f"a JSON {type(record).__name__}", expected)
    return record


def matrices(path: Path, values: Any, names: list[str], expected: str) -> NDArray[np.float64]:
    """Return (n, 4, 4) numbers of 4x4 or 3x4 matrices. Whether they are rigid is for the caller to ask."""
    full = np.tile(np.eye(4), (len(names), 1, 1))
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        try:
            matrix = np.array(value, float)
        except (TypeError, ValueError) as error:
            raise broken(path, f"{name}: {error}", expected) from error
        if matrix.shape not in ((4, 4), (3, 4)):
            raise broken(path, f"{name}: a matrix of shape {matrix.shape}", expected)
        full[index, : matrix.shape[0]] = matrix
    if not np.isfinite(full).all():
        wrong = names[int(np.flatnonzero(~np.isfinite(full).all(axis=(1, 2)))[0])]
        raise broken(path, f"{wrong}: NaN or infinity", expected, "leave cameras without a pose out of the file")
    return full
