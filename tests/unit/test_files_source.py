"""The source `files`: maps of other programs in every layout, the eye that was not given, doubt, and refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest

from stereo_prior import map_files
from stereo_prior import stereo as stage
from stereo_prior.colmap_maps import read_depth
from stereo_prior.files_source import carried_over
from stereo_prior.rectification import Rectification
from stereo_prior.source import StereoOptions
from tests.synthetic import (
    BALL_ON_WALL,
    FOLDER,
    Plane,
    Surface,
    disparity,
    parallel_rig,
    render,
    right_pixels,
    verged_rig,
    world_from,
    write_calibration,
)
from utils.artifacts import load_maps, read_json, save_maps, write_json, write_npz
from utils.errors import InputError
from utils.images import read_map, write_rgb
from utils.scene import Scene
from utils.types import FloatArray, Rig, Side
from utils.warping import sample_depth

RIG = parallel_rig(baseline_mm=12.0)  # cx differs by 8 px between the eyes
PLANE = Plane((0.1, -0.05, 1.0), 80.0)
SIDES: tuple[Side, Side] = ("left", "right")
NAMES = ("1", "2", "3")  # the third is a test frame


class Given:
    """A scene of one surface, matches of it, and a folder for maps."""

    def __init__(self, root: Path, rig: Rig = RIG, surface: Surface = PLANE) -> None:
        self.root, self.rig = root, rig
        self.scene, self.matches, self.maps = root / "scene", root / "matches", root / "maps"
        self.data = root / "data"
        self.truth = {
            side: render(surface, rig.camera(side), world_from(rig, side, np.eye(4))).depth_mm for side in SIDES
        }
        images = {}
        for side in SIDES:
            shape = self.truth[side].shape
            for name in NAMES:
                image = self.data / FOLDER[side] / "images" / f"{name}.png"
                write_rgb(image, np.full((*shape, 3), 90, np.uint8))
                images[f"{side}_{name}"] = str(image)
                tissue = np.ones(shape, bool)
                save_maps(self.scene / "masks", side, name, tissue=tissue, highlight=~tissue)
        write_calibration(self.data / "calib.yaml", rig)
        scene = Scene(self.scene, rig, NAMES, NAMES[:2], NAMES[2:], SIDES, images)
        lenses = {side: {"camera": asdict(rig.camera(side)), "distortion": [0.0] * 5} for side in SIDES}
        scene.save({"lenses": lenses})
        for name in NAMES:
            self.write_matches(name)
        self.maps.mkdir()

    def write_matches(self, name: str, *, noise_px: float = 0.0, count: int = 200) -> None:
        rng = np.random.default_rng(int(name))
        camera = self.rig.left
        columns = rng.integers(40, camera.width - 8, count)
        rows = rng.integers(8, camera.height - 8, count)
        pixels_left = np.stack([columns, rows], axis=-1).astype(float)
        pixels_right = right_pixels(self.rig, pixels_left, self.truth["left"][rows, columns])
        pixels_right += rng.normal(0, noise_px, pixels_right.shape)
        seen = (pixels_right[:, 0] >= 0) & (pixels_right[:, 0] < camera.width)
        score = np.ones(int(seen.sum()))
        write_npz(
            self.matches / f"{name}.npz",
            pixels_left=pixels_left[seen],
            pixels_right=pixels_right[seen],
            score=score,
        )

    def put(self, side: Side, kind: str, values: FloatArray, ending: str = ".npy", *, only: str = "") -> None:
        """Write one map for all frames."""
        for name in (only,) if only else NAMES:
            write_map(self.maps / FOLDER[side] / kind / f"{name}{ending}", values)

    def options(self, **changes: Any) -> StereoOptions:
        given = {"stereo": "files", "stereo_path": str(self.maps), "datadir": str(self.data)}
        return StereoOptions(**(given | changes))

    def run(self, **changes: Any) -> dict[Side, dict[str, FloatArray]]:
        """Check and run the stage; return the maps of frame 1."""
        stage.check(self.options(**changes))
        out = self.root / "stereo"
        stage.run(self.options(**changes), out=out, scene=self.scene, matches=self.matches)
        assert (out / "files" / "1.png").exists()
        return {side: load_maps(out / "files", side, "1") for side in SIDES}

    def refused(self, *, early: bool, **changes: Any) -> str:
        """Return the message of the refusal, before any stage runs or when the stage begins."""
        if early:
            with pytest.raises(InputError) as caught:
                stage.check(self.options(**changes))
        else:
            stage.check(self.options(**changes))
            with pytest.raises(InputError) as caught:
                stage.run(
                    self.options(**changes), out=self.root / "stereo", scene=self.scene, matches=self.matches
                )
        error = caught.value
        assert all((error.what, error.found, error.expected, error.do))
        return str(error)


def write_map(path: Path, values: FloatArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    single = values.astype(np.float32)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, depth_mm=values, sigma_mm=np.ones_like(values))
    elif path.suffix == ".pfm":
        header = f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode()
        path.write_bytes(header + single[::-1].astype("<f4").tobytes())
    elif path.suffix == ".png":
        cv2.imwrite(str(path), np.nan_to_num(values).astype(np.uint16))
    else:
        assert cv2.imwrite(str(path), single)


def write_colmap(path: Path, depth: FloatArray) -> None:
    """Write a dense depth map as COLMAP's documentation says: column-major in (width, height, channel)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.transpose(depth.astype("<f4")[..., None], (1, 0, 2))
    header = "&".join(str(length) for length in array.shape) + "&"
    path.write_bytes(header.encode() + array.flatten(order="F").tobytes())


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pfm", ".tiff", ".png"])
def test_depth_of_both_eyes_in_every_format(given: Given, ending: str) -> None:
    png = ending == ".png"
    for side in SIDES:
        depth_mm = given.truth[side].copy()
        depth_mm[3, :4] = [0.0, np.nan, np.inf if not png else 0.0, -5.0 if not png else 0.0]
        given.put(side, "depth", depth_mm / 0.01 if png else depth_mm, ending)
    found = given.run(stereo_png_mm=0.01 if png else 0.0)
    for side, maps in found.items():
        assert set(maps) == {"depth_mm", "sigma_mm", "confidence"}
        assert {maps[key].dtype for key in maps} == {np.dtype(np.float32)}
        known = np.ones(given.truth[side].shape, bool)
        known[3, :4] = False
        np.testing.assert_array_equal(np.isfinite(maps["depth_mm"]), known)
        np.testing.assert_array_equal(np.isfinite(maps["sigma_mm"]), known)
        np.testing.assert_allclose(maps["depth_mm"][known], given.truth[side][known], rtol=2e-4 if png else 1e-6)
        assert (maps["confidence"][~known] == 0).all()
        assert (maps["confidence"][known] > 0).all()
        inside = maps["confidence"][8:-8, 40:-40]
        assert np.median(inside) > 0.95, "exact maps that agree with each other and with the matches"


@pytest.mark.parametrize("ending", [".npy", ".pfm", ".png"])
def test_disparity_becomes_depth_with_the_offset_of_the_principal_points(given: Given, ending: str) -> None:
    assert RIG.right is not None
    assert RIG.left.cx - RIG.right.cx == pytest.approx(-8.0)
    px = 1 / 1024 if ending == ".png" else 0.0
    for side in SIDES:
        disparity_px = disparity(RIG, given.truth[side])
        given.put(side, "disparity", disparity_px / px if px else disparity_px, ending)
    found = given.run(stereo_png_px=px)
    for side, maps in found.items():
        known = np.isfinite(maps["depth_mm"])
        assert known.mean() > 0.99
        np.testing.assert_allclose(maps["depth_mm"][known], given.truth[side][known], rtol=2e-3 if px else 1e-5)


@pytest.mark.parametrize("marker", [-1.0, -16.0, 0.0, np.nan, np.inf])
def test_a_marker_of_unknown_is_no_disparity(given: Given, marker: float) -> None:
    """-1 px would be a point far away here: cx differs by -8 px."""
    disparity_px = disparity(RIG, given.truth["left"])
    disparity_px[:20, :20] = marker
    given.put("left", "disparity", disparity_px)
    found = given.run()["left"]["depth_mm"]
    assert np.isnan(found[:20, :20]).all()
    assert np.isfinite(found[20:]).all()


@pytest.mark.parametrize("kind", ["depth", "disparity"])
@pytest.mark.parametrize("side", SIDES)
def test_the_other_eye_of_a_plane_is_exact(given: Given, side: Side, kind: str) -> None:
    depth_mm = given.truth[side]
    given.put(side, kind, depth_mm if kind == "depth" else disparity(RIG, depth_mm))
    found = given.run()
    other: Side = "right" if side == "left" else "left"
    known = np.isfinite(found[other]["depth_mm"])
    assert 0.75 < known.mean() < 0.95, "a strip at the border is seen by one eye alone"
    middle = known[:, 20:-20]
    off = np.abs(found[other]["depth_mm"] / given.truth[other] - 1)[:, 20:-20]
    assert off[middle].max() < 2e-5
    assert (found[other]["confidence"][~known] == 0).all()
    # nobody checked it: less sure than where both were given
    assert np.median(found[side]["confidence"]) < 0.75


def hidden_from_left(given: Given) -> FloatArray:
    """Return (h, w) bool: right pixels whose point the left eye does not see."""
    rig, depth_mm = given.rig, given.truth["right"]
    columns, rows = np.meshgrid(np.arange(depth_mm.shape[1]), np.arange(depth_mm.shape[0]))
    landed = np.stack([columns + disparity(rig, depth_mm), rows], axis=-1)
    seen_mm = sample_depth(given.truth["left"], landed)
    return np.asarray((seen_mm < depth_mm - 2) | (landed[..., 0] > depth_mm.shape[1] - 1))


def test_what_the_left_eye_does_not_see_stays_unknown_in_the_right(tmp_path: Path) -> None:
    given = Given(tmp_path, surface=BALL_ON_WALL)
    given.put("left", "depth", given.truth["left"])
    depth_mm = given.run()["right"]["depth_mm"]
    hidden = hidden_from_left(given)
    inner = cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert inner.sum() > 300
    assert np.isnan(depth_mm[inner]).all()
    surely_seen = cv2.dilate(hidden.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert np.isfinite(depth_mm[surely_seen]).mean() > 0.99
    off = np.abs(depth_mm / given.truth["right"] - 1)[surely_seen & np.isfinite(depth_mm)]
    assert np.median(off) < 1e-4
    assert (off > 0.01).mean() < 0.005, "the nearest wins"


@pytest.mark.parametrize("side", SIDES)
def test_a_verged_rig_carries_depth_over_through_its_rectified_images(tmp_path: Path, side: Side) -> None:
    given = Given(tmp_path, verged_rig(vergence_degrees=20.0))
    other: Side = "right" if side == "left" else "left"
    found = carried_over(Rectification.of(given.rig), given.truth[side], side)
    known = np.isfinite(found)
    assert known.mean() > 0.5
    off = np.abs(found / given.truth[other] - 1)[known]
    assert np.median(off) < 1e-4
    assert np.quantile(off, 0.99) < 2e-3
    given.put(side, "depth", given.truth[side])
    np.testing.assert_allclose(given.run()[side]["depth_mm"], given.truth[side], rtol=1e-6)


def test_maps_are_resized_and_undistorted_as_the_images_are(given: Given) -> None:
    """Stored images of twice the size: the cameras of their disparity are the stored ones."""
    record = read_json(given.scene / "frames.json")
    height, width = given.truth["left"].shape
    stored = {side: RIG.camera(side).resized(2 * width, 2 * height) for side in SIDES}
    record["lenses"] = {side: {"camera": asdict(stored[side]), "distortion": [0.0] * 5} for side in SIDES}
    write_json(given.scene / "frames.json", record)
    stored_rig = Rig(stored["left"], stored["right"], RIG.right_from_left)
    views = {side: render(PLANE, stored[side], world_from(RIG, side, np.eye(4))) for side in SIDES}
    given.put("left", "depth", views["left"].depth_mm)
    given.put("right", "disparity", disparity(stored_rig, views["right"].depth_mm))
    found = given.run(datadir="")
    for side in SIDES:
        assert found[side]["depth_mm"].shape == (height, width)
        np.testing.assert_allclose(found[side]["depth_mm"], given.truth[side], rtol=2e-3)


@pytest.mark.parametrize("off_px", [1.5, -1.5])
def test_confidence_falls_at_edges_and_where_the_eyes_contradict_each_other(tmp_path: Path, off_px: float) -> None:
    given = Given(tmp_path, surface=BALL_ON_WALL)
    wrong_px = disparity(RIG, given.truth["left"])
    wrong_px[100:124, 100:130] += off_px
    given.put("left", "disparity", wrong_px)
    given.put("right", "disparity", disparity(RIG, given.truth["right"]))
    maps = given.run()["left"]
    wrong, right = np.s_[106:118, 106:124], np.s_[106:118, 60:90]
    assert np.median(maps["confidence"][wrong]) < 0.2 < 0.9 < np.median(maps["confidence"][right])
    assert np.median(maps["sigma_mm"][wrong]) > 5 * np.median(maps["sigma_mm"][right])
    depth_mm = given.truth["left"]
    across = np.abs(np.diff(depth_mm, axis=1, prepend=depth_mm[:, :1]))
    edge = (across > 5) & (np.arange(depth_mm.shape[0])[:, None] > 64)
    assert edge.sum() > 20
    assert np.median(maps["confidence"][edge]) < 0.4


def test_what_is_hidden_from_the_other_eye_is_no_contradiction(tmp_path: Path) -> None:
    given = Given(tmp_path, surface=BALL_ON_WALL)
    for side in SIDES:
        given.put(side, "depth", given.truth[side])
    confidence = given.run()["right"]["confidence"]
    hidden = cv2.erode(hidden_from_left(given).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert hidden.sum() > 50
    assert 0.5 < np.median(confidence[hidden]) < 0.75


def test_sigma_is_the_difference_from_the_matches_of_training_frames(given: Given) -> None:
    rng = np.random.default_rng(0)
    for side in SIDES:
        noisy_px = disparity(RIG, given.truth[side]) + rng.normal(0, 0.4, given.truth[side].shape)
        given.put(side, "disparity", noisy_px)
    maps = given.run()["left"]
    off = np.abs(maps["depth_mm"] - given.truth["left"])
    assert 0.5 < np.nanmedian(off / maps["sigma_mm"]) / 0.67 < 1.2
    given.write_matches("3", noise_px=30.0)  # a test frame says nothing to the others
    np.testing.assert_array_equal(given.run()["left"]["sigma_mm"], maps["sigma_mm"])


def test_the_noise_of_the_matches_is_not_that_of_the_maps(given: Given) -> None:
    rng = np.random.default_rng(0)
    given.put("left", "disparity", disparity(RIG, given.truth["left"]) + rng.normal(0, 0.3, (128, 160)))
    for name in NAMES:
        given.write_matches(name, noise_px=0.3, count=2000)
    maps = given.run()["left"]
    parallax_px = RIG.left.fx * RIG.baseline_mm / maps["depth_mm"]
    np.testing.assert_allclose(maps["sigma_mm"] * parallax_px / maps["depth_mm"], 0.3, rtol=0.1)


def test_without_matches_the_deviation_is_assumed_and_said(given: Given, caplog: pytest.LogCaptureFixture) -> None:
    for name in NAMES:
        given.write_matches(name, count=3)
    given.put("left", "depth", given.truth["left"])
    maps = given.run()["left"]
    assert "too few to judge" in caplog.text
    parallax_px = RIG.left.fx * RIG.baseline_mm / given.truth["left"]
    np.testing.assert_allclose(maps["sigma_mm"] * parallax_px / maps["depth_mm"], 1.0, rtol=1e-5)


def test_frames_may_have_maps_of_different_eyes_and_kinds(given: Given) -> None:
    given.put("left", "depth", given.truth["left"], only="1")
    given.put("right", "disparity", disparity(RIG, given.truth["right"]), ".pfm", only="2")
    given.put("left", "depth", given.truth["left"] * 100, ".png", only="3")
    given.run(stereo_png_mm=0.01)
    for name in NAMES:
        for side in SIDES:
            depth_mm = load_maps(given.root / "stereo" / "files", side, name)["depth_mm"]
            assert np.nanmedian(np.abs(depth_mm / given.truth[side] - 1)) < 1e-3


def test_a_picture_beside_the_numbers_is_not_read(given: Given) -> None:
    given.put("left", "depth", given.truth["left"])
    for name in NAMES:
        write_rgb(given.maps / "l" / "depth" / f"{name}.png", np.zeros((4, 4, 3), np.uint8))
    assert np.isfinite(given.run()["left"]["depth_mm"]).all()


COLMAP_NAMES: Mapping[str, Callable[[Side, str], str]] = {
    "ours": lambda side, name: f"{side}/{name}.png",
    "dataset": lambda side, name: f"{FOLDER[side]}/images/{name}.jpg",
    "scene": lambda side, name: f"{side}_{name}.png",
    "left alone": lambda side, name: f"{name}.png" if side == "left" else "",
}


@pytest.mark.parametrize("naming", COLMAP_NAMES)
def test_colmap_depth_is_brought_to_millimetres(
    given: Given, naming: str, caplog: pytest.LogCaptureFixture
) -> None:
    for side in SIDES:
        unscaled = given.truth[side] / 7.3
        unscaled[:5] = 0
        for name in NAMES[1:]:  # the first frame did not register
            image = COLMAP_NAMES[naming](side, name)
            if image:
                write_colmap(given.maps / "stereo" / "depth_maps" / f"{image}.geometric.bin", unscaled)
    with caplog.at_level(logging.INFO):
        first = given.run()
    assert "COLMAP's depth times 7.3 is mm" in caplog.text
    assert "COLMAP has no depth of 1 frames: 1" in caplog.text
    assert np.isnan(first["left"]["depth_mm"]).all()
    for side in SIDES:
        depth_mm = load_maps(given.root / "stereo" / "files", side, "2")["depth_mm"]
        assert np.isnan(depth_mm[:4]).all()
        known = np.isfinite(depth_mm)
        assert known.mean() > 0.7
        np.testing.assert_allclose(depth_mm[known], given.truth[side][known], rtol=1e-3)


def test_colmap_itself_writes_what_is_read(tmp_path: Path) -> None:
    depth = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    depth[1, 2] = 0
    path = tmp_path / "1.png.geometric.bin"
    pycolmap.DepthMap.from_array(depth, 1.0, 12.0).write(str(path))
    np.testing.assert_array_equal(read_depth(path), np.where(depth > 0, depth, np.nan))
    by_us = tmp_path / "ours.bin"
    write_colmap(by_us, depth)
    assert by_us.read_bytes() == path.read_bytes()


def colmap_file(given: Given, text: str = "1.png.geometric.bin") -> Path:
    return given.maps / "stereo" / "depth_maps" / text


def test_colmap_without_a_scale_is_refused(given: Given) -> None:
    rng = np.random.default_rng(0)
    write_colmap(colmap_file(given), rng.uniform(1, 20, given.truth["left"].shape))
    assert "fits the matches at no scale" in given.refused(early=False)
    for name in NAMES:
        given.write_matches(name, count=10)
    assert "scale of COLMAP's depth cannot be found" in given.refused(early=False)


def test_colmap_files_that_are_not_what_they_should_be_are_refused(given: Given) -> None:
    write_colmap(colmap_file(given, "1.png.photometric.bin"), given.truth["left"])
    assert "geom_consistency" in given.refused(early=True)
    write_colmap(colmap_file(given, "holiday.png.geometric.bin"), given.truth["left"])
    assert "no map belongs to a frame" in given.refused(early=True)
    write_colmap(colmap_file(given), given.truth["left"][::2, ::2])
    message = given.refused(early=False)
    assert "80 x 64" in message
    assert "160 x 128" in message
    colmap_file(given).write_bytes(colmap_file(given).read_bytes()[:-4])
    assert "not a depth map of COLMAP" in given.refused(early=True)
    colmap_file(given).write_bytes(b"hello")
    assert "another header" in given.refused(early=True)


def test_an_empty_or_strange_folder_is_refused_before_any_stage(given: Given) -> None:
    assert "no --stereo_path" in given.refused(early=True, stereo_path="")
    assert "no folder" in given.refused(early=True, stereo_path=str(given.root / "nowhere"))
    assert "an empty folder" in given.refused(early=True)
    (given.maps / "1.npy").write_bytes(b"")
    message = given.refused(early=True)
    assert "1.npy" in message
    assert "l/depth/<frame>" in message


def test_missing_frames_are_named(given: Given) -> None:
    given.put("left", "depth", given.truth["left"], only="1")
    given.put("right", "depth", given.truth["right"], only="frame_2")
    message = given.refused(early=True)
    assert "no map of 2 of 3 frames: 2, 3" in message
    assert "maps of no frame: frame_2" in message
    assert "no map of 2 of 3 frames" in given.refused(early=False, datadir="")


def test_maps_of_another_size_are_refused(given: Given) -> None:
    given.put("left", "depth", given.truth["left"][::2, ::2])
    assert "80 x 64" in given.refused(early=True)
    assert "another size" in given.refused(early=False, datadir="")


def test_a_png_needs_its_unit(given: Given) -> None:
    given.put("left", "depth", given.truth["left"] * 100, ".png")
    assert "--stereo_png_mm" in given.refused(early=True)
    assert "--stereo_png_mm is no unit" in given.refused(early=True, stereo_png_mm=-1.0)
    given.put("right", "disparity", disparity(RIG, given.truth["right"]) * 256, ".png")
    assert "--stereo_png_px" in given.refused(early=True, stereo_png_mm=0.01)


def test_disparity_of_a_verged_rig_is_refused(tmp_path: Path) -> None:
    given = Given(tmp_path, verged_rig())
    given.put("left", "disparity", np.full(given.truth["left"].shape, 5.0))
    assert "rotated by 30.000 degrees" in given.refused(early=True)
    assert "rotated by 30.000 degrees" in given.refused(early=False, datadir="")


def ray_length(rig: Rig, depth_mm: FloatArray) -> FloatArray:
    rows, columns = np.indices(depth_mm.shape)
    x, y = (columns - rig.left.cx) / rig.left.fx, (rows - rig.left.cy) / rig.left.fy
    return np.asarray(depth_mm * np.sqrt(1 + x**2 + y**2))


MISTAKES: Mapping[str, tuple[str, Callable[[FloatArray], FloatArray]]] = {
    "negate the maps: they hold x_right - x_left": ("disparity", lambda depth: -disparity(RIG, depth)),
    "add cx_left - cx_right = -8.000 px": ("disparity", lambda depth: disparity(RIG, depth) + 8),
    "the wrong sign; then add": ("disparity", lambda depth: -disparity(RIG, depth) - 8),
    "maps/l/depth: they hold depth in mm": ("disparity", lambda depth: depth),
    "multiply the maps by 0.0625": ("disparity", lambda depth: 16 * disparity(RIG, depth)),
    "negate the maps: they hold -z": ("depth", lambda depth: -depth),
    "multiply the maps by 1000: they hold metres": ("depth", lambda depth: depth / 1000),
    "ray lengths": ("depth", lambda depth: ray_length(RIG, depth)),
    "maps/l/disparity: they hold disparity": ("depth", lambda depth: disparity(RIG, depth)),
    "the maps hold inverse depth": ("depth", lambda depth: 1 / depth),
    "check that the maps belong": ("depth", lambda depth: depth[::-1, ::-1] ** 2),
}


@pytest.mark.parametrize("mend", MISTAKES)
def test_a_mistaken_convention_is_found_and_its_mend_named(tmp_path: Path, mend: str) -> None:
    kind, mistaken = MISTAKES[mend]
    given = Given(tmp_path, surface=Plane((0.5, -0.4, 1.0), 80.0))
    given.put("left", kind, mistaken(given.truth["left"]))
    message = given.refused(early=False)
    assert f"l/{kind}: the {kind} contradicts the matches" in message
    assert mend in message


def test_a_wrong_unit_of_a_png_is_named(given: Given) -> None:
    given.put("left", "depth", given.truth["left"] * 100, ".png")
    assert "give --stereo_png_mm 0.01" in given.refused(early=False, stereo_png_mm=1.0)


def test_one_eye_with_the_wrong_sign_is_found(given: Given) -> None:
    given.put("left", "disparity", disparity(RIG, given.truth["left"]))
    given.put("right", "disparity", -disparity(RIG, given.truth["right"]))
    assert "r/disparity: the disparity contradicts" in given.refused(early=False)


def test_the_truth_as_prior_is_said(given: Given, caplog: pytest.LogCaptureFixture) -> None:
    given.put("left", "depth", given.truth["left"])
    given.run()
    assert "scores of the prior say nothing" not in caplog.text
    for path in (given.maps / "l" / "depth").iterdir():
        write_map(given.data / "l" / "depth" / path.name, np.load(path))
    given.run(stereo_path=str(given.data))
    assert "scores of the prior say nothing" in caplog.text


def test_every_map_enters_the_stamp(given: Given) -> None:
    given.put("left", "depth", given.truth["left"])
    given.put("right", "disparity", given.truth["right"], ".pfm")
    assert len(stage.files(given.options())) == 6
    assert stage.files(replace(given.options(), stereo="sgbm")) == []
    assert map_files.files(given.options(stereo_path=str(given.root / "nowhere"))) == []
    assert map_files.files(given.options(stereo_path="")) == []


def test_an_npz_without_a_telling_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.npz"
    np.savez(path, a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(InputError, match="which array is the map"):
        read_map(path)
    np.savez(path, anything=np.ones((2, 2)))
    assert read_map(path).shape == (2, 2)
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"not an npz|pickle"):
        read_map(path)
