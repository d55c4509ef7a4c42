"""Maps and records on disk: one npz a frame and eye, JSON records, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError, disk_trouble
from utils.types import Side

Array = NDArray[Any]
STAMP = "stamp.json"  # the folder of a finished stage has one
# What numpy raises where a file is cut short, damaged, or no array at all.
NO_ARRAYS = (
    ValueError, TypeError, AttributeError, KeyError, EOFError, OSError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def map_path(folder: Path, side: Side, name: str) -> Path:
    """Return where the maps of one eye at one frame lie: `<folder>/<side>_<frame>.npz`."""
    return folder / f"{side}_{name}.npz"


def save_maps(folder: Path, side: Side, name: str, **maps: Array) -> None:
    """Write maps of one eye at one frame, uncompressed (compression costs more than the stage)."""
    write_npz(map_path(folder, side, name), **maps)


def load_maps(folder: Path, side: Side, name: str) -> dict[str, Array]:
    """Read the maps of one eye at one frame. Raises as `read_npz` does."""
    return read_npz(map_path(folder, side, name))


def has_maps(folder: Path | None, side: Side, name: str) -> bool:
    """Whether maps of one eye at one frame exist."""
    return folder is not None and map_path(folder, side, name).exists()


def read_npz(path: Path) -> dict[str, Array]:
    """Read all arrays of an npz that a stage wrote.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is cut short, damaged, or no npz.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except NO_ARRAYS as error:
        if isinstance(error, OSError) and (not path.exists() or disk_trouble(error)):
            raise
        raise damaged(path, error) from error


def write_npz(path: Path, **arrays: Array) -> None:
    """Write an npz so that a crash leaves the old file or the new one, never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def replace_folder(partial: Path, folder: Path, old: Path | None = None) -> None:
    """Put a finished folder in its place; what was there goes last, and comes back where the new one cannot stand.

    Args:
        partial: the new folder, on the same disk.
        folder: its place.
        old: where the former one waits; default `<folder>.old`. What an earlier crash left there goes too.
    """
    old = old or folder.with_name(folder.name + ".old")
    replaced = folder.exists() or folder.is_symlink()
    if replaced:
        _remove(old)
        folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        if replaced and not folder.exists():
            old.rename(folder)
        raise
    _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder where there is one; of a link the link alone: what it points at belongs to others."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def write_json(path: Path, record: Any) -> None:
    """Write a JSON record atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(record, indent=1, sort_keys=False, allow_nan=False) + "\n")
    os.replace(partial, path)


def read_json(path: Path) -> Any:
    """Read a JSON record. Raises FileNotFoundError where there is none, InputError where it is no JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise damaged(path, error) from error


def damaged(path: Path, found: object) -> InputError:
    """Return the refusal of a file of ours that is not whole; `found` is what reading it raised, or words."""
    words = " ".join(str(found).split())[:160]
    if isinstance(found, Exception):
        words = f"{type(found).__name__}: {words}"
    stage = next((folder for folder in path.parents if (folder / STAMP).exists()), None)
    again = f"remove the folder {stage}, then `python run.py` with the run's configuration makes that stage again"
    return InputError(
        f"{path} cannot be read",
        found=words,
        expected="a whole file, as it was written",
        do="write it again, or remove it" if stage is None else again,
    )


def file_hash(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def record_hash(record: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a JSON record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
