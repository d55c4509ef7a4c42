"""Pictures of a trajectory: one scale for all views, stripes where no training view saw anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nerf.trajectory_pictures import HATCH, KINDS, Scales, coloured, draw, hatch, write_pictures
from utils.artifacts import write_npz
from utils.images import read_rgb

SHAPE = (40, 60)


def view(depth_mm: float, *, covered: int = 3) -> dict[str, NDArray[Any]]:
    """Return maps with a clear left edge and an unseen right half."""
    count = np.full(SHAPE, covered, np.uint16)
    count[:, 30:] = 0
    count[:, :5] = 0
    opacity = np.ones(SHAPE, np.float32)
    opacity[:, :5] = 0.0
    return {
        "rgb": np.full((*SHAPE, 3), 90, np.uint8),
        "depth_mm": np.where(opacity > 0, depth_mm, np.nan).astype(np.float32),
        "depth_std_mm": np.full(SHAPE, 0.2, np.float32),
        "opacity": opacity,
        "coverage": count,
        "extrapolated": count == 0,
    }


def test_stripes_cover_a_third_of_what_is_marked_and_nothing_else() -> None:
    where = np.zeros(SHAPE, bool)
    where[:, 20:] = True
    picture = hatch(np.full((*SHAPE, 3), 90, np.uint8), where)
    striped = (picture == HATCH).all(-1)
    assert not striped[:, :20].any()
    assert 0.2 < striped[:, 20:].mean() < 0.4
    assert (picture[~striped] == 90).all()


def test_colours_run_from_blue_to_red_and_unknown_is_black() -> None:
    picture = coloured(np.array([[1.0, 2.0, np.nan, 99.0]]), 1.0, 2.0)
    assert picture[0, 0, 2] > picture[0, 0, 0]
    assert picture[0, 1, 0] > picture[0, 1, 2]
    assert (picture[0, 2] == 0).all()
    np.testing.assert_array_equal(picture[0, 1], picture[0, 3])


def test_all_views_share_one_scale_and_are_written_with_videos(tmp_path: Path) -> None:
    for number, depth in (("0001", 70.0), ("0002", 90.0)):
        write_npz(tmp_path / "maps" / f"{number}.npz", **view(depth))
    scales = write_pictures(tmp_path, ["0001", "0002"], 5)
    assert scales == Scales((70.0, 90.0), (0.0, scales.spread_mm[1]), (0.0, 3.0))
    pictures = {number: read_rgb(tmp_path / "depth" / f"{number}.png")[20, 10] for number in ("0001", "0002")}
    assert pictures["0001"][2] > pictures["0001"][0], "near is blue"
    assert pictures["0002"][0] > pictures["0002"][2], "far is red"
    for kind in KINDS:
        video = cv2.VideoCapture(str(tmp_path / f"{kind}.mp4"))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 2
        assert video.get(cv2.CAP_PROP_FPS) == 5


def test_a_clear_view_has_black_maps_with_stripes() -> None:
    maps = view(80.0)
    maps["opacity"][:] = 0
    maps["coverage"][:], maps["extrapolated"][:] = 0, True
    pictures = draw(maps, Scales((70.0, 90.0), (0.0, 1.0), (0.0, 3.0)))
    for kind in ("depth", "spread", "coverage"):
        striped = (pictures[kind] == HATCH).all(-1)
        assert striped.any()
        assert (pictures[kind][~striped] == 0).all()
