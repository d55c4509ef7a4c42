"""What is said and kept about located images: records, a table, and the field's measured error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from localisation.locator import Located
from localisation.reading import Files
from utils.artifacts import damaged, read_json, write_json
from utils.types import FloatArray, Poses

ERRORS = "field_error.json"
VERSION = 1  # of how the field's error is measured


def record_of(found: Located, files: Files, placed: Poses) -> dict[str, Any]:
    """Return the record of one image; a pose that is not believed stands under another key."""
    believed, agreement = found.reason is None, found.agreement
    record: dict[str, Any] = {"name": found.name, "image": str(files.left)}
    if files.right is not None:
        record["right"] = str(files.right)
    record["located"] = believed
    record["world_from_left" if believed else "best_guess"] = found.world_from_left.tolist()
    if found.reason is not None:
        record["reason"] = found.reason
    else:
        record["nearest_frame"], record["nearest_frame_distance"] = _nearest(found.world_from_left, placed)
    if found.uncertainty is not None and np.isfinite(found.uncertainty.covariance).all():
        record["std_degrees"] = round(found.uncertainty.std_degrees, 5)
        record["std_mm" if placed.metric else "std"] = round(found.uncertainty.std_mm, 5)
        record["covariance"] = found.uncertainty.covariance.tolist()
    record["explained"], record["overlap"] = round(agreement.explained, 4), round(agreement.overlap, 4)
    record["correlation"] = round(agreement.correlation, 4)
    record["start"], record["seconds"] = found.start.origin, round(found.seconds, 2)
    return record


def _nearest(world_from_left: FloatArray, placed: Poses) -> tuple[str, float]:
    """Return the frame of the run whose left camera stood nearest, and how far away."""
    apart = np.linalg.norm(placed.world_from_left[:, :3, 3] - world_from_left[:3, 3], axis=1)
    index = int(np.nanargmin(apart))
    return placed.names[index], round(float(apart[index]), 3)


def words_of(record: dict[str, Any], out: Path) -> str:
    """Return a line an image, how many were located, and what to do about the others."""
    unit, images = record["unit"], record["images"]
    lines = [f"{'image':<16} {'explained':>9} {'turn ±':>9} {'place ±':>9}  {'nearest frame':<22} start"]
    for one in images:
        said = f"{one['name']:<16} {100 * one['explained']:>7.1f} %"
        if not one["located"]:
            lines.append(f"{said}  refused: {one['reason']}")
            continue
        place = one.get("std_mm", one.get("std"))
        near = f"{one['nearest_frame']}, {one['nearest_frame_distance']:.1f} away"
        lines.append(f"{said} {one['std_degrees']:>7.2f} ° {place:>9.2f}  {near:<22} {one['start']}")
    located = sum(one["located"] for one in images)
    lines += [
        "",
        f"{located} of {len(images)} images located: poses in {out / 'poses.json'} and poses.npz, in the",
    ]
    lines += [f"world of the run {record['run']}; ± is one standard deviation; lengths in {unit}"]
    if located < len(images):
        lines += [
            f"refused: {out / 'pictures'} shows image, render and difference. Images of another camera (resized "
            "ones too), mirrored ones and tissue",
            "that has moved look like this; where the place is about known, --start makes the search easier",
        ]
    return "\n".join(lines)


def load_error_scales(run: Path, field: str) -> dict[int, float]:
    """Return a field's errors by number of eyes, as an earlier call measured them; empty for another field."""
    path = run / "localisation" / ERRORS
    if not path.exists():
        return {}
    record = read_json(path)
    if record.get("field") != field or record.get("version") != VERSION:
        return {}
    try:
        return {int(eyes): float(scale) for eyes, scale in record["scales"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise damaged(path, error) from error


def save_error_scales(run: Path, field: str, scales: dict[int, float]) -> None:
    """Keep the errors of a field: measuring them takes longer than locating an image."""
    path = run / "localisation" / ERRORS
    path.parent.mkdir(parents=True, exist_ok=True)
    scales = {eyes: scale for eyes, scale in scales.items() if np.isfinite(scale)}
    record = {"field": field, "version": VERSION, "scales": {str(eyes): scale for eyes, scale in scales.items()}}
    if load_error_scales(run, field) != scales:
        write_json(path, record)
