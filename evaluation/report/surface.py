"""The report's 3-D view: the mesh or point cloud of the run, thinned and packed for the viewer in the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.report.html import absent, picture, text
from evaluation.report.run import Run
from evaluation.report.space import Stand, project, splat, stand_of
from utils.ply import read_ply
from utils.types import FloatArray

MOST_POINTS = 60_000
MOST_VERTICES = 40_000
_STILL_PX = (900, 560)
_VIEWER = Path(__file__).with_name("viewer.js")


@dataclass(frozen=True, eq=False)
class Surface:
    """Points (n, 3) of the world with RGB (n, 3) uint8, confidence (n,) in [0, 1] or None, and what joins them.

    `faces` (m, 3) index the points of a mesh; a cloud has none, and `normals` (n, 3) instead.
    """

    source: str
    points_world: FloatArray
    colours: NDArray[np.uint8]
    confidence: FloatArray | None
    faces: NDArray[np.int64] | None
    normals: FloatArray | None
    total: int


def load_surface(run: Run) -> Surface | None:
    """Return the mesh of a run, else its point cloud, else None."""
    folder = run.folders.get("export")
    for name in ("mesh.ply", "cloud.ply") if folder else ():
        assert folder is not None
        if (folder / name).exists():
            return _read(folder / name)
    return None


def _read(path: Path) -> Surface:
    vertices, faces = read_ply(path)
    points = _floats(vertices, ("x", "y", "z"))
    assert points is not None
    colours = _floats(vertices, ("red", "green", "blue"))
    painted = np.full(points.shape, 190, np.uint8) if colours is None else colours.astype(np.uint8)
    confidence = _floats(vertices, ("confidence",))
    return Surface(
        path.name,
        points,
        painted,
        None if confidence is None else confidence[:, 0],
        faces,
        _floats(vertices, ("nx", "ny", "nz")),
        len(points),
    )


def _floats(vertices: Mapping[str, NDArray[np.generic]], names: Sequence[str]) -> FloatArray | None:
    """Return properties as columns (n, k); None where one of them is absent."""
    if not set(names) <= set(vertices):
        return None
    return np.stack([vertices[name].astype(float) for name in names], axis=1)


def thinned(surface: Surface) -> Surface:
    """Return a surface small enough for a page: every n-th point of a cloud, one vertex a cell of a mesh."""
    if surface.faces is not None and len(surface.points_world) > MOST_VERTICES:
        return _clustered(surface)
    count = len(surface.points_world)
    if surface.faces is not None or count <= MOST_POINTS:
        return surface
    kept = np.random.default_rng(0).permutation(count)[:MOST_POINTS]
    return replace(
        surface,
        points_world=surface.points_world[kept],
        colours=surface.colours[kept],
        confidence=None if surface.confidence is None else surface.confidence[kept],
        normals=None if surface.normals is None else surface.normals[kept],
    )


def _clustered(surface: Surface) -> Surface:
    """Keep one vertex a cell of a grid (the mean of those in it) and the faces whose corners stay apart."""
    assert surface.faces is not None
    points = surface.points_world
    low, span = points.min(0), float(np.ptp(points, axis=0).max())
    fine, coarse = span / 4000, span / 4
    for _ in range(18):
        middle = float(np.sqrt(fine * coarse))
        cells = np.unique(_cells(points, low, middle)).size
        fine, coarse = (middle, coarse) if cells > MOST_VERTICES else (fine, middle)
    _, inverse = np.unique(_cells(points, low, coarse), return_inverse=True)
    count = int(inverse.max()) + 1
    members = np.bincount(inverse, minlength=count)

    def mean(values: FloatArray) -> FloatArray:
        return np.stack([np.bincount(inverse, column, count) / members for column in values.T], axis=1)

    faces = inverse[surface.faces]
    apart = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    confidence = surface.confidence
    return replace(
        surface,
        points_world=mean(points),
        colours=np.rint(mean(surface.colours.astype(float))).astype(np.uint8),
        confidence=None if confidence is None else mean(confidence[:, None].astype(float))[:, 0],
        faces=np.unique(faces[apart], axis=0),
        normals=None,
    )


def _cells(points: FloatArray, low: FloatArray, side: float) -> NDArray[np.int64]:
    spots = np.floor((points - low) / side).astype(np.int64)
    spans = spots.max(axis=0) + 1
    return np.asarray((spots[:, 0] * spans[1] + spots[:, 1]) * spans[2] + spots[:, 2])


def surface_body(run: Run, surface: Surface | None, cameras: FloatArray) -> str:
    """Return the section: the viewer with its data, and a still picture for browsers without WebGL.

    Args:
        run: the run, for its unit and its cameras.
        surface: mesh or cloud, or None.
        cameras: (k, 2, 3) lines of the camera frusta in the world.
    """
    if surface is None:
        return absent(_why_none(run))
    yaw, pitch = (28.0, -24.0) if run.poses else (12.0, -10.0)  # one pair has seen nothing from the side
    stand = stand_of(run.poses, surface.points_world, yaw, pitch, margin=0.8)
    small = thinned(surface)
    still = _still(surface, stand)
    shown = f"{len(small.points_world):,}".replace(",", " ")
    total = f"{surface.total:,}".replace(",", " ")
    noun = "vertices of the mesh" if small.faces is not None else "points of the cloud"
    size = " × ".join(f"{value:.0f}" for value in np.ptp(surface.points_world, axis=0))
    modes = [("colour", "Colours"), ("shape", "Shape")]
    modes += [("confidence", "Confidence")] if surface.confidence is not None else []
    buttons = "".join(
        f'<button type="button" data-mode="{key}" aria-pressed="{str(key == "colour").lower()}">{word}</button>'
        for key, word in modes
    )
    buttons += (
        '<button type="button" data-act="cameras" aria-pressed="true">Cameras</button>' if len(cameras) else ""
    )
    buttons += '<button type="button" data-act="turn" aria-pressed="false">Turn</button>'
    buttons += '<button type="button" data-act="reset">Reset</button>'
    caption = (
        f"{shown} of {total} {noun} (export/{surface.source}), {size} ({run.unit}) in all. Drag to turn, wheel or "
        "two fingers to come nearer, Shift and drag to move, arrow keys too. Confidence: light is sure, dark not."
    )
    data = json.dumps(packed(small, cameras, stand), separators=(",", ":"), allow_nan=False)
    return (
        f'<figure class="wide"><div class="viewer" id="viewer">'
        f"{picture(still, 'The reconstructed surface, seen from behind the cameras', exact=False, kind='still')}"
        '<canvas tabindex="0" role="img" aria-label="The surface in 3-D; drag to turn" hidden></canvas>'
        f'<div class="tools" hidden>{buttons}</div></div>'
        f'<noscript><p class="absent">Scripts are off: the picture stands still.</p></noscript>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
        f'<script type="application/json" id="surface-data">{data}</script>'
        f"<script>{_VIEWER.read_text(encoding='utf-8')}</script>"
    )


def packed(surface: Surface, cameras: FloatArray, stand: Stand) -> dict[str, object]:
    """Return what the viewer reads: positions as 16-bit steps of the box, colours and confidence as bytes."""
    low, span = surface.points_world.min(0), max(float(np.ptp(surface.points_world, axis=0).max()), 1e-9)
    steps = np.rint((surface.points_world - low) / span * 65535).astype("<u2")
    record: dict[str, object] = {
        "count": len(steps),
        "positions": _base64(steps),
        "colours": _base64(surface.colours),
        "turn": np.round(stand.rotation, 6).ravel().tolist(),
        "centre": np.round((stand.centre_world - low) / span, 6).tolist(),
        "reach": round(stand.reach / span, 6),
        "lines": np.round((cameras - low) / span, 5).ravel().tolist(),
    }
    if surface.confidence is not None:
        record["confidence"] = _base64(np.rint(255 * np.clip(surface.confidence, 0, 1)).astype(np.uint8))
    if surface.normals is not None:
        record["normals"] = _base64(np.rint(127 * np.clip(surface.normals, -1, 1)).astype(np.int8))
    if surface.faces is not None:
        kind = "<u2" if len(steps) <= 65536 else "<u4"
        record["faces"] = _base64(surface.faces.astype(kind))
    return record


def _still(surface: Surface, stand: Stand) -> NDArray[np.uint8]:
    pixels, depth = project(stand, surface.points_world, _STILL_PX)
    return splat(pixels, depth, surface.colours, _STILL_PX)


def _base64(values: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _why_none(run: Run) -> str:
    if "export" in run.skipped:
        return f"There is no surface to show: stage export was skipped ({run.skipped['export']})."
    return "There is no surface to show: the run has neither export/mesh.ply nor export/cloud.ply."
