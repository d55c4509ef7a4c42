"""Middlebury's Motorcycle: the default stereo source against the truth on visible pixels, and truth as file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from stereo_prior import matches as matches_stage
from stereo_prior import prior as prior_stage
from stereo_prior import scene as scene_stage
from stereo_prior import stereo as stereo_stage
from stereo_prior.matches import MatchOptions
from stereo_prior.prior import PriorOptions
from stereo_prior.rectification import Rectification
from stereo_prior.scene import SceneOptions
from stereo_prior.source import StereoOptions
from utils.artifacts import load_maps
from utils.images import read_pfm
from utils.scene import Scene
from utils.types import BoolArray, FloatArray

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "motorcycle"
FRAME = "1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the Motorcycle pair is not at {DATA}"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the stages from `scene` to `prior` on the pair; there is no motion, hence no poses."""
    root = tmp_path_factory.mktemp("motorcycle")
    folders = {name: root / name for name in ("scene", "matches", "stereo", "poses", "prior")}
    for folder in folders.values():
        folder.mkdir()
    scene, matches, stereo = folders["scene"], folders["matches"], folders["stereo"]
    scene_stage.run(SceneOptions(datadir=str(DATA)), out=scene)
    matches_stage.run(MatchOptions(viz=False), out=matches, scene=scene)
    stereo_stage.run(StereoOptions(), out=stereo, scene=scene, matches=matches)
    prior_stage.run(
        PriorOptions(), out=folders["prior"], scene=scene, matches=matches, stereo=stereo, poses=folders["poses"]
    )
    return root


def difference_px(root: Path, folder: Path) -> tuple[FloatArray, BoolArray]:
    """Return |disparity - truth| (h, w) px, NaN unknown, and where the truth is visible in both eyes."""
    rectification = Rectification.of(Scene.load(root / "scene").rig)
    assert rectification.identity
    found_px = rectification.disparity_from_depth(load_maps(folder, "left", FRAME)["depth_mm"])
    truth_px = read_pfm(DATA / "l" / "disparity" / f"{FRAME}.pfm")
    visible: BoolArray = np.asarray(cv2.imread(str(DATA / "mask0nocc.png"), cv2.IMREAD_GRAYSCALE)) == 255
    visible &= np.isfinite(truth_px)
    return np.abs(found_px - truth_px), visible


def test_sgbm_is_as_good_as_it_gets_well_tuned(root: Path) -> None:
    off_px, visible = difference_px(root, root / "stereo" / "sgbm")
    off = off_px[visible & np.isfinite(off_px)]
    assert len(off) / visible.sum() >= 0.90
    assert off.mean() <= 0.61
    assert (off > 3).mean() <= 0.028


def test_prior_covers_nearly_all_and_stays_good(root: Path) -> None:
    off_px, visible = difference_px(root, root / "prior")
    off = off_px[visible & np.isfinite(off_px)]
    assert len(off) / visible.sum() >= 0.95
    assert np.median(off) <= 0.25
    maps = load_maps(root / "prior", "left", FRAME)
    known = visible & np.isfinite(off_px)
    sure = known & (maps["confidence"] > np.median(maps["confidence"][known]))
    assert off_px[sure].mean() < 0.5 * off_px[known & ~sure].mean()


def test_true_disparity_as_a_file_is_true_depth(root: Path, tmp_path: Path) -> None:
    """cx differs by 32.778 px between the eyes: forgotten, depth is three times too large."""
    given = tmp_path / "maps" / "l" / "disparity" / f"{FRAME}.pfm"
    given.parent.mkdir(parents=True)
    shutil.copy(DATA / "l" / "disparity" / given.name, given)
    options = StereoOptions(stereo="files", stereo_path=str(tmp_path / "maps"), datadir=str(DATA))
    stereo_stage.check(options)
    stereo_stage.run(options, out=tmp_path, scene=root / "scene", matches=root / "matches")
    truth_px = read_pfm(given)
    known = np.isfinite(truth_px)
    truth_mm = 999.421 * 193.001 / (truth_px[known] + 32.778)
    depth_mm = load_maps(tmp_path / "files", "left", FRAME)["depth_mm"]
    assert np.abs(depth_mm[known] / truth_mm - 1).max() < 1e-5
    assert np.isnan(depth_mm[~known]).all()
    # the right eye, which was not given, sees what the left one sees, as the right image confirms
    right_mm = load_maps(tmp_path / "files", "right", FRAME)["depth_mm"]
    assert 0.7 < np.isfinite(right_mm).mean() < 0.9
    sgbm_mm = load_maps(root / "stereo" / "sgbm", "right", FRAME)["depth_mm"]
    assert np.nanmedian(np.abs(right_mm / sgbm_mm - 1)) < 0.005
