"""Annotations of labelme 4 to 6: read their JSON, and draw every kind of shape as labelme draws it."""

from __future__ import annotations

import base64
import io
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from utils.errors import InputError
from utils.types import BoolArray, FloatArray

POINT_RADIUS_PX, LINE_WIDTH_PX = 5, 10  # what labelme draws points and lines with
FARTHEST_PX = 1e5  # a coordinate beyond is a damaged number
MEND = "correct the shape in labelme and save again, or remove it"


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape: `points` are (column, row) in px of the image, `pixels` what a `mask` shape stores."""

    label: str
    kind: str
    points: list[tuple[float, float]]
    pixels: Image.Image | None = None


@dataclass(frozen=True)
class Annotation:
    """One JSON file: shapes in the order of drawing; `size` is (width, height), None where it is not said."""

    path: Path
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Kind:
    """How many points a kind of shape has, and how it is drawn with ink 1."""

    least: int
    most: float
    draw: Callable[[ImageDraw.ImageDraw, Shape], None]


def _draw_polygon(canvas: ImageDraw.ImageDraw, shape: Shape) -> None:
    canvas.polygon(shape.points, fill=1, outline=1)


def _draw_rectangle(canvas: ImageDraw.ImageDraw, shape: Shape) -> None:
    columns, rows = zip(*shape.points, strict=True)  # any two opposite corners
    canvas.rectangle([min(columns), min(rows), max(columns), max(rows)], fill=1, outline=1)


def _draw_circle(canvas: ImageDraw.ImageDraw, shape: Shape) -> None:
    centre, rim = shape.points
    _draw_disk(canvas, centre, math.dist(centre, rim))


def _draw_point(canvas: ImageDraw.ImageDraw, shape: Shape) -> None:
    _draw_disk(canvas, shape.points[0], POINT_RADIUS_PX)


def _draw_disk(canvas: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float) -> None:
    column, row = centre
    canvas.ellipse([column - radius, row - radius, column + radius, row + radius], fill=1, outline=1)


def _draw_line(canvas: ImageDraw.ImageDraw, shape: Shape) -> None:
    # The newest labelme rounds the joints, older ones leave a notch on the outer side of a bend.
    canvas.line(shape.points, fill=1, width=LINE_WIDTH_PX, joint="curve")


def _draw_pixels(canvas: ImageDraw.ImageDraw, shape: Shape) -> None:
    assert shape.pixels is not None
    column, row = shape.points[0]
    canvas.bitmap((round(column), round(row)), shape.pixels, fill=1)


KINDS = {
    "polygon": Kind(3, math.inf, _draw_polygon),
    "rectangle": Kind(2, 2, _draw_rectangle),
    "oriented_rectangle": Kind(4, 4, _draw_polygon),
    "circle": Kind(2, 2, _draw_circle),
    "point": Kind(1, 1, _draw_point),
    "line": Kind(2, 2, _draw_line),
    "linestrip": Kind(2, math.inf, _draw_line),
    "mask": Kind(2, 2, _draw_pixels),
}


def covered(shape: Shape, size: tuple[int, int]) -> BoolArray:
    """Return (h, w): the pixels of an image of (width, height) that a shape covers."""
    canvas = Image.new("L", size)
    KINDS[shape.kind].draw(ImageDraw.Draw(canvas), shape)
    return np.asarray(canvas) > 0


def paint(annotation: Annotation, size: tuple[int, int], values: Mapping[str, int]) -> NDArray[np.uint8]:
    """Return (h, w) with each shape's value, 0 where there is none; a later shape covers an earlier one."""
    painted = np.zeros(size[::-1], np.uint8)
    for shape in annotation.shapes:
        painted[covered(shape, size)] = values[shape.label]
    return painted


def read_annotation(path: Path) -> Annotation:
    """Read a JSON file of labelme; its `imageData` and `imagePath` are not looked at.

    Raises:
        InputError: no JSON, not labelme's, or a shape that cannot be drawn.
    """
    try:
        record = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as JSON",
            found=str(error),
            expected="an annotation saved by labelme",
            do="save it again with labelme, or remove the file: a frame without a mask is all tissue",
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("shapes"), list):
        raise InputError(
            f"{path} is not an annotation of labelme",
            found=reprlib.repr(record),
            expected="a record with a list called `shapes`",
            do="save it again with labelme, or move the file elsewhere",
        )
    shapes = [_read_shape(f"{path}, shape {i}", given) for i, given in enumerate(record["shapes"], start=1)]
    width, height = record.get("imageWidth"), record.get("imageHeight")
    return Annotation(path, tuple(shapes), None if width is None or height is None else (width, height))


def _read_shape(where: str, given: Any) -> Shape:
    if not isinstance(given, dict) or not isinstance(given.get("label"), str):
        found = reprlib.repr(given)
        raise InputError(f"{where} has no label", found=found, expected="a record with a label", do=MEND)
    where = f"{where} ({given['label']})"
    kind = given.get("shape_type") or "polygon"  # early files do not say it
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(
            f"{where} is of an unknown kind",
            found=f"shape_type {reprlib.repr(kind)}",
            expected=f"one of {', '.join(KINDS)}",
            do="draw it again as one of these, or remove it",
        )
    points = _read_points(where, given.get("points"), kind)
    pixels = _read_pixels(where, given.get("mask"), points) if kind == "mask" else None
    return Shape(given["label"], kind, [(column, row) for column, row in points.tolist()], pixels)


def _read_points(where: str, given: Any, kind: str) -> FloatArray:
    """Return (n, 2) points, or refuse what is not as many as the kind needs."""
    least, most = KINDS[kind].least, KINDS[kind].most
    try:
        points = np.array(given, float)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.shape[1:] != (2,) or not least <= len(points) <= most or not (abs(points) < FARTHEST_PX).all():
        raise InputError(
            f"{where} cannot be drawn",
            found=f"points {reprlib.repr(given)}",
            expected=f"{least}{'' if most == least else ' or more'} finite [column, row] of a {kind}",
            do=MEND,
        )
    return points


def _read_pixels(where: str, given: Any, points: FloatArray) -> Image.Image:
    """Return the stored pixels of a `mask` shape, whose points are the centres of its outermost pixels."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(given))) as image:
            pixels = np.asarray(image) != 0
    except (TypeError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{where} cannot be drawn",
            found=f"pixels that cannot be decoded: {error}",
            expected="a PNG in base64 under `mask`",
            do=MEND,
        ) from error
    width, height = (np.round(points[1]) - np.round(points[0]) + 1).astype(int)
    spare = 0 if (points == np.trunc(points)).all() else 1  # moved by parts of a pixel: each corner rounds alone
    if pixels.ndim != 2 or max(abs(pixels.shape[1] - width), abs(pixels.shape[0] - height)) > spare:
        raise InputError(
            f"{where} cannot be drawn",
            found=f"stored pixels of shape {'x'.join(map(str, pixels.shape[::-1]))}",
            expected=f"{width}x{height}, from its first point to its second one",
            do=MEND,
        )
    return Image.fromarray(pixels)
