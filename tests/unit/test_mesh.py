"""The mesh: on the surface, open where nothing was seen, facing the cameras, coloured, readable elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from export.cloud import Cloud, merge
from export.mesh.atlas import unfold
from export.mesh.fusion import Grid, Volume, extent, fuse
from export.mesh.medical_volume import UNSEEN, write_mha
from export.mesh.point_colours import look
from export.mesh.surface import Mesh, decimated, extract, smoothed, without_degenerate, without_specks
from export.sights import Sights
from export.stage import READS
from tests.unit.test_cloud import NORMAL, PLANE, Folders
from utils.artifacts import load_maps, save_maps, write_json
from utils.errors import InputError
from utils.images import read_rgb, write_rgb
from utils.types import ARBITRARY_UNITS, FloatArray

EVERYTHING = {"no_mesh": False, "mesh_voxel": 1.5, "cloud_voxel": 2.0}


def off_plane(points: FloatArray) -> FloatArray:
    """Return the distance (n,) of points from the plane that the folders show, mm."""
    return np.asarray((points @ np.array(PLANE.normal) - PLANE.offset_mm) / np.linalg.norm(PLANE.normal))


def read(root: Path) -> Any:
    return trimesh.load(root / "out" / "mesh.ply", process=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders = Folders(tmp_path_factory.mktemp("mesh"), frames=3)
    summary = folders.run(**EVERYTHING, volume_mha=True)
    assert "triangles" in summary
    return folders.root


def test_the_mesh_lies_on_the_surface_and_faces_the_cameras(exported: Path) -> None:
    mesh = read(exported)
    assert len(mesh.faces) > 500
    assert np.abs(off_plane(mesh.vertices)).max() < 0.1
    assert (mesh.face_normals @ -NORMAL > 0.9).all()


def test_every_format_holds_the_same_surface(exported: Path) -> None:
    out, mesh = exported / "out", read(exported)
    obj: Any = trimesh.load(out / "mesh.obj", process=False)
    scene: Any = trimesh.load(out / "mesh.glb")
    glb = next(iter(scene.geometry.values()))
    assert obj.area == pytest.approx(mesh.area, rel=1e-4)
    assert glb.area == pytest.approx(mesh.area * 1e-6, rel=1e-4)
    back = np.array(json.loads(_chunk(out / "mesh.glb"))["asset"]["extras"]["world_from_gltf"])
    ours = glb.vertices @ back[:3, :3].T + back[:3, 3]
    np.testing.assert_allclose(np.sort(ours.min(0)), np.sort(mesh.vertices.min(0)), atol=1e-2)
    # Metres, y up: what lies low in the image lies low there.
    assert glb.vertices[:, 1].max() == pytest.approx(-1e-3 * mesh.vertices[:, 1].min(), abs=1e-5)
    record = json.loads((out / "mesh.json").read_text())
    assert record["unit"] == "mm"
    assert record["area_mm2"] == pytest.approx(mesh.area, rel=1e-4)
    assert set(record["sha256_16"]) >= {"mesh.ply", "mesh.obj", "mesh.mtl", "texture_kd.png", "mesh.glb"}


def _chunk(path: Path) -> bytes:
    data = path.read_bytes()
    return data[20 : 20 + int.from_bytes(data[12:16], "little")]


def test_confidence_and_unit_stand_in_the_ply(exported: Path) -> None:
    data = (exported / "out" / "mesh.ply").read_bytes()
    head = data[: data.index(b"end_header")].decode("ascii")
    assert "comment unit mm" in head
    assert "property float confidence" in head
    confidence = read(exported).metadata["_ply_raw"]["vertex"]["data"]["confidence"]
    assert 0.3 < float(np.median(confidence)) <= 1.0


def test_the_texture_shows_what_the_images_show(exported: Path) -> None:
    mesh: Any = trimesh.load(exported / "out" / "mesh.obj", process=False)
    picture = np.asarray(mesh.visual.material.image)
    size = np.array([picture.shape[1], picture.shape[0]])
    place = np.column_stack([mesh.visual.uv[:, 0], 1.0 - mesh.visual.uv[:, 1]]) * size - 0.5
    baked = picture[tuple(np.clip(np.rint(place).astype(int), 0, size - 1).T[::-1])].astype(float)
    sight = next(iter(sights(exported)))
    camera = sight.camera
    points = (mesh.vertices - sight.world_from_camera[:3, 3]) @ sight.world_from_camera[:3, :3]
    columns = camera.fx * points[:, 0] / points[:, 2] + camera.cx
    rows = camera.fy * points[:, 1] / points[:, 2] + camera.cy
    inside = (columns > 3) & (columns < camera.width - 4) & (rows > 13) & (rows < camera.height - 4)
    assert inside.sum() > 100
    seen = cv2.remap(
        sight.image, columns[inside].astype(np.float32)[None], rows[inside].astype(np.float32)[None], 1
    )
    assert np.median(np.abs(seen[0].astype(float) - baked[inside])) < 12
    wrong = np.median(np.abs(seen[0][::-1].astype(float) - baked[inside]))
    assert wrong > 20


def sights(root: Path) -> Sights:
    scene, poses, prior, nerf, render, filter = (root / name for name in READS)
    return Sights.find(scene, poses, prior, nerf, render, filter)


def test_the_coverage_map_marks_texels_without_a_view(exported: Path) -> None:
    coverage = read_rgb(exported / "out" / "texture_coverage.png")[..., 0]
    assert coverage.shape == read_rgb(exported / "out" / "texture_kd.png").shape[:2]
    share = json.loads((exported / "out" / "mesh.json").read_text())["texture"]["share_seen"]
    assert 0.5 < share <= 1.0
    assert set(np.unique(coverage)) <= {0, 255}


def test_a_planning_system_gets_true_spacing_and_origin(exported: Path) -> None:
    header, origin, spacing, values = read_mha(exported / "out" / "volume.mha")
    assert header["ElementType"] == "MET_FLOAT"
    nx, ny, nz = values.shape
    grid = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), np.arange(nz), indexing="ij"), axis=-1)
    points = origin + spacing * grid
    near = np.abs(values) < 1.0
    assert near.sum() > 100
    np.testing.assert_allclose(values[near], -off_plane(points[near]), atol=0.25)


def read_mha(path: Path) -> tuple[dict[str, str], FloatArray, FloatArray, FloatArray]:
    """Read a MetaImage as its documentation says, not by our code."""
    data = path.read_bytes()
    end = data.index(b"ElementDataFile = LOCAL\n") + len(b"ElementDataFile = LOCAL\n")
    header = dict(line.split(" = ") for line in data[:end].decode("ascii").splitlines())
    shape = [int(word) for word in header["DimSize"].split()]
    values = np.frombuffer(data[end:], "<f4").reshape(shape, order="F")
    numbers = [np.array(header[key].split(), float) for key in ("Offset", "ElementSpacing")]
    return header, numbers[0], numbers[1], values


def test_unseen_voxels_are_marked_in_the_volume(tmp_path: Path) -> None:
    distance = np.full((3, 4, 5), np.nan, np.float32)
    distance[2, 1, 3] = 0.25
    write_mha(
        tmp_path / "v.mha",
        Volume(Grid(np.zeros(3), 0.5, (3, 4, 5)), distance, np.ones((3, 4, 5), np.uint16)),
        "mm",
    )
    _, _, _, values = read_mha(tmp_path / "v.mha")
    assert values[2, 1, 3] == 0.25
    assert (values == UNSEEN).sum() == 59


def test_the_surface_is_open_where_nothing_was_seen(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=2)
    whole = folders.run(**EVERYTHING)
    area = read(tmp_path).area
    for view in sights(tmp_path).views:
        depth = load_maps(tmp_path / "filter", *view)["depth_mm"]
        depth[:, : depth.shape[1] // 2] = np.nan
        save_maps(tmp_path / "filter", *view, depth_mm=depth)
    folders.run(**EVERYTHING)
    assert whole
    assert read(tmp_path).area < 0.75 * area
    assert np.abs(off_plane(read(tmp_path).vertices)).max() < 0.3


def test_one_view_that_disagrees_makes_no_sheet(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=3)
    view = sights(tmp_path).views[1]
    depth = load_maps(tmp_path / "filter", *view)["depth_mm"]
    depth[15:25, 20:35] += 12.0
    save_maps(tmp_path / "filter", *view, depth_mm=depth)
    folders.run(**EVERYTHING)
    assert np.abs(off_plane(read(tmp_path).vertices)).max() < 1.5


def test_without_a_scale_the_mesh_says_so(tmp_path: Path) -> None:
    Folders(tmp_path, metric=False).run(**EVERYTHING)
    record = json.loads((tmp_path / "out" / "mesh.json").read_text())
    assert record["unit"] == ARBITRARY_UNITS
    assert record["metric"] is False


def test_where_no_mesh_can_be_made_the_record_says_why(tmp_path: Path) -> None:
    summary = Folders(tmp_path).run(**EVERYTHING, mesh_min_confidence=1.0, mesh_max_angle=1.0)
    assert "no mesh" in summary
    assert "mesh_min_confidence" in json.loads((tmp_path / "out" / "mesh.json").read_text())["left_out"]
    assert not (tmp_path / "out" / "mesh.ply").exists()
    assert (tmp_path / "out" / "cloud.ply").exists()


def test_a_density_mesh_needs_a_field(tmp_path: Path) -> None:
    Folders(tmp_path).run(**EVERYTHING, mesh_method="density")
    assert "has no field to cut" in json.loads((tmp_path / "out" / "mesh.json").read_text())["left_out"]


@pytest.mark.parametrize(
    "wrong",
    [{"mesh_min_views": 0}, {"mesh_voxel": -1.0}, {"mesh_min_piece": 2.0}, {"volume_mha": True, "no_mesh": True}],
)
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    from export import stage

    with pytest.raises(InputError, match=f"--{next(iter(wrong))}"):
        stage.check(stage.ExportOptions(**wrong))  # type: ignore[arg-type]


def ball(cells: int = 40, radius: float = 12.0) -> Volume:
    axis = np.arange(cells) - cells / 2 + 0.3
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = (np.sqrt(x * x + y * y + z * z) - radius).astype(np.float32)
    grid = Grid(np.full(3, float(axis[0])), 1.0, (cells, cells, cells))
    return Volume(grid, distance, np.full(distance.shape, 5, np.uint16))


def test_a_ball_is_round_and_its_normals_look_outwards() -> None:
    mesh = extract(ball(), 2)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 12.0).max() < 0.05
    assert ((mesh.normals * mesh.vertices).sum(1) > 11).all()
    assert mesh.area_mm2 == pytest.approx(4 * np.pi * 144, rel=0.01)


def test_cells_that_too_few_views_saw_are_cut_away() -> None:
    volume = ball()
    volume.views[:20] = 1
    mesh = extract(volume, 2)
    assert mesh.vertices[:, 0].min() >= volume.grid.origin[0] + 20 - 1e-6
    with pytest.raises(InputError, match="no surface"):
        extract(volume, 6)


def test_specks_go_and_large_pieces_stay() -> None:
    large, small = extract(ball(), 1), extract(ball(12, 2.0), 1)
    both = Mesh(
        np.concatenate([large.vertices, small.vertices + 50]),
        np.concatenate([large.faces, small.faces + len(large.vertices)]),
    )
    assert len(without_specks(both, 0.1).faces) == len(large.faces)
    assert len(without_specks(both, 0.001).faces) == len(both.faces)


def test_smoothing_takes_noise_and_leaves_size_and_border() -> None:
    mesh = without_degenerate(extract(ball(), 1))
    noisy = Mesh(mesh.vertices + np.random.default_rng(0).normal(0, 0.1, mesh.vertices.shape), mesh.faces)
    found = smoothed(noisy, 10)
    rough, calm = (np.linalg.norm(one.vertices, axis=1) for one in (noisy, found))
    assert calm.std() < 0.5 * rough.std()
    assert calm.mean() == pytest.approx(12.0, abs=0.05)
    half = mesh.chosen(mesh.vertices[mesh.faces].mean(1)[:, 2] > 0)
    edge = half.vertices[:, 2] < half.vertices[:, 2].min() + 0.4
    np.testing.assert_allclose(smoothed(half, 5).vertices[edge].mean(0), half.vertices[edge].mean(0), atol=0.1)


def test_decimation_keeps_the_shape() -> None:
    mesh = decimated(extract(ball(), 1), 1000)
    assert 500 < len(mesh.faces) <= 1000
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 12.0).max() < 0.4
    assert ((mesh.normals * mesh.vertices).sum(1) > 10).all()


def test_what_lies_behind_is_not_seen(exported: Path) -> None:
    found, mesh = sights(exported), read(exported)
    normals = np.tile(-NORMAL, (len(mesh.vertices), 1))
    on = look(found, mesh.vertices, normals, 1.0, None)
    behind = look(found, mesh.vertices + 10 * NORMAL, normals, 1.0, None)
    turned = look(found, mesh.vertices, -normals, 1.0, None)
    assert (on.views > 0).mean() > 0.95
    assert not behind.views.any()
    assert not turned.views.any()
    assert np.isnan(behind.colours).all()


def test_fusing_takes_the_weighted_mean(exported: Path) -> None:
    grid = Grid(np.array([-5.0, -5.0, 70.0]), 1.0, (11, 11, 25))
    volume = fuse(sights(exported), grid, 0.3, 75.0)
    places = np.stack(
        np.meshgrid(*(grid.origin[a] + np.arange(grid.shape[a]) for a in range(3)), indexing="ij"), -1
    )
    truth = -off_plane(places)
    near = np.isfinite(volume.distance_mm) & (np.abs(truth) < 2.0)
    assert near.sum() > 100
    np.testing.assert_allclose(volume.distance_mm[near], truth[near], atol=0.1)
    assert np.isnan(volume.distance_mm[truth < -6.0]).all()


def test_every_corner_lies_in_the_picture_and_no_triangle_crosses_other_charts(exported: Path) -> None:
    mesh: Any = trimesh.load(exported / "out" / "mesh.obj", process=False)
    check_corners(mesh.visual.uv, mesh.faces, mesh.vertices)


def check_corners(uv: FloatArray, faces: NDArray[np.int64], vertices: FloatArray) -> None:
    assert uv.min() >= 0
    assert uv.max() <= 1
    drawn = np.ptp(uv[faces], axis=1).max(axis=1)
    real = np.ptp(vertices[faces], axis=1).max(axis=1)
    assert (drawn <= 8 * np.median(drawn / np.maximum(real, 1e-9)) * real + 8 / 64).all()


def test_triangles_without_area_are_not_painted_over_others() -> None:
    mesh = without_degenerate(extract(ball(), 1))
    random = np.random.default_rng(0)
    chosen = random.choice(len(mesh.faces), 200, replace=False)
    vertices = mesh.vertices.copy()
    for face in mesh.faces[chosen]:
        vertices[face[2]] = 0.5 * (vertices[face[0]] + vertices[face[1]])  # a line, not a triangle
    atlas = unfold(Mesh(vertices, mesh.faces), 0.3)
    check_corners(atlas.uv, atlas.faces, vertices[atlas.vertex])
    assert len(atlas.faces) == len(mesh.faces)
    np.testing.assert_array_equal(atlas.vertex[atlas.faces], mesh.faces)


def test_a_patch_far_behind_has_no_say_in_the_size_of_voxels(tmp_path: Path) -> None:
    Folders(tmp_path, frames=2)
    before = extent(sights(tmp_path), 0.3, 75.0)
    view = sights(tmp_path).views[0]
    depth = load_maps(tmp_path / "filter", *view)["depth_mm"]
    depth[20:26, 20:26] *= 20.0
    save_maps(tmp_path / "filter", *view, depth_mm=depth)
    after = extent(sights(tmp_path), 0.3, 75.0)
    np.testing.assert_allclose(after[1] - after[0], before[1] - before[0], rtol=0.02)


def test_clouds_of_many_views_are_added_up_as_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    clouds = [
        Cloud(
            10 * random.random((50, 3)),
            random.normal(size=(50, 3)),
            np.full((50, 3), 10 * k, np.uint8),
            random.random(50),
        )
        for k in range(8)
    ]
    whole = merge(clouds, 2.0)
    monkeypatch.setattr("export.cloud.MOST_WAITING", 60)
    parts = merge(iter(clouds), 2.0)
    np.testing.assert_allclose(parts.points_world, whole.points_world)
    np.testing.assert_allclose(parts.confidence, whole.confidence)
    np.testing.assert_array_equal(parts.colours, whole.colours)


def test_albedo_is_the_tissue_without_the_lamp(tmp_path: Path) -> None:
    folders = Folders(tmp_path, frames=3)
    lamp, reference, falloff = np.array([3.0, -2.0, 5.0]), 80.0, 1.7
    gains = {name: 1.0 + 0.1 * index for index, name in enumerate(folders.scene.names)}
    for sight in sights(tmp_path):
        left = sight.points @ folders.scene.rig.left_from(sight.side)[:3, :3].T
        left += folders.scene.rig.left_from(sight.side)[:3, 3]
        lit = gains[sight.name] * (reference / np.linalg.norm(left - lamp, axis=-1)) ** falloff
        image = np.rint(255 * 0.4 * np.nan_to_num(lit)[..., None] * [1.0, 0.6, 0.5]).clip(0, 255).astype(np.uint8)
        write_rgb(folders.scene.image_path(sight.side, sight.name), image)
    write_json(tmp_path / "nerf" / "stamp.json", {"skipped": None})
    record = {
        "options": {"lamp": True},
        "training_positions": list(range(len(folders.scene.names))),
        "lamp_left_mm": lamp.tolist(),
        "reference_mm": reference,
        "falloff": falloff,
        "exposure": list(gains.values()),
    }
    write_json(tmp_path / "nerf" / "field.json", record)
    spreads = {}
    for kind in ("albedo", "shaded"):
        folders.run(**EVERYTHING, texture=kind)
        picture = read_rgb(tmp_path / "out" / "texture_kd.png").astype(float)
        known = read_rgb(tmp_path / "out" / "texture_coverage.png")[..., 0] > 0
        spreads[kind] = picture[known].std(axis=0).max()
        if kind == "albedo":
            np.testing.assert_allclose(np.median(picture[known], axis=0), [102, 61, 51], atol=3)
    assert spreads["albedo"] < 3
    assert spreads["shaded"] > 8
