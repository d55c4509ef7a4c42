"""Read the frames that the user names for the protocol `afsfm`: plain names, or AF-SfMLearner's own lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.scores import listed
from utils.artifacts import read_json
from utils.datasets.specula import RECORD
from utils.errors import InputError
from utils.images import without_ending

FLAG = "--afsfm_frames"


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return (folder, frame) of every line; the folder is empty where a line is a frame's name alone.

    AF-SfMLearner's lines are `dataset3/keyframe4 390 l`: folder, frame counted from 1, eye.

    Raises:
        InputError: no such file, no line, a line of other words, or one of the right eye.
    """
    if not path.is_file():
        raise _strange(path, "no such file")
    lines = []
    for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), start=1):
        match line.split():
            case []:
                continue
            case [name]:
                lines.append(("", without_ending(name)))
            case [folder, frame] | [folder, frame, "l" | "2"]:
                lines.append((folder, frame))
            case _:
                raise _strange(path, f"line {number}: {line.strip()[:60]}")
    if not lines:
        raise _strange(path, "no frame")
    return lines


def chosen_frames(path: Path, names: Sequence[str], datadir: Path) -> tuple[str, ...]:
    """Return the frames of a scene that a list names, in the scene's order.

    Of lines with a folder, those count whose folder is the end of the dataset's path (`.../dataset3/keyframe4`),
    or of the path that it was converted from (`.../dataset_3/keyframe_4`); where all lines have one folder, they
    count whatever the dataset is called. A frame's number is compared as a number: 390 is frame `390` and frame
    `0000000390`. What `python -m utils.datasets` made of SCARED counts from 0, as SCARED's own files do: there 390
    of a line with a folder is frame `000389`.

    Raises:
        InputError: a list that cannot be read, with several folders none of which is the dataset's, or with a
            frame that the scene does not have.
    """
    lines = read_lines(path)
    source = _source_of(datadir)
    folders = dict.fromkeys(folder for folder, _ in lines)
    if len(folders) > 1:
        places = [Path(datadir).resolve(), *([source] if source else [])]
        mine = [folder for folder in folders if folder and any(_ends(place, Path(folder)) for place in places)]
        if not mine:
            raise InputError(
                f"{FLAG} {path} is a list of several sequences",
                found=f"{listed(list(folders))}; the dataset is {datadir}",
                expected="one of them at the end of the dataset's path, or the lines of one sequence alone",
                do="keep the lines of this sequence, or name the dataset's folder as the list does",
            )
        lines = [(folder, frame) for folder, frame in lines if folder in mine]
    if source is not None:
        lines = [(folder, _from_zero(frame) if folder else frame) for folder, frame in lines]
    known = {_key(name): name for name in names}
    absent = [frame for _, frame in lines if _key(frame) not in known]
    if absent:
        raise InputError(
            f"{FLAG} {path} names frames that the run does not have",
            found=f"{len(absent)} of {len(lines)}: {listed(absent)}",
            expected=f"frames of the run: {listed(names)}",
            do="correct the list (AF-SfMLearner counts frames from 1), or run on all frames that it names",
        )
    wanted = {known[_key(frame)] for _, frame in lines}
    return tuple(name for name in names if name in wanted)


def _source_of(datadir: Path) -> Path | None:
    """Return the folder of SCARED that a dataset was converted from; None for any other dataset."""
    path = Path(datadir) / RECORD
    record = read_json(path) if path.is_file() else None
    if not isinstance(record, dict) or record.get("kind") != "scared":
        return None
    return Path(str(record.get("source", "")))


def _ends(place: Path, folder: Path) -> bool:
    parts = [part.replace("_", "") for part in place.parts[-len(folder.parts) :]]
    return parts == [part.replace("_", "") for part in folder.parts]


def _from_zero(frame: str) -> str:
    return str(int(frame) - 1) if frame.isdecimal() else frame


def _key(name: str) -> str:
    return str(int(name)) if name.isdecimal() else name


def _strange(path: Path, found: str) -> InputError:
    return InputError(
        f"{FLAG} {path} is no list of frames",
        found=found,
        expected="a frame's name a line, or lines such as `dataset3/keyframe4 390 l`",
        do="correct the path or the list",
    )
