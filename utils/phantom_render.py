"""Render one eye of the phantom: exact depth, lamp light, moving highlights, sensor."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.phantom_surface import Organ
from utils.types import BoolArray, FloatArray

OVERSAMPLING = 2  # colour samples along each side of a pixel
BLOCK = 1024  # cv2.remap takes pictures, not lists: lists are cut into rows of this length
NOISE_SIGMA = 0.006  # of full scale
HIGHLIGHT_ADDS = 0.03  # of full scale: what counts as a highlight in the truth
LAMP_GAIN = 0.86
SCATTERED = 0.12  # of the lamp's light that comes from the surrounding tissue instead, from everywhere
SHINE_GAIN = 2.2
SHINE_ROUGHNESS = 0.045
GLARE_SHARE = 0.12


@dataclass(frozen=True)
class Eye:
    """One camera in the world with its lamp: `camera` (3, 3) px, transforms and points in mm."""

    camera: FloatArray
    world_from_camera: FloatArray
    lamp_world: FloatArray
    width: int
    height: int
    distance_mm: float  # where the lamp's light is 1


@dataclass(frozen=True)
class Picture:
    """What one eye sees: `rgb` uint8, `depth_mm` z-depth with NaN for unknown, boolean masks."""

    rgb: NDArray[np.uint8]
    depth_mm: FloatArray
    tissue: BoolArray
    highlight: BoolArray


def render(organ: Organ, eye: Eye, exposure: float, rng: np.random.Generator) -> Picture:
    """Return the picture of the organ in one eye; `exposure` multiplies linear light."""
    origin_world = eye.world_from_camera[:3, 3]
    directions_world = ray_directions(eye, 1)
    depth_mm = trace(organ, origin_world, directions_world, None)
    nearest_mm = cv2.erode(np.where(np.isfinite(depth_mm), depth_mm, 0).astype(np.float32), np.ones((3, 3)))
    start_mm = np.repeat(np.repeat(nearest_mm, OVERSAMPLING, 0), OVERSAMPLING, 1)
    directions_world = ray_directions(eye, OVERSAMPLING)
    fine_depth_mm = trace(organ, origin_world, directions_world, start_mm * (1 - 4e-3))
    diffuse, shine = shade(organ, eye, origin_world, directions_world, fine_depth_mm)
    size = (eye.width, eye.height)
    diffuse = cv2.resize(diffuse, size, interpolation=cv2.INTER_AREA) * exposure
    shine = cv2.resize(np.minimum(shine, 4.0), size, interpolation=cv2.INTER_AREA) * exposure
    glare = cv2.GaussianBlur(shine, (0, 0), 0.008 * eye.width)
    shine = (shine + GLARE_SHARE * glare)[..., None] * np.array([1.0, 0.97, 0.95])
    aperture = field_stop(eye.width, eye.height)
    plain = aperture[..., None] * display(diffuse)
    seen = aperture[..., None] * display(diffuse + shine)
    tissue = (aperture >= 1) & np.isfinite(depth_mm)
    noisy = seen + rng.normal(0, NOISE_SIGMA, seen.shape)
    return Picture(
        rgb=np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8),
        depth_mm=np.where(tissue, depth_mm, np.nan),
        tissue=tissue,
        highlight=tissue & ((seen - plain).max(-1) > HIGHLIGHT_ADDS),
    )


def display(linear: FloatArray) -> FloatArray:
    """Return linear light as video shows it: gamma 1 / 2.2, clipped at full scale."""
    return np.clip(linear, 0, 1) ** (1 / 2.2)


def field_stop(width: int, height: int) -> FloatArray:
    """Return (h, w) in [0, 1]: the round picture of an endoscope, with a soft edge about 2 px wide."""
    columns = (np.arange(width) - (width - 1) / 2) / width
    rows = (np.arange(height) - (height - 1) / 2) / width
    radius = np.hypot(columns[None], 1.02 * rows[:, None])
    return np.clip((0.555 - radius) * width / 2.0, 0, 1)


def ray_directions(eye: Eye, oversampling: int) -> FloatArray:
    """Return (h * s, w * s, 3) ray directions in the world whose z in the camera is 1."""
    columns = (np.arange(eye.width * oversampling) + 0.5) / oversampling - 0.5
    rows = (np.arange(eye.height * oversampling) + 0.5) / oversampling - 0.5
    x = (columns - eye.camera[0, 2]) / eye.camera[0, 0]
    y = (rows - eye.camera[1, 2]) / eye.camera[1, 1]
    x, y = np.meshgrid(x, y)
    return np.dstack([x, y, np.ones_like(x)]) @ eye.world_from_camera[:3, :3].T


def sample(organ: Organ, image: FloatArray, x_mm: FloatArray, y_mm: FloatArray) -> FloatArray:
    """Return a map's values (n, ...) at the sheet's coordinates (n,), bilinear."""
    shift_px = (image.shape[0] - 1) / 2
    pad = -len(x_mm) % BLOCK
    columns = np.pad(x_mm / organ.mm_per_px + shift_px, (0, pad)).astype(np.float32).reshape(-1, BLOCK)
    rows = np.pad(y_mm / organ.mm_per_px + shift_px, (0, pad)).astype(np.float32).reshape(-1, BLOCK)
    values = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values, np.float32).reshape(-1, *image.shape[2:])[: len(x_mm)]


def sheared(organ: Organ, vectors_world: FloatArray) -> FloatArray:
    """Return vectors of the world in the frame in which the organ is a plain height field."""
    x, y, z = np.moveaxis(vectors_world, -1, 0)
    return np.stack([x + organ.lean * z, y, z], -1)


def trace(
    organ: Organ, origin_world: FloatArray, directions_world: FloatArray, start_mm: FloatArray | None
) -> FloatArray:
    """Return the z-depth (h, w) of the first hit of each ray, NaN where it leaves the sheet.

    Steps are bounded by the steepest slope, so that no crossing is jumped; below a few
    samples of the map they are not shortened further. So the crossing is bracketed, and then bisected.
    """
    origin = sheared(organ, origin_world)
    directions = sheared(organ, directions_world.reshape(-1, 3))
    down = directions[:, 2]
    top_mm, bottom_mm = float(organ.height_mm.max()), float(organ.height_mm.min())
    depth_mm = (-top_mm - origin[2]) / down
    last_mm = (-bottom_mm - origin[2]) / down
    if start_mm is not None:
        depth_mm = np.maximum(depth_mm, start_mm.ravel())
    closing = down + organ.steepest * np.hypot(directions[:, 0], directions[:, 1])
    shortest_mm = 3.75 * organ.mm_per_px / closing
    before_mm, found = depth_mm.copy(), np.zeros(len(down), bool)
    active = np.arange(len(down))
    while len(active):
        gap_mm = _gap(organ, origin, directions[active], depth_mm[active])
        found[active[gap_mm <= 0]] = True
        active, gap_mm = active[gap_mm > 0], gap_mm[gap_mm > 0]
        before_mm[active] = depth_mm[active]
        depth_mm[active] += np.maximum(gap_mm / closing[active], shortest_mm[active])
        active = active[before_mm[active] < last_mm[active]]
    depth_mm = _bisect(organ, origin, directions, before_mm, depth_mm)
    points = origin + depth_mm[:, None] * directions
    half_mm = organ.mm_per_px * (organ.height_mm.shape[0] - 3) / 2
    found &= (np.abs(points[:, 0]) < half_mm) & (np.abs(points[:, 1]) < half_mm)
    return np.where(found, depth_mm, np.nan).reshape(directions_world.shape[:2])


def _gap(organ: Organ, origin: FloatArray, directions: FloatArray, depth_mm: FloatArray) -> FloatArray:
    """Return how far (mm) points on sheared rays lie above the height field."""
    x_mm = origin[0] + depth_mm * directions[:, 0]
    y_mm = origin[1] + depth_mm * directions[:, 1]
    z_mm = origin[2] + depth_mm * directions[:, 2]
    return -z_mm - sample(organ, organ.height_mm, x_mm, y_mm)


def _bisect(
    organ: Organ, origin: FloatArray, directions: FloatArray, above_mm: FloatArray, below_mm: FloatArray
) -> FloatArray:
    """Return depths between a point above and a point below the surface where the ray crosses it."""
    for _ in range(12):
        middle_mm = (above_mm + below_mm) / 2
        outside = _gap(organ, origin, directions, middle_mm) > 0
        above_mm = np.where(outside, middle_mm, above_mm)
        below_mm = np.where(outside, below_mm, middle_mm)
    return (above_mm + below_mm) / 2


def shade(
    organ: Organ,
    eye: Eye,
    origin_world: FloatArray,
    directions_world: FloatArray,
    depth_mm: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return linear light at exposure 1: diffuse (h, w, 3) and highlight (h, w), 0 where nothing is hit."""
    directions = directions_world.reshape(-1, 3)
    depth = np.nan_to_num(depth_mm.ravel())
    points_world = origin_world + depth[:, None] * directions
    on_sheet = sheared(organ, points_world)
    skin = sample(organ, organ.skin, on_sheet[:, 0], on_sheet[:, 1])
    slopes = sample(organ, organ.slopes, on_sheet[:, 0], on_sheet[:, 1])
    to_lamp = (eye.lamp_world - points_world).astype(np.float32)
    lamp_mm = np.linalg.norm(to_lamp, axis=1, keepdims=True)
    to_lamp /= lamp_mm
    to_eye = -directions.astype(np.float32)
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    light = ((eye.distance_mm / lamp_mm[:, 0]) ** 2) * np.isfinite(depth_mm.ravel())
    cosine = np.maximum((_normals(organ, slopes[:, :2]) * to_lamp).sum(1), 0)
    film_normals = _normals(organ, slopes[:, :2] + slopes[:, 2:])
    half = to_lamp + to_eye
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    aligned = np.clip((film_normals * half).sum(1), 1e-3, 1)
    tangent_squared = 1 / aligned**2 - 1
    shine = SHINE_GAIN * skin[:, 3] * light * np.exp(-tangent_squared / SHINE_ROUGHNESS**2) * (cosine > 0)
    diffuse = LAMP_GAIN * (light * (SCATTERED + (1 - SCATTERED) * cosine))[:, None] * skin[:, :3]
    shape = depth_mm.shape
    return diffuse.reshape(*shape, 3).astype(np.float32), shine.reshape(shape).astype(np.float32)


def _normals(organ: Organ, slopes: FloatArray) -> FloatArray:
    """Return unit normals (n, 3) in the world, towards the endoscope, of the sheared height field."""
    normals = np.stack([-slopes[:, 0], -slopes[:, 1], -1 - organ.lean * slopes[:, 0]], 1)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
