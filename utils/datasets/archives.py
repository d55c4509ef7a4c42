"""Numbered files in a folder or in a tar archive, read one by one without unpacking the rest."""

from __future__ import annotations

import gzip
import tarfile
import threading
import zlib
from pathlib import Path

from utils.datasets.numbered_files import number_of, numbered
from utils.errors import InputError

_BROKEN = (tarfile.TarError, EOFError, OSError, gzip.BadGzipFile, zlib.error)


class FrameFiles:
    """Files such as `scene_points000012.tiff`, in `folder` where it exists, else in `archive`.

    A compressed archive is read forwards: asking for the files in their order costs one pass. The last one is
    kept, for both eyes are often in one file, and going back would unpack everything before it again.
    """

    def __init__(self, folder: Path, archive: Path, ending: str) -> None:
        """Look which of the two is there; nothing is read yet. Raises InputError for an empty folder."""
        self.place = folder if folder.is_dir() else archive
        self._ending = ending
        self._lock = threading.Lock()
        self._files = numbered(folder.glob(f"*{ending}")) if folder.is_dir() else {}
        self._tar: tarfile.TarFile | None = None
        self._members: dict[int, tarfile.TarInfo] = {}
        self._last: tuple[int, bytes] | None = None
        if folder.is_dir() and not self._files:
            raise self._refusal("an empty folder")

    @property
    def exists(self) -> bool:
        """Whether there is a folder or an archive."""
        return self.place.exists()

    @property
    def unpacked(self) -> bool:
        """Whether any file can be read at no cost but its own."""
        return bool(self._files)

    def read_all(self) -> dict[int, bytes]:
        """Return all files by number: for small ones. Raises InputError where the archive is damaged."""
        if self._files:
            return {number: path.read_bytes() for number, path in self._files.items()}
        with self._lock:
            while self._advance():
                pass
            in_place = sorted(self._members, key=lambda number: self._members[number].offset)
            read = {number: self._extract(number) for number in in_place}
        return dict(sorted(read.items()))

    def read(self, number: int) -> bytes:
        """Return one file. Raises InputError where it is missing or the archive is damaged."""
        if self._files:
            if number not in self._files:
                raise self._refusal(f"no file with the number {number}")
            return self._files[number].read_bytes()
        with self._lock:
            if self._last is None or self._last[0] != number:
                while number not in self._members:
                    if not self._advance():
                        raise self._refusal(f"no file with the number {number}")
                self._last = (number, self._extract(number))
            return self._last[1]

    def _advance(self) -> bool:
        """Read the next header of the archive; return whether there was one."""
        try:
            if self._tar is None:
                self._tar = tarfile.open(self.place)  # noqa: SIM115 - kept open: read on from there
            member = self._tar.next()
        except _BROKEN as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from error
        if member is None:
            return False
        name = Path(member.name).name
        number = number_of(name)
        if member.isfile() and number is not None and name.endswith(self._ending) and not name.startswith("."):
            self._members[number] = member
        return True

    def _extract(self, number: int) -> bytes:
        assert self._tar is not None
        try:
            stream = self._tar.extractfile(self._members[number])
            assert stream is not None
            return stream.read()
        except _BROKEN as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    def _refusal(self, found: str) -> InputError:
        return InputError(
            f"{self.place} cannot be read",
            found=found,
            expected=f"one *{self._ending} a frame, with the frame's number in its name",
            do="get it again (compare its size with the publisher's), or choose other frames",
        )
