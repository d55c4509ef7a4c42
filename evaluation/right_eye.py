"""The right eye of a run that trained on left images alone: its scores, and what its images did enter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.scores import Row, aggregate
from utils.artifacts import file_hash, read_json
from utils.scene import Scene
from utils.types import Side

BLOCK = "right_eye_held_out"
TITLE = "Right eye, never trained on"
ALL = "all"  # beside train and test: no colour of either was learned

RENDERED = ("nerf", "filter", "rgb")  # the prior of a right image is made of that image
_RECORD = "field.json"


def right_eye_block(
    scene: Scene,
    folders: Mapping[str, Path],
    stamps: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Row],
    notes: list[str],
) -> dict[str, Any]:
    """Return the block of metrics.json where no right image trained the field; empty where one did, or may have.

    It holds `depth` (method, split, region, alignment) and `rgb` (split, region) of the right eye alone, for the
    splits `train`, `test` and `all`; `used_for`, whether right images entered a thing; and `statement`, in words.

    Args:
        scene: the prepared dataset.
        folders: of the stages that did their work.
        stamps: of all stages.
        rows: scores of every view.
        notes: sentences under the tables; added to where the weights that training began with say nothing of eyes.
    """
    if "nerf" not in folders or "right" not in scene.sides or not (folders["nerf"] / _RECORD).exists():
        return {}
    eyes = trained_eyes(folders["nerf"], stamps["nerf"].get("files", {}))
    if eyes != {"left"}:
        if {side for side, _ in read_json(folders["nerf"] / _RECORD)["training_views"]} == {"left"}:
            seen = "has" if eyes else "may have"
            notes.append(f"right eye: not held out, since the field that --ft_path names {seen} learned from it")
        return {}
    right = [row for row in rows if row.view.side == "right" and row.method in RENDERED]
    everything = [replace(row, view=replace(row.view, split=ALL)) for row in right]
    blocks = aggregate([*everything, *right])
    if not blocks:
        return {}
    found: dict[str, Any] = {}
    if "depth" in blocks:
        found["depth"] = {method: _right_alone(splits) for method, splits in blocks["depth"].items()}
    if "rgb" in blocks:
        found["rgb"] = _right_alone(blocks["rgb"])
    report = folders["poses"] / "report.json" if "poses" in folders else None
    scale = str(read_json(report).get("scale", "")) if report is not None and report.exists() else ""
    return found | _uses(stamps, scale)


def trained_eyes(nerf: Path, files: Mapping[str, str]) -> set[Side] | None:
    """Return the eyes whose images a field has learned from, in the trainings it began with too; None: unknown.

    Args:
        nerf: folder of a stage `nerf`, with its `field.json`.
        files: the files that its stamp says it was made from, path -> hash.
    """
    record = read_json(nerf / _RECORD)
    eyes: set[Side] = {side for side, _ in record["training_views"]}
    start = record["options"].get("ft_path")
    if not start:
        return eyes
    before = Path(start) if Path(start).is_dir() else Path(start).parent
    earlier = before / _RECORD
    if not earlier.exists() or files.get(str(earlier)) != file_hash(earlier):
        return None
    stamp = before / "stamp.json"
    more = trained_eyes(before, read_json(stamp).get("files", {}) if stamp.exists() else {})
    return None if more is None else eyes | more


def _right_alone(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {split: sides["right"] for split, sides in splits.items()}


def _uses(stamps: Mapping[str, Mapping[str, Any]], scale: str) -> dict[str, Any]:
    """Return `used_for` and `statement`, from the options in the stages' stamps and the source of the scale."""
    poses = _options(stamps, "poses").get("poses")
    sources = str(_options(stamps, "stereo").get("stereo", "")).split(",")
    matched = [f"stereo {name}" for name in sources if name and name != "files"]
    monocular = _options(stamps, "monocular").get("monocular")
    if monocular not in (None, "none", "files"):
        matched.append(f"monocular {'small' if monocular == 'auto' else monocular}")
    by_images, by_matches = poses in ("colmap", "odometry"), scale.startswith("stereo matches")
    words = [f"the poses of all frames ({poses})"] if by_images else []
    words += ["the scale of the poses"] if by_matches and not by_images else []
    words += [f"the depth prior of training frames ({', '.join(matched)})"] if matched else []
    entered = f"entered {' and '.join(words)}" if words else "entered neither poses nor depth"
    statement = (
        f"{TITLE}: the field, its light, exposure, refinement and filter saw no right image. "
        f"Right images {entered}; their masks say where the border lies and what is scored; the mesh's texture, "
        "not scored, shows both eyes."
    )
    used = {
        "colour": False,
        "filter": False,
        "poses": by_images or by_matches,
        "depth_prior_of_training_frames": bool(matched),
    }
    return {"used_for": used, "statement": statement}


def _options(stamps: Mapping[str, Mapping[str, Any]], stage: str) -> Mapping[str, Any]:
    """Return the options of a stage that did its work; nothing of one that was skipped."""
    stamp = stamps.get(stage, {})
    return {} if stamp.get("skipped") else dict(stamp.get("options", {}))
