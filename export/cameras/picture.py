"""A picture of posed cameras for eyes: right red, up green, viewing direction blue; wrong ones in orange."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import FloatArray

PANEL_PX = 760
_MARGIN_PX = 60
_BACKGROUND, _INK, _WRONG, _LINE = (24, 24, 24), (225, 225, 225), (255, 150, 40), (110, 110, 110)
_ARMS = ((0, 1.0, (240, 70, 70)), (1, -1.0, (80, 220, 90)), (2, 2.0, (90, 150, 255)))  # axis, length, RGB
_TITLES = ("from behind the cameras", "from the side", "from above", "obliquely")


def cameras_picture(
    names: Sequence[str], world_from_camera: FloatArray, wrong: Collection[str], unit: str
) -> NDArray[np.uint8]:
    """Return (1520, 1520, 3): four parallel views of all placed cameras.

    Args:
        names: of the cameras.
        world_from_camera: (n, 4, 4), NaN where there is no pose.
        wrong: the names to draw in orange.
        unit: of lengths.
    """
    known = np.asarray(np.isfinite(world_from_camera).all(axis=(1, 2)))
    poses = world_from_camera[known]
    labels = [name for name, is_known in zip(names, known, strict=True) if is_known]
    if not len(poses):
        picture = np.full((PANEL_PX, 2 * PANEL_PX, 3), _BACKGROUND, np.uint8)
        return _write(picture, "no camera has a pose", (20, 40), _INK)
    panels = [
        _panel(poses, labels, wrong, turn, title) for turn, title in zip(_turns(poses), _TITLES, strict=True)
    ]
    rows = [np.hstack(panels[:2]), np.hstack(panels[2:])]
    picture = np.ascontiguousarray(np.vstack(rows))
    legend = f"right red, up green, viewing direction blue; wrong cameras orange; lengths in {unit}"
    return _write(picture, legend, (14, 2 * PANEL_PX - 16), _INK, 0.5)


def _turns(poses: FloatArray) -> list[FloatArray]:
    """Return the four rotations picture-from-world, x right, y down, z into the picture, as most cameras stand."""
    forward = _unit(np.median(poses[:, :3, 2], axis=0), np.array([0.0, 0.0, 1.0]))
    down = np.median(poses[:, :3, 1], axis=0)
    down = _unit(down - (down @ forward) * forward, np.cross(forward, [1.0, 0.0, 0.0]))
    behind = np.stack([np.cross(down, forward), down, forward])
    about = [(0, 0), (0, -90), (90, 0), (28, -38)]
    return [
        np.asarray(cv2.Rodrigues(np.radians([x, 0.0, 0.0]))[0] @ cv2.Rodrigues(np.radians([0.0, y, 0.0]))[0])
        @ behind
        for x, y in about
    ]


def _unit(vector: FloatArray, otherwise: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-3 else otherwise / max(float(np.linalg.norm(otherwise)), 1e-9)


def _panel(
    poses: FloatArray,
    labels: Sequence[str],
    wrong: Collection[str],
    turn: FloatArray,
    title: str,
) -> NDArray[np.uint8]:
    panel = np.full((PANEL_PX, PANEL_PX, 3), _BACKGROUND, np.uint8)
    centres = poses[:, :3, 3] @ turn.T
    low, high = centres[:, :2].min(axis=0), centres[:, :2].max(axis=0)
    extent = max(float((high - low).max()), 1e-6)
    px_per_unit = (PANEL_PX - 4 * _MARGIN_PX) / extent
    middle = (low + high) / 2

    def at(points: FloatArray) -> NDArray[np.int64]:
        return np.rint((points[..., :2] - middle) * px_per_unit + PANEL_PX / 2).astype(np.int64)

    arm = np.clip(PANEL_PX / (3 * np.sqrt(len(poses))), 14, 60) / px_per_unit
    for index in np.argsort(-centres[:, 2], kind="stable"):
        start = centres[index]
        axes = turn @ poses[index, :3, :3]
        for axis, length, colour in _ARMS:
            end = start + axes[:, axis] * length * arm
            cv2.line(panel, at(start).tolist(), at(end).tolist(), colour, 1, cv2.LINE_AA)
        is_wrong = labels[index] in wrong
        cv2.circle(panel, at(start).tolist(), 4 if is_wrong else 2, _WRONG if is_wrong else _INK, -1, cv2.LINE_AA)
    _write_names(panel, at(centres), labels, wrong)
    panel[:, -1] = panel[-1] = _LINE
    return _write(panel, f"{title}: {extent:.4g} wide", (14, 26), _INK, 0.55)


def _write_names(
    panel: NDArray[np.uint8], places: NDArray[np.int64], labels: Sequence[str], wrong: Collection[str]
) -> None:
    """Write the names beside the cameras, wrong ones first; a name that would cover another is left out."""
    taken: list[tuple[int, int, int, int]] = []
    for index in sorted(range(len(labels)), key=lambda k: labels[k] not in wrong):
        (width, height), _ = cv2.getTextSize(labels[index], cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)
        column, row = int(places[index, 0]) + 6, int(places[index, 1]) - 5
        box = (column, row - height, column + width, row + 3)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        _write(panel, labels[index], (column, row), _WRONG if labels[index] in wrong else _INK, 0.38)


def _write(
    panel: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int], size: float = 0.6
) -> NDArray[np.uint8]:
    cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
    return panel
