"""Training and test frames that a folder lists in `train.txt` and `test.txt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.images import without_ending

Names = tuple[str, ...]


def read_lists(folder: Path, names: Sequence[str]) -> tuple[Names | None, Names | None]:
    """Return the frames of `train.txt` and `test.txt`, in order, of those in `names`; None without a file."""
    train, test = (_read(folder / f"{split}.txt", names) for split in ("train", "test"))
    return train, test


def _read(path: Path, names: Sequence[str]) -> Names | None:
    if not path.is_file():
        return None
    words = path.read_text("utf-8-sig", errors="replace").split("\n")
    listed = {without_ending(word.strip()) for word in words}
    return tuple(name for name in names if name in listed)
