"""Where a conversion goes: which format a name means, what may be replaced, and moving finished files there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.formats import FORMATS, Format
from export.formats.sidecar import KEY, NAME
from export.formats.transforms import SYNTHETIC, TRANSFORMS
from utils.artifacts import replace_folder
from utils.errors import InputError

_SINGLE = {".npz": "npz", ".tum": "tum", ".kitti": "kitti"}
_WRITTEN = {NAME, "images", "image", "mask", "sparse", *(format.file for format in FORMATS.values())}
_ENDINGS = (".json", ".npy", ".npz", ".txt", ".tum", ".kitti", ".bin")


@dataclass(frozen=True)
class Target:
    """A format by name, and the file (of a format in a single file) or folder that it goes to."""

    name: str
    path: Path

    @property
    def format(self) -> Format:
        """The row of the table."""
        return FORMATS[self.name]

    @property
    def is_path(self) -> bool:
        """Whether the format is the path of one camera."""
        return self.name in ("tum", "kitti")

    @property
    def final(self) -> Path:
        """The folder that the files end up in."""
        return self.path.parent if self.format.single else self.path

    @contextlib.contextmanager
    def partial(self) -> Iterator[Path]:
        """Give a new folder to write into, beside the target; what is left of it goes in any case."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.", suffix=".partial", dir=self.path.parent))
        try:
            (aside / "new").mkdir()
            yield aside / "new"
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def require_free(self, source: Path, *, overwrite: bool) -> None:
        """Raise InputError where writing would destroy the source, or something that must not be replaced."""
        inside = source.resolve() == self.path.resolve() or self.path.resolve() in source.resolve().parents
        if inside:
            raise InputError(
                f"{self.path} is, or holds, what is to be converted",
                found=str(source),
                expected="another place",
                do="choose another target",
            )
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        ours = self.path.is_file() if self.format.single else self.path.is_dir() and _written_by_us(self.path)
        if not overwrite or not ours:
            raise InputError(
                f"{self.path} exists",
                found="a file" if self.path.is_file() else "a folder with something in it",
                expected="nothing there, or, with --overwrite, what an earlier conversion wrote and nothing else",
                do="use --overwrite" if ours else "choose another place",
            )

    def publish(self, partial: Path) -> None:
        """Move the finished files to their place; a folder that was there goes when the new one stands."""
        if self.format.single:
            for file in sorted(partial.iterdir()):
                os.replace(file, self.final / file.name)
            return
        replace_folder(partial, self.path, partial.with_name("old"))


def find_target(path: Path, name: str) -> Target:
    """Return the format and place that a target means.

    Args:
        path: a folder, a single file, or the file in a folder that a format is known by (`poses_bounds.npy`).
        name: the format; an empty string: it is told by the name of the path.

    Raises:
        InputError: the name says nothing, or several formats.
    """
    by_file = {format.file: key for key, format in FORMATS.items() if format.file}
    single = _SINGLE.get(path.suffix.lower(), "")
    name = name or by_file.get(path.name, "") or single or (path.name if path.name in FORMATS else "")
    if not name:
        both = "nerfstudio and instant-ngp both have a transforms.json" if path.name == TRANSFORMS else path.name
        raise InputError(
            f"{path}: which format?",
            found=both,
            expected=", ".join(FORMATS),
            do="name it with --to",
        )
    format = FORMATS[name]
    if not format.single and path.suffix.lower() in _ENDINGS:
        known = {format.file, TRANSFORMS if format.refers else ""}
        if path.name not in known:
            raise InputError(
                f"{path}: {name} is a folder",
                found=path.name,
                expected="the name of a folder",
                do=f"give {path.parent / path.stem}",
            )
        path = path.parent
    return Target(name, path)


def _written_by_us(folder: Path) -> bool:
    """Whether a folder has a record of a conversion, as a file or inside a JSON, and nothing else beside it."""
    files = [folder / name for name in (TRANSFORMS, *(f"transforms_{split}.json" for split in SYNTHETIC))]
    recorded = any(f'"{KEY}"' in file.read_text() for file in files if file.is_file())
    strangers = {entry.name for entry in folder.iterdir()} - _WRITTEN - {file.name for file in files}
    return (recorded or (folder / NAME).is_file()) and not strangers
