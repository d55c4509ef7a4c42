"""The phantom's organ: maps of relief, colour and wet film over a sheet."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import FloatArray

MAP_PX = 1600
MAP_MM_PER_PX = 0.125
LEAN = 0.32  # shear of the sheet: flanks steeper than 1 / LEAN hang over
ABSORPTION = (0.20, 0.98, 0.97)  # of haemoglobin for red, green, blue
PALE_RGB, FAT_RGB = (0.78, 0.56, 0.50), (0.82, 0.62, 0.40)  # linear, without blood

Sprout = tuple[FloatArray, float, float]  # a vessel's start (mm), heading (rad) and width (mm)


@dataclass(frozen=True)
class Organ:
    """Maps over a square sheet, all (n, n, ...) float32, sheet centre at the world's origin.

    The height rises towards the endoscope (world -z). The sheet is sheared: a point of height h over
    the sheet's (x, y) lies in the world at (x + lean * h, y, -h), so that steep flanks hang over.
    """

    mm_per_px: float
    height_mm: FloatArray  # (n, n)
    slopes: FloatArray  # (n, n, 4): d height / dx, dy; the same of the wet film, which highlights see
    skin: FloatArray  # (n, n, 4): linear RGB albedo, the darkness of cavities painted in; wetness in [0, 1]
    lean: float
    steepest: float  # largest slope of the height


def make_organ(rng: np.random.Generator, scale: float) -> Organ:
    """Return an organ with lobes, a fold, a pit and vessels; `scale` 1 fills a view of 90 mm."""
    lobes_mm, tint = _lobes(rng)
    height_mm = lobes_mm + _fold(rng)
    pit_mm = _pit(rng)
    height_mm += (
        pit_mm + 0.45 * smooth_noise(rng, 13.0) + 0.16 * smooth_noise(rng, 5.0) + 0.05 * smooth_noise(rng, 2.0)
    )
    height_mm -= height_mm[MAP_PX // 4 : -MAP_PX // 4, MAP_PX // 4 : -MAP_PX // 4].mean()
    height_mm = np.asarray(cv2.GaussianBlur(height_mm.astype(np.float32), (0, 0), 0.4 / MAP_MM_PER_PX), np.float32)
    film_mm = 0.045 * smooth_noise(rng, 2.4) + 0.010 * smooth_noise(rng, 0.9)
    wetness = _smoothstep(-0.6, 1.1, smooth_noise(rng, 7.0))
    slopes = np.dstack([*_gradient(height_mm), *_gradient(film_mm)]).astype(np.float32)
    return Organ(
        mm_per_px=MAP_MM_PER_PX * scale,
        height_mm=height_mm * np.float32(scale),
        slopes=slopes,
        skin=np.dstack([_albedo(rng, tint, height_mm), wetness]).astype(np.float32),
        lean=LEAN,
        steepest=float(np.hypot(slopes[..., 0], slopes[..., 1]).max()),
    )


def smooth_noise(rng: np.random.Generator, scale_mm: float) -> FloatArray:
    """Return a map of Gaussian noise, mean 0 and deviation 1, smooth over about `scale_mm`."""
    step_px = max(1.0, scale_mm / MAP_MM_PER_PX / 5)
    coarse_px = int(np.ceil(MAP_PX / step_px)) + 12
    sigma_px = scale_mm / MAP_MM_PER_PX / 2.5 / step_px
    white = rng.standard_normal((coarse_px, coarse_px), dtype=np.float32)
    coarse = cv2.GaussianBlur(white, (0, 0), sigma_px)[4:-4, 4:-4]
    fine = cv2.resize(coarse, (MAP_PX, MAP_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray((fine - fine.mean()) / fine.std(), np.float32)


def _sheet() -> tuple[FloatArray, FloatArray]:
    """Return x and y of the sheet's samples, mm, float32."""
    axis_mm = (np.arange(MAP_PX, dtype=np.float32) - (MAP_PX - 1) / 2) * np.float32(MAP_MM_PER_PX)
    x_mm, y_mm = np.meshgrid(axis_mm, axis_mm)
    return x_mm, y_mm


def _gradient(height_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return d height / dx and / dy, without unit."""
    slopes = np.gradient(height_mm, MAP_MM_PER_PX)
    return np.asarray(slopes[1]), np.asarray(slopes[0])


def _smoothstep(low: float, high: float, value: FloatArray) -> FloatArray:
    """Return 0 below `low`, 1 above `high`, smooth between."""
    s = np.clip((value - low) / (high - low), 0.0, 1.0)
    return s * s * s * (s * (6 * s - 15) + 10)


def _lobes(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return the height (mm) of domes that meet in grooves, and a tint in [0, 1] for each dome."""
    spacing_mm, softness_mm = 43.0, 1.3
    x_mm, y_mm = _sheet()
    x_mm, y_mm = x_mm[::4, ::4], y_mm[::4, ::4]
    x_mm = x_mm + 5.0 * smooth_noise(rng, 38.0)[::4, ::4]
    y_mm = y_mm + 5.0 * smooth_noise(rng, 38.0)[::4, ::4]
    weight, tint = np.zeros_like(x_mm), np.zeros_like(x_mm)
    for row in range(-3, 4):
        for column in range(-3, 4):
            centre = spacing_mm * np.array([column + 0.5 * (row % 2), 0.87 * row]) + rng.uniform(-9, 9, 2)
            radius_mm, top_mm = rng.uniform(27, 34), rng.uniform(11, 16)
            squared = ((x_mm - centre[0]) ** 2 + (y_mm - centre[1]) ** 2) / radius_mm**2
            dome = np.exp(top_mm * (1 - squared) / softness_mm)
            weight += dome
            tint += dome * rng.uniform(0, 1)
    height_mm = softness_mm * np.log(np.maximum(weight, 1e-12))
    height_mm = np.maximum(height_mm, -8.0)

    def enlarge(coarse: FloatArray) -> FloatArray:
        size = (MAP_PX, MAP_PX)
        return np.asarray(cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), np.float32)

    return enlarge(height_mm), enlarge(tint / np.maximum(weight, 1e-12))


def _fold(rng: np.random.Generator) -> FloatArray:
    """Return the height (mm) of a long curved fold, gentle on one side and steep on the other."""
    x_mm, y_mm = _sheet()
    middle, bend, phase = rng.uniform(13, 20), rng.uniform(3, 6), rng.uniform(0, 2 * np.pi)
    across = x_mm - middle - bend * np.sin(y_mm / 17 + phase) - 0.25 * y_mm + 0.6 * smooth_noise(rng, 14.0)
    ridge = _smoothstep(-19.0, -1.0, across) * (1 - _smoothstep(-1.0, 4.2, across))
    return 8.0 * ridge * _smoothstep(-55, -30, y_mm) * (1 - _smoothstep(26, 48, y_mm))


def _pit(rng: np.random.Generator) -> FloatArray:
    """Return the height (mm, negative) of a pit with steep walls and a raised rim."""
    x_mm, y_mm = _sheet()
    centre = np.array([-17.0, 9.0]) + rng.uniform(-5, 5, 2)
    x_mm, y_mm = x_mm - float(centre[0]), y_mm - float(centre[1])
    radius_mm = np.hypot(x_mm, 1.25 * y_mm + 0.2 * x_mm) + 0.5 * smooth_noise(rng, 12.0)
    rim = np.exp(-(((radius_mm - 9.0) / 3.0) ** 2))
    return 1.4 * rim - 12.0 * (1 - _smoothstep(1.0, 9.0, radius_mm))


def _albedo(rng: np.random.Generator, tint: FloatArray, height_mm: FloatArray) -> FloatArray:
    """Return the linear RGB colour of tissue: a pale base under haemoglobin, darker in cavities."""
    fat = _smoothstep(0.8, 2.3, smooth_noise(rng, 26.0))
    blood = 0.85 + 0.35 * tint + 0.16 * smooth_noise(rng, 18.0)
    blood += 0.10 * smooth_noise(rng, 5.0) + 0.07 * smooth_noise(rng, 2.2) + 0.045 * smooth_noise(rng, 1.0)
    blood = np.maximum(blood * (1 - 0.45 * fat), 0.15) + _capillaries(rng) + _vessels(rng)
    hollow_mm = cv2.resize(height_mm, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    hollow_mm = np.maximum(cv2.GaussianBlur(hollow_mm, (0, 0), 7.2 / MAP_MM_PER_PX / 8) - hollow_mm, 0)
    hollow_mm = cv2.resize(hollow_mm, (MAP_PX, MAP_PX), interpolation=cv2.INTER_LINEAR)
    blood += 0.12 * hollow_mm
    shade = np.exp(-hollow_mm / 6.0)
    channels = zip(PALE_RGB, FAT_RGB, ABSORPTION, strict=True)
    return np.dstack([(pale + (fatty - pale) * fat) * np.exp(-k * blood) * shade for pale, fatty, k in channels])


def _capillaries(rng: np.random.Generator) -> FloatArray:
    """Return haemoglobin of a fine net: the zero lines of noise, dense in some places only."""
    density = np.zeros((MAP_PX, MAP_PX), np.float32)
    for scale_mm, strength in ((9.0, 0.22), (5.0, 0.16)):
        noise = smooth_noise(rng, scale_mm) + 0.35 * smooth_noise(rng, scale_mm / 3)
        dx, dy = _gradient(noise)
        distance_mm = np.abs(noise) / np.maximum(np.hypot(dx, dy), 0.15)
        region = _smoothstep(-0.3, 1.2, smooth_noise(rng, 15.0))
        density += strength * region * np.exp(-((distance_mm / 0.22) ** 2))
    return density


def _vessels(rng: np.random.Generator) -> FloatArray:
    """Return haemoglobin of branching vessels, wide ones deeper (softer) than narrow ones."""
    wide, narrow = np.zeros((2, MAP_PX, MAP_PX), np.uint8)
    extent_mm = MAP_PX * MAP_MM_PER_PX
    for tree in range(22):
        spread_mm = (50, extent_mm / 2)[tree % 2]  # every second tree where the endoscope looks
        start = extent_mm / 2 + rng.uniform(-spread_mm, spread_mm, 2)
        grow: list[Sprout] = [(start, rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.7))]
        while grow:
            position, heading, width_mm = grow.pop()
            _grow_vessel(rng, grow, (wide, narrow), position, heading, width_mm)
    soft = cv2.GaussianBlur(wide, (0, 0), 0.4 / MAP_MM_PER_PX).astype(np.float32) / 255
    sharp = cv2.GaussianBlur(narrow, (0, 0), 0.16 / MAP_MM_PER_PX).astype(np.float32) / 255
    fade = 0.65 + 0.35 * smooth_noise(rng, 12.0)
    return np.clip(fade, 0.15, 1.1) * (0.8 * soft + 0.6 * sharp)


def _grow_vessel(
    rng: np.random.Generator,
    grow: list[Sprout],
    layers: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    position: FloatArray,
    heading: float,
    width_mm: float,
) -> None:
    """Draw one winding vessel that thins out; append its branches to `grow`."""
    step_mm, curl, course = 0.8, 0.0, heading
    until_branch_mm = rng.uniform(7, 18)
    while width_mm > 0.2 and position.min() > 0 and position.max() < MAP_PX * MAP_MM_PER_PX:
        curl = 0.8 * curl + rng.normal(0, 0.075)
        heading += curl + 0.04 * (course - heading)
        following = position + step_mm * np.array([np.cos(heading), np.sin(heading)])
        ends = np.rint(np.stack([position, following]) / MAP_MM_PER_PX * 16).astype(np.int32)
        layer = layers[0] if width_mm > 0.55 else layers[1]
        cv2.polylines(layer, [ends], False, 255, max(1, round(width_mm / MAP_MM_PER_PX)), cv2.LINE_AA, 4)
        position, width_mm = following, width_mm * 0.985
        until_branch_mm -= step_mm
        if until_branch_mm < 0:
            side = rng.choice([-1, 1])
            grow.append((position, heading + side * rng.uniform(0.5, 1.0), width_mm * rng.uniform(0.5, 0.8)))
            course -= side * rng.uniform(0.1, 0.35)
            until_branch_mm = rng.uniform(7, 18)
