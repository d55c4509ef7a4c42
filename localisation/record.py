"""What is said and kept about located images: records, a table, and the field's measured error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from localisation.locator import Located
from localisation.reading import Files
from utils.artifacts import read_json, write_json

ERRORS = "field_error.json"
VERSION = 1  # of how the field's error is measured


def record_of(found: Located, files: Files, unit: str) -> dict[str, Any]:
    """Return the record of one image; a pose that is not believed stands under another key."""
    believed, agreement = found.reason is None, found.agreement
    record: dict[str, Any] = {"name": found.name, "image": str(files.left)}
    if files.right is not None:
        record["right"] = str(files.right)
    record["located"] = believed
    record["world_from_left" if believed else "best_guess"] = found.world_from_left.tolist()
    if found.reason is not None:
        record["reason"] = found.reason
    if found.uncertainty is not None and np.isfinite(found.uncertainty.covariance).all():
        record["std_degrees"] = round(found.uncertainty.std_degrees, 5)
        record["std_mm" if unit == "mm" else "std"] = round(found.uncertainty.std_mm, 5)
        record["covariance"] = found.uncertainty.covariance.tolist()
    record["explained"], record["overlap"] = round(agreement.explained, 4), round(agreement.overlap, 4)
    record["correlation"] = round(agreement.correlation, 4)
    record["start"], record["seconds"] = found.start.origin, round(found.seconds, 2)
    return record


def words_of(found: Sequence[Located], unit: str, out: Path) -> str:
    """Return a line an image, and how many were located."""
    lines = [f"{'image':<16} {'explained':>9} {'rotation ±':>11} {'place ±':>9}  start"]
    for one in found:
        said = f"{one.name:<16} {100 * one.agreement.explained:>7.1f} %"
        if one.reason is not None or one.uncertainty is None:
            lines.append(f"{said}  refused: {one.reason}")
        else:
            std = one.uncertainty
            lines.append(f"{said} {std.std_degrees:>9.2f} ° {std.std_mm:>9.2f}  {one.start.origin}")
    located = sum(one.reason is None for one in found)
    lines += [
        "",
        f"{located} of {len(found)} images located; ± is one standard deviation, lengths in {unit}; {out}",
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
    return {int(eyes): float(scale) for eyes, scale in record["scales"].items()}


def save_error_scales(run: Path, field: str, scales: dict[int, float]) -> None:
    """Keep the errors of a field: measuring them takes longer than locating an image."""
    path = run / "localisation" / ERRORS
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"field": field, "version": VERSION, "scales": {str(eyes): scale for eyes, scale in scales.items()}}
    if load_error_scales(run, field) != scales:
        write_json(path, record)
