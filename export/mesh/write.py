"""The mesh of the tissue: fused, cleaned, coloured, textured, and written with a record of what it is."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from export.mesh.atlas import PADDING_PX, texels, unfold
from export.mesh.files import MATERIAL, TEXTURE, Coloured, write_glb, write_obj
from export.mesh.fusion import Grid, Volume, extent, fuse
from export.mesh.light import Light
from export.mesh.medical_volume import write_mha
from export.mesh.point_colours import Looks, filled, look, padded, to_bytes
from export.mesh.surface import Mesh, decimated, extract, smoothed, without_degenerate, without_specks
from export.picture import mesh_picture
from export.sights import FRAME, Sights
from utils.artifacts import file_hash, write_json
from utils.errors import InputError
from utils.images import write_rgb
from utils.options import option
from utils.ply import write_ply

METHODS, TEXTURES = ("tsdf", "density"), ("shaded", "albedo", "none")
MESH_METHOD = (
    "where the mesh comes from: tsdf, fused rendered depth; or density, a level of the field, which is biased"
)
COVERAGE = "texture_coverage.png"
# Of a pixel's footprint at the working distance.
VOXEL_FOOTPRINTS, TEXEL_FOOTPRINTS = 1.5, 0.5
DENSITY_WARNING = (
    "cut out of the field at a level, not fused from rendered depth: biased towards the cameras or away from them "
    "by up to the field's blur, and rough where few rays passed; measure on --mesh_method tsdf"
)

LIMITS = {
    "mesh_voxel": (0.0, np.inf),
    "mesh_min_views": (1, np.inf),
    "mesh_min_confidence": (0.0, 1.0),
    "mesh_max_angle": (1.0, 89.0),
    "mesh_min_piece": (0.0, 1.0),
    "mesh_smooth": (0, np.inf),
    "mesh_faces": (0, np.inf),
    "texture_texel": (0.0, np.inf),
}

log = logging.getLogger("specula")


@dataclass(frozen=True)
class MeshOptions:
    """How the mesh and its texture are made."""

    no_mesh: bool = option(False, "export the point cloud alone")
    mesh_method: str = option("tsdf", MESH_METHOD, choices=METHODS)
    mesh_voxel: float = option(0.0, "side of a voxel of the mesh, mm; 0: 1.5 footprints of a pixel")
    mesh_min_views: int = option(2, "the mesh is left open where fewer views saw the surface")
    mesh_min_confidence: float = option(0.3, "pixels below this confidence do not enter the mesh")
    mesh_max_angle: float = option(80.0, "surfaces seen more obliquely than this, degrees, do not enter the mesh")
    mesh_min_piece: float = option(0.02, "pieces smaller than this share of the largest one are left out")
    mesh_smooth: int = option(0, "rounds of Taubin's smoothing")
    mesh_faces: int = option(0, "decimate the mesh to this many triangles; 0: keep all")
    texture: str = option("shaded", "the tissue as it is lit, or without the lamp's fall-off", choices=TEXTURES)
    texture_texel: float = option(0.0, "side of a texel, mm; 0: half the footprint of a pixel")
    volume_mha: bool = option(False, "write volume.mha too: distances to the surface, for planning systems")


def check(options: MeshOptions) -> None:
    """Raise InputError for options that no mesh can be made with."""
    for name, (least, most) in LIMITS.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise InputError(
                f"--{name} {value:g} is no option of a mesh",
                found=f"{value:g}",
                expected=f"a number from {least:g} to {most:g}" if most < np.inf else f"{least:g} or more",
                do="correct the flag",
            )
    if options.no_mesh and options.volume_mha:
        raise InputError(
            "--volume_mha belongs to the mesh",
            found="--volume_mha and --no_mesh",
            expected="one of them",
            do="leave one out",
        )


def write_mesh(options: MeshOptions, sights: Sights, light: Light | None, render: Path, out: Path) -> str:
    """Write the mesh in all its formats, `mesh.json` with what it is, and pictures; return a summary.

    Where no surface can be made `mesh.json` says why, under `left_out`, and nothing else is written.
    """
    try:
        volume, footprint_mm = _volume(options, sights, render)
        coloured = _surface(options, sights, volume)
    except InputError as error:
        log.warning("export: no mesh: %s", str(error).replace("\n", "; "))
        write_json(out / "mesh.json", {"left_out": str(error)})
        return "no mesh"
    record = _record(options, sights, volume, coloured.mesh)
    if options.texture != "none":
        coloured, coverage = _textured(options, sights, light, coloured, volume, footprint_mm)
        record["texture"] = {"kind": options.texture, **_coverage_record(coverage, light, options)}
        write_rgb(out / COVERAGE, np.repeat((255 * (coverage > 0)).astype(np.uint8)[..., None], 3, axis=2))
    _write(coloured, sights, record, out)
    if options.volume_mha:
        write_mha(out / "volume.mha", volume, sights.unit)
    names = ("mesh.ply", "mesh.obj", MATERIAL, TEXTURE, "mesh.glb", "volume.mha")
    record["sha256_16"] = {name: file_hash(out / name) for name in names if (out / name).exists()}
    write_json(out / "mesh.json", record)
    return f"mesh of {len(coloured.mesh.faces)} triangles, {coloured.mesh.area_mm2 / 100:.1f} {_area(sights)}"


def _area(sights: Sights) -> str:
    return "cm²" if sights.metric else "hundred square units"


def _volume(options: MeshOptions, sights: Sights, render: Path) -> tuple[Volume, float]:
    """Return the volume that the mesh is cut out of, and the footprint of a pixel, mm."""
    limits = options.mesh_min_confidence, options.mesh_max_angle
    low, high, footprint_mm = extent(sights, *limits)
    if not np.isfinite(footprint_mm):
        raise InputError(
            "there is no depth to make a mesh of",
            found="no tissue pixel that is sure enough and faces its camera",
            expected="some",
            do="lower --mesh_min_confidence, or look at the maps of `render` and `filter`",
        )
    if options.mesh_method == "tsdf":
        voxel = options.mesh_voxel or VOXEL_FOOTPRINTS * footprint_mm
        grid = Grid.around(low - 3 * voxel, high + 3 * voxel, voxel)
        if grid.voxel_mm > voxel:
            log.warning("export: voxels of %.3g would be too many, %.3g taken", voxel, grid.voxel_mm)
        return fuse(sights, grid, *limits), footprint_mm
    log.warning("export: the mesh is %s", DENSITY_WARNING)
    values, grid = read_level_set(render)
    seen = fuse(sights, grid, *limits)
    return Volume(grid, np.where(np.isfinite(seen.distance_mm), values, np.nan), seen.views), footprint_mm


def read_level_set(render: Path) -> tuple[NDArray[np.float32], Grid]:
    """Return the field's distances that the stage `render` wrote for `--mesh_method density`, and their grid."""
    path = render / "field_volume.npz"
    if not path.exists():
        raise InputError(
            "--mesh_method density has no field to cut",
            found=f"no {path.name} from the stage render",
            expected="a trained field",
            do="take --mesh_method tsdf, which needs depth alone",
        )
    with np.load(path) as file:
        values = file["distance_mm"]
        return values, Grid(file["origin"], float(file["voxel_mm"]), values.shape)


def _surface(options: MeshOptions, sights: Sights, volume: Volume) -> Coloured:
    """Return the cleaned mesh with colours and confidence of its vertices."""
    views = min(options.mesh_min_views, len(sights))
    if views < options.mesh_min_views:
        log.warning(
            "export: --mesh_min_views %d: there are %d views, all are asked for", options.mesh_min_views, views
        )
    mesh = without_specks(without_degenerate(extract(volume, views)), options.mesh_min_piece)
    tolerance = volume.grid.truncation_mm
    # Back sheets and what hides behind the surface: no view looks at their front.
    looks = look(sights, mesh.vertices, mesh.normals, tolerance, None)
    seen = np.asarray((looks.views[mesh.faces] >= views).any(axis=1))
    mesh = without_specks(mesh.chosen(seen), options.mesh_min_piece)
    mesh = decimated(smoothed(mesh, options.mesh_smooth), options.mesh_faces)
    if options.mesh_faces and len(mesh.faces) > options.mesh_faces:
        log.warning("export: --mesh_faces %d: the mesh keeps %d triangles", options.mesh_faces, len(mesh.faces))
    if not len(mesh.faces):
        raise InputError(
            "nothing of the mesh is left",
            found="no triangle whose front enough views see",
            expected="some",
            do="lower --mesh_min_views",
        )
    looks = look(sights, mesh.vertices, mesh.normals, tolerance, None)
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    return Coloured(mesh, to_bytes(filled(looks.colours, edges)), looks.confidence)


def _textured(
    options: MeshOptions,
    sights: Sights,
    light: Light | None,
    coloured: Coloured,
    volume: Volume,
    footprint_mm: float,
) -> tuple[Coloured, NDArray[np.int64]]:
    """Return the mesh with its texture, and how many views gave each texel its colour, -1 outside the charts."""
    atlas = unfold(coloured.mesh, options.texture_texel or TEXEL_FOOTPRINTS * footprint_mm)
    where = texels(atlas)
    if options.texture == "albedo" and light is None:
        log.warning("export: no lamp was learned: --texture albedo leaves the light in")
    lamp = light if options.texture == "albedo" else None
    looks: Looks = look(sights, where.points_world, where.normals_world, volume.grid.truncation_mm, lamp)
    picture = np.full((*where.inside.shape, 3), 128, np.uint8)
    picture[where.inside] = to_bytes(looks.colours)
    coverage = np.full(where.inside.shape, -1, np.int64)
    coverage[where.inside] = looks.plain
    # Texels that no view saw take the nearest colour: the coverage map tells them apart.
    known, reach = coverage > 0, PADDING_PX
    if known.any():
        picture = padded(picture, known, max(picture.shape))
        picture = np.where((padded_mask(where.inside, reach))[..., None], picture, 128).astype(np.uint8)
    return dataclasses.replace(coloured, atlas=atlas, texture=picture), coverage


def padded_mask(inside: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """Return the charts (h, w) with so many texels around them."""
    size = 2 * reach_px + 1
    return np.asarray(cv2.dilate(inside.astype(np.uint8), np.ones((size, size), np.uint8)) > 0)


def _coverage_record(coverage: NDArray[np.int64], light: Light | None, options: MeshOptions) -> dict[str, Any]:
    charts = coverage >= 0
    divided = options.texture == "albedo" and light is not None
    return {
        "size_px": [coverage.shape[1], coverage.shape[0]],
        "texels": int(charts.sum()),
        "share_seen": round(float((coverage[charts] > 0).mean()), 4) if charts.any() else 0.0,
        "light_divided_out": divided,
        "coverage": f"{COVERAGE}: white where a view gave the colour, black where none did or outside the charts",
    }


def _record(options: MeshOptions, sights: Sights, volume: Volume, mesh: Mesh) -> dict[str, Any]:
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    record: dict[str, Any] = {
        "unit": sights.unit,
        "metric": sights.metric,
        "frame": FRAME,
        "from": sights.source if options.mesh_method == "tsdf" else "a level of the field",
        "method": options.mesh_method,
        "voxel_mm": volume.grid.voxel_mm,
        "truncation_mm": volume.grid.truncation_mm,
        "grid": {"origin": volume.grid.origin.tolist(), "shape": list(volume.grid.shape)},
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.faces),
        "area_mm2": mesh.area_mm2,
        "bounds": [low.tolist(), high.tolist()],
        "views": [f"{side}_{name}" for side, name in sights.views],
        "confidence": "per vertex, in [0, 1], 1 best: mean over the views that see it",
    }
    return record | ({"warning": DENSITY_WARNING} if options.mesh_method == "density" else {})


def _write(coloured: Coloured, sights: Sights, record: dict[str, Any], out: Path) -> None:
    mesh = coloured.mesh
    comments = [f"unit {sights.unit}", f"frame {FRAME}", f"from {record['from']}"]
    told = [*comments, "confidence in [0, 1], 1 best"]
    write_ply(
        out / "mesh.ply", mesh.vertices, mesh.normals, coloured.colours, coloured.confidence, told, mesh.faces
    )
    write_obj(out / "mesh.obj", coloured, comments)
    write_glb(out / "mesh.glb", coloured, {"unit_of_world": sights.unit, "frame_of_world": FRAME})
    write_rgb(out / "mesh.png", mesh_picture(mesh, coloured.colours))
