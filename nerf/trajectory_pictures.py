"""Pictures and videos of a trajectory, one scale for all its views; what no training view saw is hatched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nerf.finished_field import OPAQUE
from nerf.videos import write_video
from utils.images import write_rgb
from utils.types import BoolArray, FloatArray

KINDS = ("rgb", "depth", "spread", "coverage")
HATCH = (255, 0, 255)
STRIPES = 40  # across the width of a picture
SAMPLED = 4000  # pixels of a view that the scales are chosen by

Maps = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Scales:
    """What blue and red mean in the pictures: depth and spread in mm, how many views saw a pixel."""

    depth_mm: tuple[float, float]
    spread_mm: tuple[float, float]
    coverage: tuple[float, float]

    @staticmethod
    def of(paths: Sequence[Path]) -> Scales:
        """Choose them by the opaque pixels of all views: the 2nd to 98th percentile, 0 to the 98th, 0 to all."""
        depth, spread, most = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)], 1
        for path in paths:
            maps = read_view(path)
            opaque = maps["opacity"] >= OPAQUE
            step = max(int(opaque.sum()) // SAMPLED, 1)
            depth.append(maps["depth_mm"][opaque][::step])
            spread.append(maps["depth_std_mm"][opaque][::step])
            most = max(most, int(maps["coverage"].max()))
        depths, spreads = np.concatenate(depth), np.concatenate(spread)
        if not len(depths):
            return Scales((0.0, 1.0), (0.0, 1.0), (0.0, float(most)))
        low, high = np.percentile(depths, [2, 98])
        return Scales((float(low), float(high)), (0.0, float(np.percentile(spreads, 98))), (0.0, float(most)))


def read_view(path: Path) -> Maps:
    """Read the maps of one view."""
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def draw(maps: Maps, scales: Scales) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures (h, w, 3) of one view by kind; where nothing is, maps are black."""
    clear, hatched = maps["opacity"] < OPAQUE, maps["extrapolated"]
    values = {
        "depth": (maps["depth_mm"], scales.depth_mm),
        "spread": (maps["depth_std_mm"], scales.spread_mm),
        "coverage": (maps["coverage"].astype(np.float32), scales.coverage),
    }
    pictures = {"rgb": maps["rgb"]}
    for kind, (value, scale) in values.items():
        pictures[kind] = coloured(np.where(clear, np.nan, value), *scale)
    return {kind: hatch(picture, hatched) for kind, picture in pictures.items()}


def coloured(values: FloatArray, low: float, high: float) -> NDArray[np.uint8]:
    """Return (h, w, 3) in turbo: `low` blue, `high` red, NaN black."""
    share = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9)
    colours = cv2.applyColorMap(np.rint(255 * share.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)
    colours[~np.isfinite(values)] = 0
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), np.uint8)


def hatch(picture: NDArray[np.uint8], where: BoolArray) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) with magenta stripes at 45 degrees over some of its pixels (h, w)."""
    height, width = where.shape
    period = max(width // STRIPES, 4)
    rows, columns = np.indices((height, width))
    stripes = where & ((rows + columns) % period < max(period // 3, 1))
    return np.where(stripes[..., None], np.array(HATCH, np.uint8), picture)


def write_pictures(folder: Path, numbers: Sequence[str], fps: int) -> Scales:
    """Write `<kind>/<number>.png` and `<kind>.mp4` of the views whose maps lie in `folder/maps`."""
    scales = Scales.of([folder / "maps" / f"{number}.npz" for number in numbers])
    for number in tqdm(numbers, desc="pictures", unit="view", disable=None):
        for kind, picture in draw(read_view(folder / "maps" / f"{number}.npz"), scales).items():
            write_rgb(folder / kind / f"{number}.png", picture)
    for kind in KINDS:
        write_video(folder / f"{kind}.mp4", [folder / kind / f"{number}.png" for number in numbers], fps)
    return scales
