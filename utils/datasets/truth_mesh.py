"""Hand on a dataset's true surface as the file that the evaluation looks for, with the cameras in its world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from utils.artifacts import write_npz
from utils.datasets.source import Source
from utils.errors import InputError

MESH, POSES = "truth_mesh.ply", "truth_poses.npz"


def write_truth_mesh(source: Source, folder: Path) -> None:
    """Write the true mesh and the poses in its world, both in mm; nothing where the source has no mesh.

    Raises:
        InputError: the mesh cannot be read.
    """
    if source.truth_mesh is None or source.world_from_left is None:
        return
    import trimesh

    try:
        mesh: Any = trimesh.load(source.truth_mesh, force="mesh", process=False)
        if not len(mesh.faces):
            raise ValueError("no triangles")
        plain = trimesh.Trimesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), process=False)
    except Exception as error:  # trimesh raises nearly everything for a broken file
        raise InputError(
            f"{source.truth_mesh} cannot be read as a mesh",
            found=f"{type(error).__name__}: {error}",
            expected="vertices and triangles, mm, in the world of the poses",
            do="get the file again, or take it away: the surface is then scored against depth maps",
        ) from error
    plain.export(folder / MESH)
    names = np.array([frame.name for frame in source.frames], dtype=np.str_)
    write_npz(folder / POSES, names=names, world_from_left=source.world_from_left)
