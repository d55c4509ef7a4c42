"""The camera of a C3VD folder: the omnidirectional lens of its colonoscope, or a pinhole someone wrote there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from utils.datasets.fisheye import Omnidirectional
from utils.datasets.source import Lens
from utils.errors import InputError

_NAMES = ("camera_intrinsics.*", "*omnidirectional*", "*intrinsics*.txt", "*intrinsics*.ini", "config.ini")
_LENS = ("width", "height", "cx", "cy", "a0", "a2", "a3", "a4")
_LINE = re.compile(r"^\s*([A-Za-z]\w*)\s*[=:,\s]\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*$")


def find_calibration(folder: Path) -> Path:
    """Return the calibration file of a sequence, or of the dataset it lies in.

    Raises:
        InputError: there is none; without it neither images nor depth have a geometry.
    """
    home = folder.resolve()
    for place in (home, home.parent, home.parent.parent):
        for name in _NAMES:
            for path in sorted(place.glob(name)):
                if path.is_file():
                    return path
    raise InputError(
        f"{folder} has no calibration",
        found="no camera_intrinsics.txt here or in the two folders above",
        expected=f"lines `{', '.join(_LENS)}, c, d, e = number` of the colonoscope's omnidirectional lens",
        do="download cfhq190l_omnidirectional_params from the dataset's page and put it there as "
        "camera_intrinsics.txt; for images undistorted by another tool write fx, fy, cx, cy there",
    )


def read_calibration(path: Path) -> Omnidirectional | Lens:
    """Read the lens (a0 … a4), or a pinhole camera (fx fy cx cy, perhaps k1 k2 p1 p2 k3). Raises InputError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(path, f"{type(error).__name__}") from error
    matches = [_LINE.match(re.split(r"[;#]", line)[0]) for line in lines]
    values = {match[1]: float(match[2]) for match in matches if match}
    if "a0" in values:
        missing = [key for key in _LENS if key not in values]
        if missing or values["a0"] <= 0 or abs(values.get("c", 1.0)) < 0.5:
            raise _refusal(
                path, f"no {', '.join(missing)}" if missing else f"a0 {values['a0']:g}, c {values.get('c')}"
            )
        size = {"width": int(values["width"]), "height": int(values["height"])}
        rest = {key: values[key] for key in (*_LENS[2:], "c", "d", "e") if key in values}
        return Omnidirectional(**size, **rest)  # type: ignore[arg-type]
    if all(key in values for key in ("fx", "fy", "cx", "cy")):
        matrix = np.array([[values["fx"], 0, values["cx"]], [0, values["fy"], values["cy"]], [0, 0, 1.0]])
        terms = tuple(values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2", "k3"))
        return Lens(matrix, terms if any(terms) else ())
    raise _refusal(path, f"{', '.join(sorted(values)) or 'no line `name = number`'}")


def _refusal(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is no calibration of C3VD",
        found=found,
        expected=f"`{', '.join(_LENS)}, c, d, e = number`, or fx, fy, cx, cy of a pinhole camera",
        do="put the dataset's calibration there",
    )
