"""The exported cloud: points on the surface, normals towards the camera, merging by voxels, PLY with its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from export import stage
from export.cloud import Cloud, merge
from export.stage import ExportOptions
from stereo_prior import scene as scene_stage
from stereo_prior.scene import SceneOptions
from tests.synthetic import Plane, parallel_rig, path, render, turn, world_from, write_dataset
from utils.artifacts import save_maps, write_json
from utils.errors import InputError, NotApplicable
from utils.geometry import normals_from_depth
from utils.images import read_rgb
from utils.ply import write_ply
from utils.scene import Scene, save_poses
from utils.types import ARBITRARY_UNITS, Camera, FloatArray, Poses, Side

PLANE = Plane((0.3, -0.2, 1.0), 80.0)
NORMAL = np.array(PLANE.normal) / np.linalg.norm(PLANE.normal)
SIZE = (64, 48)


def one(points: list[list[float]], confidence: list[float], grey: int = 100, normal: float = -1.0) -> Cloud:
    count = len(points)
    normals = np.tile([0.0, 0.0, normal], (count, 1))
    return Cloud(np.array(points), normals, np.full((count, 3), grey, np.uint8), np.array(confidence))


def loaded(path: Path) -> Any:
    """Return a point cloud as trimesh reads it."""
    return trimesh.load(path)


class Folders:
    """A plane seen by two frames of a stereo rig, as the stages before `export` leave it."""

    def __init__(self, root: Path, *, frames: int = 2, metric: bool = True, rendered: bool = True) -> None:
        self.root = root
        rig = write_dataset(root / "data", parallel_rig(*SIZE), frames=frames, surface=PLANE)
        (root / "data" / "train.txt").write_text("".join(f"{k}.png\n" for k in range(1, frames + 1)))
        for name in ("scene", "poses", "prior", "nerf", "render", "filter", "out"):
            (root / name).mkdir()
            write_json(root / name / "stamp.json", {"skipped": None})
        scene_stage.run(SceneOptions(datadir=str(root / "data")), out=root / "scene")
        self.scene = Scene.load(root / "scene")
        left = path(frames)
        right = np.stack([world_from(rig, "right", pose) for pose in left])
        save_poses(root / "poses", Poses(self.scene.names, left, right, metric))
        if frames == 1:
            self.skip("poses")
        for side in rig.sides:
            for name, pose in zip(self.scene.names, left, strict=True):
                seen = render(PLANE, rig.camera(side), world_from(rig, side, pose))
                self._write(side, name, seen.depth_mm)
        self.skip("nerf")
        if not rendered:
            self.skip("render")
            self.skip("filter")

    def skip(self, stage_name: str) -> None:
        write_json(self.root / stage_name / "stamp.json", {"skipped": "not for this scene"})
        for file in (self.root / stage_name).glob("*.np*"):
            file.unlink()

    def run(self, **options: Any) -> str:
        names = ("scene", "poses", "prior", "nerf", "render", "filter")
        folders = {name: self.root / name for name in names}
        return stage.run(ExportOptions(**{"no_mesh": True, **options}), out=self.root / "out", **folders)

    def points(self) -> FloatArray:
        return np.asarray(loaded(self.root / "out" / "cloud.ply").vertices, np.float64)

    def header(self) -> str:
        data = (self.root / "out" / "cloud.ply").read_bytes()
        return data[: data.index(b"end_header")].decode("ascii")

    def _write(self, side: Side, name: str, depth: FloatArray) -> None:
        depth = depth.astype(np.float32)
        known = np.ones_like(depth)
        known[:10] = 0.2  # the uppermost rows are not to be trusted
        rgb = self.scene.image(side, name)
        save_maps(self.root / "prior", side, name, depth_mm=depth, confidence=known)
        maps = {"rgb": rgb, "depth_mm": depth, "depth_std_mm": 0 * depth, "opacity": known}
        save_maps(self.root / "render", side, name, **maps)
        save_maps(self.root / "filter", side, name, depth_mm=depth)


def test_points_of_a_voxel_become_their_mean_weighted_by_confidence() -> None:
    first = one([[0.2, 0.2, 0.2], [5.0, 5.0, 5.0]], [0.9, 0.5], grey=200)
    found = merge([first, one([[0.6, 0.2, 0.2]], [0.3], grey=100)], 1.0)
    assert len(found.points_world) == 2
    order = np.argsort(found.points_world[:, 0])
    # (0.9 * 0.2 + 0.3 * 0.6) / 1.2 = 0.3, (0.9 * 200 + 0.3 * 100) / 1.2 = 175
    np.testing.assert_allclose(found.points_world[order], [[0.3, 0.2, 0.2], [5.0, 5.0, 5.0]])
    np.testing.assert_array_equal(found.colours[order][0], [175] * 3)
    np.testing.assert_allclose(found.confidence[order], [0.9, 0.5])
    np.testing.assert_allclose(found.normals_world, np.array([[0.0, 0.0, -1.0]] * 2))


def test_merged_normals_have_unit_length() -> None:
    tilted = Cloud(np.zeros((2, 3)) + 0.5, np.eye(3)[:2], np.zeros((2, 3), np.uint8), np.ones(2))
    np.testing.assert_allclose(merge([tilted], 1.0).normals_world, [[0.5**0.5, 0.5**0.5, 0]])


def test_voxels_are_the_same_on_both_sides_of_zero() -> None:
    found = merge([one([[-0.4, 0.1, 0.1], [0.4, 0.1, 0.1]], [1, 1])], 1.0)
    assert len(found.points_world) == 2, "-0.4 and 0.4 lie in different voxels"


def test_points_without_any_confidence_stay_where_they_are() -> None:
    found = merge([one([[0.2, 0.2, 0.2], [0.4, 0.2, 0.2]], [0.0, 0.0])], 1.0)
    np.testing.assert_allclose(found.points_world, [[0.3, 0.2, 0.2]])
    assert found.confidence[0] == 0.0


def test_nothing_merges_to_nothing() -> None:
    empty = one([[0.0, 0.0, 0.0]], [1.0])
    nothing = Cloud(empty.points_world[:0], empty.normals_world[:0], empty.colours[:0], empty.confidence[:0])
    assert len(merge([nothing, nothing], 1.0).points_world) == 0


@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, -30, 10)])
def test_normals_of_a_plane_point_to_the_camera(degrees: tuple[float, float, float]) -> None:
    camera = Camera(90.0, 95.0, 31.5, 23.5, *SIZE)
    normal = turn(degrees) @ NORMAL
    depth = render(Plane((normal[0], normal[1], normal[2]), 80.0), camera, np.eye(4)).depth_mm
    found = normals_from_depth(depth, camera.matrix)
    np.testing.assert_allclose(found[1:-1, 1:-1], np.broadcast_to(-normal, (46, 62, 3)), atol=1e-6)


def test_normals_beside_unknown_depth_are_unknown() -> None:
    depth = np.full((8, 8), 80.0)
    depth[4, 4] = np.nan
    found = normals_from_depth(depth, np.diag([90.0, 90.0, 1.0]))
    assert np.isnan(found[4, 3]).all()
    assert np.isfinite(found[2, 2]).all()


def test_a_ply_comes_back_from_another_program(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points, normals = rng.normal(size=(50, 3)) * 40, rng.normal(size=(50, 3))
    colours, confidence = rng.integers(0, 255, (50, 3), dtype=np.uint8), rng.uniform(size=50)
    write_ply(tmp_path / "a.ply", points, normals, colours, confidence, ["unit mm", "frame world"])
    found = loaded(tmp_path / "a.ply")
    np.testing.assert_allclose(found.vertices, points, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(found.colors)[:, :3], colours)
    raw = found.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(np.ravel(raw["confidence"]), confidence, rtol=1e-6)
    np.testing.assert_allclose(np.ravel(raw["ny"]), normals[:, 1], rtol=1e-6)
    header = (tmp_path / "a.ply").read_bytes().split(b"end_header")[0].decode()
    assert "comment unit mm\n" in header
    assert "element vertex 50\n" in header


def test_exported_points_lie_on_the_surface_in_the_world(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    summary = folders.run()
    points = folders.points()
    assert len(points) > 1500
    assert summary.startswith(f"{len(points)} points, ")
    # merging averages points of one plane: they stay on it
    assert np.abs(points @ NORMAL - 80.0 / np.linalg.norm(PLANE.normal)).max() < 1e-3
    raw = loaded(tmp_path / "out" / "cloud.ply").metadata["_ply_raw"]["vertex"]["data"]
    normals = np.stack([np.ravel(raw[name]) for name in ("nx", "ny", "nz")], axis=1)
    np.testing.assert_allclose(normals, np.broadcast_to(-NORMAL, normals.shape), atol=1e-3)
    header = folders.header()
    assert "comment unit mm\n" in header
    assert "comment from filtered depth of the field\n" in header
    assert "confidence in [0, 1]" in header
    assert read_rgb(tmp_path / "out" / "cloud.png").shape == (480, 1440, 3)


def test_without_a_field_the_prior_is_exported(tmp_path: Path) -> None:
    folders = Folders(tmp_path, rendered=False)
    folders.run()
    assert "comment from fused prior\n" in folders.header()
    assert np.abs(folders.points() @ NORMAL - 80.0 / np.linalg.norm(PLANE.normal)).max() < 1e-3


def test_a_single_pair_is_exported_in_the_frame_of_its_left_eye(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=1, rendered=False)
    folders.run()
    assert np.abs(folders.points() @ NORMAL - 80.0 / np.linalg.norm(PLANE.normal)).max() < 1e-3
    assert "comment unit mm\n" in folders.header()


def test_a_cloud_without_a_scale_says_so(tmp_path: Path) -> None:
    folders = Folders(tmp_path, metric=False)
    assert folders.run().endswith(ARBITRARY_UNITS)
    assert f"comment unit {ARBITRARY_UNITS}\n" in folders.header()


def test_points_of_little_confidence_are_left_out(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=1, rendered=False)
    folders.run()
    few = len(folders.points())
    folders.run(cloud_min_confidence=0.1)
    assert len(folders.points()) > few
    folders.run(cloud_min_confidence=0.0, cloud_voxel=5.0)
    assert np.isfinite(folders.points()).all()
    assert len(folders.points()) < few / 4
    with pytest.raises(InputError, match="no point is left"):
        folders.run(cloud_min_confidence=1.1)


def test_surfaces_seen_obliquely_are_left_out(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=1, rendered=False)
    folders.run(cloud_voxel=0.01)
    every = folders.points()
    folders.run(cloud_max_angle=15.0, cloud_voxel=0.01)
    steep = folders.points()
    cosine = every @ NORMAL / np.linalg.norm(every, axis=1)
    assert (cosine > np.cos(np.radians(15))).sum() == len(steep)
    assert 0 < len(steep) < 0.8 * len(every)
    with pytest.raises(InputError, match="no point is left"):
        folders.run(cloud_max_angle=0.0)


def test_without_any_depth_there_is_nothing_to_export(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=1, rendered=False)
    folders.skip("prior")
    with pytest.raises(NotApplicable, match="not for this scene"):
        folders.run()
