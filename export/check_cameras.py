"""Check posed cameras one by one, print and draw what is wrong with them: a command of its own.

`python -m export.check_cameras PATH --images DIR --run RUN --suggest --out DIR`
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from export.camera_set import CameraSet
from export.cameras.evidence import gather, view_keys
from export.cameras.picture import cameras_picture
from export.cameras.report import Report, check
from export.cameras.verdicts import Finding
from export.formats import READABLE, read_cameras
from export.formats.run_folder import is_run
from utils.artifacts import write_json
from utils.commands import answer
from utils.errors import InputError
from utils.images import write_rgb
from utils.stages import STAMP

FOLDER = "export_checks"
MOST_LINES = 4  # of one check; the table and cameras.json have all
_COLUMNS = (
    ("epipolar_px", "epipolar", 2),
    ("in_front", "in front", 2),
    ("reprojection_px", "reproj.", 2),
    ("warp", "warp", 2),
    ("depth", "depth", 3),
)
_LEGEND = (
    "medians over a camera's pairs; epipolar: px off the line; in front: share of matches before both cameras;\n"
    "reproj.: px off after depth; warp: 0 same picture, 1 none; depth: relative difference; shift: columns, rows"
)


def check_path(
    path: Path, format: str, run: Path | None, images: Path | None, *, suggest: bool, out: Path
) -> Report:
    """Check the cameras of a file or a run, and write `cameras.json` and `cameras.png` into `out`.

    Raises:
        InputError: what cannot be read, does not belong together, or has no intrinsics.
    """
    if run is None and is_run(path):
        run = path
    if run is not None and not is_run(run):
        raise InputError(
            f"--run {run} is no run of Specula",
            found="a folder without `scene`" if run.is_dir() else "no such folder",
            expected="logs/<expname>",
            do="correct --run",
        )
    if images is not None and not images.is_dir():
        raise InputError(
            f"--images {images} is no folder",
            found="a file" if images.exists() else "nothing there",
            expected="the folder of the images that the cameras belong to",
            do="correct --images",
        )
    if out.exists() and not out.is_dir():
        raise InputError(
            f"--out {out} is no folder",
            found="a file",
            expected="a folder to write cameras.json and cameras.png into, there already or not",
            do="choose another --out",
        )
    cameras = read_cameras(path, format)
    report = check(cameras, gather(cameras, run, images), suggest=suggest)
    write_json(out / "cameras.json", record_of(report, path))
    labels = [frame if side == "left" else f"{frame} right" for side, frame in view_keys(cameras.names)]
    wrong = {label for label, name in zip(labels, cameras.names, strict=True) if name in report.wrong}
    picture = cameras_picture(labels, cameras.world_from_camera, wrong, cameras.unit)
    partial = out / "cameras.partial.png"
    write_rgb(partial, picture)
    os.replace(partial, out / "cameras.png")
    return report


def place_for(path: Path) -> Path:
    """Return where results go: inside a run, but in none of its stages; else beside the file."""
    if is_run(path):
        return path / FOLDER
    place = path.resolve().parent
    while any((folder / STAMP).exists() for folder in (place, *place.parents)):
        place = place.parent
    return place / FOLDER / path.stem


def record_of(report: Report, path: Path) -> dict[str, Any]:
    """Return the report as JSON holds it: what is not known is left out."""
    cameras, judged = report.cameras, report.judged
    per_camera: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(cameras.names):
        values = {"determinant": _determinant(cameras, index)}
        values |= {field: float(of_all[index]) for field, of_all in judged.values.items()}
        known = _known(values)
        if np.isfinite(judged.shift_px[index]).all():
            known["shift_px"] = judged.shift_px[index].tolist()
        per_camera[name] = {"placed": bool(cameras.placed[index]), "n_pairs": judged.n_pairs[index]} | known
    return {
        "path": str(path),
        "unit": cameras.unit,
        "limits": judged.limits,
        "cameras": per_camera,
        "findings": [_known(asdict(one)) for one in report.findings],
        "suggestions": [asdict(one) for one in report.suggestions],
        "notes": report.notes,
    }


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out numbers that are unknown or infinite, which JSON cannot hold."""
    return {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def table(report: Report) -> str:
    """Return the report in words: a line a camera, then findings, suggestions and notes."""
    cameras, judged = report.cameras, report.judged
    width = max(len("camera"), *(len(name) for name in cameras.names))
    head = f"{'camera':{width}} {'det':>6} {'pairs':>5} " + " ".join(f"{title:>9}" for _, title, _ in _COLUMNS)
    lines = [head + f" {'shift, px':>13}  findings"]
    for index, name in enumerate(cameras.names):
        determinant = _determinant(cameras, index)
        cells = [f"{name:{width}} {_number(determinant, 2):>6} {judged.n_pairs[index]:5d}"]
        cells += [f"{_number(float(judged.values[field][index]), digits):>9}" for field, _, digits in _COLUMNS]
        shift = ", ".join(_number(float(value), 2) for value in judged.shift_px[index])
        checks = dict.fromkeys(one.check for one in report.findings if one.camera == name)
        lines.append(" ".join([*cells, f"{shift:>13}", "", ", ".join(checks)]).rstrip())
    lines += [_LEGEND, "", *_in_words(report.findings)]
    for one in report.suggestions:
        whom = f"all {len(one.cameras)} cameras" if len(one.cameras) > 1 else one.cameras[0]
        errors = f"warp error {one.error_given:.2f} as given, {one.error_changed:.2f} at best"
        lines.append(f"suggestion for {whom}: {one.words} ({errors})")
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join([*lines, _passed(report)])


def _passed(report: Report) -> str:
    """Return how many cameras pass; one without a pose was not judged, unless something is wrong with it."""
    names, placed = report.cameras.names, report.cameras.placed
    wrong = set(report.wrong)
    lost = sum(not here and name not in wrong for name, here in zip(names, placed, strict=True))
    without = f", {lost} {'has' if lost == 1 else 'have'} no pose" if lost else ""
    return f"{len(names) - len(wrong) - lost} of {len(names)} cameras pass{without}"


def _in_words(findings: Sequence[Finding]) -> list[str]:
    """Return a line a finding, check by check; of a check that names many cameras the first ones."""
    lines = []
    for check_name in dict.fromkeys(one.check for one in findings):
        found = [one for one in findings if one.check == check_name]
        lines += [f"{one.camera}: {check_name}: {one.words}" for one in found[:MOST_LINES]]
        if len(found) > MOST_LINES:
            lines.append(f"... and {len(found) - MOST_LINES} more of `{check_name}`, as the table says")
    return lines


def _determinant(cameras: CameraSet, index: int) -> float:
    placed = bool(cameras.placed[index])
    return float(np.linalg.det(cameras.world_from_camera[index, :3, :3])) if placed else float("nan")


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Return the exit status: 1 findings, else as `utils.commands` has it."""
    parser = argparse.ArgumentParser(prog="python -m export.check_cameras", description="Check posed cameras.")
    parser.add_argument("path", type=Path, help="a run (logs/<expname>) or a camera file of any known format")
    parser.add_argument("--from", dest="format", choices=READABLE, default="", help="format; default: found out")
    parser.add_argument("--images", type=Path, help="folder of the images, undistorted; default: those of the run")
    parser.add_argument("--run", type=Path, help="a run of the same images: its depth, calibration, masks")
    parser.add_argument("--suggest", action="store_true", help="try inverses, axis flips and rolls; name the best")
    parser.add_argument(
        "--out", type=Path, help=f"folder to write to; default {FOLDER}/ in the run, or in it beside PATH"
    )
    given = parser.parse_args(arguments)
    findings: list[Finding] = []

    def work() -> str:
        out = given.out or place_for(given.path)
        report = check_path(given.path, given.format, given.run, given.images, suggest=given.suggest, out=out)
        findings.extend(report.findings)
        return f"{table(report)}\nwritten: {out / 'cameras.png'}, {out / 'cameras.json'}"

    return answer(work) or int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
