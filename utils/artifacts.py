"""Maps and records on disk: one npz a frame and eye, JSON records, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.types import Side

Array = NDArray[Any]


def map_path(folder: Path, side: Side, name: str) -> Path:
    """Return where the maps of one eye at one frame lie: `<folder>/<side>_<frame>.npz`."""
    return folder / f"{side}_{name}.npz"


def save_maps(folder: Path, side: Side, name: str, **maps: Array) -> None:
    """Write maps of one eye at one frame, uncompressed (compression costs more than the stage)."""
    write_npz(map_path(folder, side, name), **maps)


def load_maps(folder: Path, side: Side, name: str) -> dict[str, Array]:
    """Read the maps of one eye at one frame. Raises FileNotFoundError where there are none."""
    with np.load(map_path(folder, side, name)) as file:
        return {key: file[key] for key in file.files}


def has_maps(folder: Path | None, side: Side, name: str) -> bool:
    """Whether maps of one eye at one frame exist."""
    return folder is not None and map_path(folder, side, name).exists()


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
    replaced = folder.exists()
    if replaced:
        if old.exists():
            shutil.rmtree(old)
        folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        if replaced and not folder.exists():
            old.rename(folder)
        raise
    if old.exists():
        shutil.rmtree(old)


def write_json(path: Path, record: Any) -> None:
    """Write a JSON record atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(record, indent=1, sort_keys=False, allow_nan=False) + "\n")
    os.replace(partial, path)


def read_json(path: Path) -> Any:
    """Read a JSON record."""
    return json.loads(path.read_text())


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
