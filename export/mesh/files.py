"""Write a mesh with its texture for other programs: OBJ with MTL and picture, and GLB."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.mesh.atlas import Atlas
from export.mesh.surface import Mesh
from utils.images import write_rgb

TEXTURE, MATERIAL = "texture_kd.png", "mesh.mtl"
# glTF wants metres and y up; ours are mm, y down: x stays, y and z turn about it.
GLTF_FROM_WORLD = np.diag([1e-3, -1e-3, -1e-3, 1.0])


@dataclass(frozen=True)
class Coloured:
    """A mesh with colours (n, 3) and confidence (n,) of its vertices, and, where one was baked, a texture."""

    mesh: Mesh
    colours: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    atlas: Atlas | None = None
    texture: NDArray[np.uint8] | None = None


def write_obj(path: Path, coloured: Coloured, comments: Iterable[str]) -> None:
    """Write OBJ in the world's frame and unit, with `mesh.mtl` and `texture_kd.png` beside it.

    Without a texture the vertices' colours stand behind their coordinates, as many programs read them.
    """
    mesh, atlas = coloured.mesh, coloured.atlas
    lines = [f"# {text}" for text in comments]
    faces = mesh.faces + 1
    with open(path, "w", encoding="ascii") as file:
        if atlas is None or coloured.texture is None:
            file.write("\n".join(lines) + "\n")
            np.savetxt(
                file, np.hstack([mesh.vertices, coloured.colours / 255.0]), "v %.5f %.5f %.5f %.4f %.4f %.4f"
            )
            np.savetxt(file, mesh.normals, "vn %.5f %.5f %.5f")
            np.savetxt(file, np.repeat(faces, 2, axis=1), "f %d//%d %d//%d %d//%d")
            return
        write_rgb(path.parent / TEXTURE, coloured.texture)
        (path.parent / MATERIAL).write_text(
            f"newmtl tissue\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {TEXTURE}\n", encoding="ascii"
        )
        file.write("\n".join([*lines, f"mtllib {MATERIAL}", "usemtl tissue"]) + "\n")
        np.savetxt(file, mesh.vertices, "v %.5f %.5f %.5f")
        np.savetxt(file, atlas.uv, "vt %.6f %.6f")
        np.savetxt(file, mesh.normals, "vn %.5f %.5f %.5f")
        places, corners = atlas.faces + 1, atlas.vertex[atlas.faces] + 1
        numbers = np.stack([corners, places, corners], axis=-1).reshape(-1, 9)
        np.savetxt(file, numbers, "f %d/%d/%d %d/%d/%d %d/%d/%d")


def write_glb(path: Path, coloured: Coloured, extras: dict[str, Any]) -> None:
    """Write GLB in metres, y up; `extras` stand in the asset, with the matrix back to our frame."""
    import trimesh

    mesh, atlas = coloured.mesh, coloured.atlas
    vertex = np.arange(len(mesh.vertices)) if atlas is None else atlas.vertex
    turn = GLTF_FROM_WORLD[:3, :3]
    visual: Any
    if atlas is None or coloured.texture is None:
        visual = trimesh.visual.ColorVisuals(vertex_colors=coloured.colours)
    else:
        material = trimesh.visual.material.PBRMaterial(
            name="tissue",
            baseColorTexture=Image.fromarray(coloured.texture),
            metallicFactor=0.0,
            roughnessFactor=1.0,
            doubleSided=True,
        )
        visual = trimesh.visual.TextureVisuals(uv=atlas.uv, material=material)
    solid = trimesh.Trimesh(
        vertices=(mesh.vertices @ turn)[vertex],
        faces=mesh.faces if atlas is None else atlas.faces,
        vertex_normals=(mesh.normals @ (turn / 1e-3))[vertex],
        visual=visual,
        process=False,
    )
    solid.metadata["name"] = "tissue"
    back = np.linalg.inv(GLTF_FROM_WORLD)
    told = extras | {"world_from_gltf": [[round(float(value), 9) for value in row] for row in back]}

    def tell(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = told

    path.write_bytes(
        trimesh.exchange.gltf.export_glb(trimesh.Scene(solid), include_normals=True, tree_postprocessor=tell)
    )
