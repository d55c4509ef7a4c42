"""The report's section on cameras: where both eyes stood and looked, with the held-out frames marked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.report.html import absent, data_uri, figure, listed, text
from evaluation.report.run import Run
from evaluation.report.space import Stand, project, splat, stand_of
from evaluation.report.surface import Surface
from utils.geometry import transform, unproject
from utils.types import Camera, FloatArray, Poses, Side

_SIZE = (560, 420)
_MOST_FRUSTA = 60
_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


def placed_names(run: Run) -> list[str]:
    """Return the frames that have a pose, in order."""
    poses = run.poses
    return [name for name in run.scene.names if poses and name in poses.names and poses.placed(name)]


def frustum_lines(run: Run, reach: float) -> FloatArray:
    """Return (k, 2, 3) lines of the camera frusta in the world, `reach` deep; not of every frame of long ones."""
    poses, names = run.poses, placed_names(run)
    step = max(1, -(-len(names) // _MOST_FRUSTA))
    lines = [
        _frustum(run.scene.rig.camera(side), poses.world_from(side, name), reach)
        for side in run.scene.sides
        for name in names[::step]
        if poses is not None and _has(poses, side)
    ]
    return np.concatenate(lines) if lines else np.zeros((0, 2, 3))


def _has(poses: Poses, side: Side) -> bool:
    return side == "left" or poses.world_from_right is not None


def _frustum(camera: Camera, world_from_camera: FloatArray, reach: float) -> FloatArray:
    """Return (8, 2, 3): the edges of a pyramid from the camera's centre to its image `reach` in front."""
    ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [camera.width, camera.height] - 0.5
    corners = unproject(camera.matrix, ends, np.full(4, reach))
    points = transform(world_from_camera, np.concatenate([np.zeros((1, 3)), corners]))
    return np.asarray(points[np.array(_EDGES)])


def cameras_body(run: Run, surface: Surface | None) -> str:
    """Return the section: the cameras with what they see, and their path alone, from nearby."""
    poses, names = run.poses, placed_names(run)
    if poses is None or not names:
        return absent(f"There are no camera poses: {run.skipped.get('poses', 'no frame could be placed')}.")
    centres = np.stack([poses.world_from("left", name)[:3, 3] for name in names])
    words = listed(_facts(run, centres))
    key = (
        '<div class="legend"><span><i class="key left"></i>left eye</span>'
        + ('<span><i class="key right"></i>right eye</span>' if _both(run) else "")
        + ('<span><i class="key test"></i>held-out frame</span>' if run.scene.test else "")
        + "</div>"
    )
    near = _near_stand(run, centres)
    close = figure(
        _drawing(run, near, None, "The camera path from nearby"),
        f"The path alone, from nearby. First and last frame are named. The bar is in {run.unit}.",
    )
    if surface is None:
        return words + key + f'<div class="pair">{close}</div>'
    wide = stand_of(poses, surface.points_world, 68.0, -18.0)
    whole = figure(
        _drawing(run, wide, surface, "Cameras and the reconstructed surface, seen from the side"),
        f"Cameras and what they see, from the side. Lines: path of each eye; pyramids: where it "
        f"looks. The bar is in {run.unit}.",
    )
    return words + key + f'<div class="pair">{whole}{close}</div>'


def _both(run: Run) -> bool:
    return run.poses is not None and run.poses.world_from_right is not None and "right" in run.scene.sides


def _facts(run: Run, centres: FloatArray) -> list[str]:
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    rig = run.scene.rig
    facts = [f"{len(centres)} of {len(run.scene.names)} frames are placed."]
    if len(steps):
        facts.append(
            f"The left eye travels {steps.sum():.1f} {run.short_unit} in all, {np.median(steps):.2f} from frame "
            f"to frame (median), {steps.max():.2f} at most."
        )
    if rig.stereo:
        facts.append(
            f"The eyes are {rig.baseline_mm:.2f} mm apart by calibration, their axes {rig.vergence_degrees:.1f}°."
        )
    world = run.pose_report.get("world")
    return facts + ([f"The world's frame is {world}: x right, y down, z forward."] if world else [])


def _near_stand(run: Run, centres: FloatArray) -> Stand:
    """Return a place close to the path."""
    near = stand_of(run.poses, centres, 48.0, -38.0)
    return replace(near, reach=1.2 * near.reach)


def _drawing(run: Run, stand: Stand, surface: Surface | None, alternative: str) -> str:
    """Return an SVG: the surface as a picture, frusta and paths as lines, a scale bar, the axes of the world."""
    width, height = _SIZE
    parts = []
    if surface is not None:
        pixels, depth = project(stand, surface.points_world, _SIZE)
        uri = data_uri(splat(pixels, depth, surface.colours, _SIZE), exact=False)
        parts.append(f'<image href="{uri}" width="{width}" height="{height}"/>')
    poses, names = run.poses, placed_names(run)
    assert poses is not None
    step = max(1, -(-len(names) // _MOST_FRUSTA))
    for side in run.scene.sides:
        if not _has(poses, side):
            continue
        shown = [name for index, name in enumerate(names) if index % step == 0 or name in run.scene.test]
        parts += [_one_camera(run, stand, side, name) for name in shown]
        path = np.stack([poses.world_from(side, name)[:3, 3] for name in names])
        spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in project(stand, path, _SIZE)[0])
        parts.append(f'<polyline class="path {side}" points="{spots}"/>')
    for name in dict.fromkeys((names[0], names[-1])):
        x, y = project(stand, poses.world_from("left", name)[:3, 3], _SIZE)[0]
        parts.append(f'<text class="name" x="{x + 7:.1f}" y="{y - 7:.1f}">{text(name)}</text>')
    parts += [_scale_bar(stand, run.short_unit), _axes(stand)]
    return f'<svg class="space" viewBox="0 0 {width} {height}" role="img" aria-label="{text(alternative)}">' + (
        "".join(parts) + "</svg>"
    )


def _one_camera(run: Run, stand: Stand, side: Side, name: str) -> str:
    assert run.poses is not None
    world_from_camera = run.poses.world_from(side, name)
    lines = project(stand, _frustum(run.scene.rig.camera(side), world_from_camera, 0.16 * stand.reach), _SIZE)[0]
    path = "".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in lines)
    x, y = project(stand, world_from_camera[:3, 3], _SIZE)[0]
    tested = name in run.scene.test
    title = f"<title>{text(f'frame {name}, {side} eye' + (', held out' if tested else ''))}</title>"
    mark = f'<rect class="test" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7">{title}</rect>'
    dot = f'<circle class="spot {side}" cx="{x:.1f}" cy="{y:.1f}" r="2.4">{title}</circle>'
    return f'<path class="frustum {side}" d="{path}"/>{mark if tested else dot}'


def _scale_bar(stand: Stand, unit: str) -> str:
    width, height = _SIZE
    scale = min(_SIZE) / 2 / stand.reach
    power = 10.0 ** np.floor(np.log10(110 / scale))
    length = float(max(step * power for step in (1, 2, 5) if step * power * scale <= 110))
    x = width - 16 - length * scale
    return (
        f'<path class="measure" d="M{x:.1f} {height - 20}v6h{length * scale:.1f}v-6"/>'
        f'<text class="name" text-anchor="end" x="{width - 16}" y="{height - 26}">{length:g} {text(unit)}</text>'
    )


def _axes(stand: Stand) -> str:
    """Draw the world's axes as one sees them from the stand."""
    origin = np.array([46.0, _SIZE[1] - 46.0])
    parts = []
    for axis, letter in enumerate("xyz"):
        end = origin + 24 * stand.rotation[:2, axis]
        parts.append(
            f'<path class="measure" d="M{origin[0]:.1f} {origin[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"/>'
            f'<text class="name" text-anchor="middle" x="{(origin + 1.4 * (end - origin))[0]:.1f}" '
            f'y="{(origin + 1.4 * (end - origin))[1] + 4:.1f}">{letter}</text>'
        )
    return "".join(parts)
