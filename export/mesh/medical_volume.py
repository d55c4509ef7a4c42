"""Write a volume as MetaImage (.mha), the format of ITK, 3D Slicer and planning systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.mesh.fusion import Volume

UNSEEN = -9999.0


def write_mha(path: Path, volume: Volume, unit: str) -> None:
    """Write the distances to the surface with their true spacing and origin, x fastest.

    Float32, mm, positive on the cameras' side; -9999 where no view saw anything. The axes are those of our world
    (x right, y down, z forward of the first left camera), not those of a patient: a registration says those.
    """
    grid, values = volume.grid, volume.distance_mm
    filled = np.where(np.isfinite(values), values, np.float32(UNSEEN)).astype("<f4")
    numbers = " ".join(f"{value:.9g}" for value in grid.origin)
    header = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = False",
        "TransformMatrix = 1 0 0 0 1 0 0 0 1",
        f"Offset = {numbers}",
        "CenterOfRotation = 0 0 0",
        "ElementSpacing = " + " ".join([f"{grid.voxel_mm:.9g}"] * 3),
        "DimSize = " + " ".join(str(count) for count in grid.shape),
        f"Comment = distance to the surface in {unit}, positive towards the cameras, {UNSEEN:g} unseen",
        "ElementType = MET_FLOAT",
        "ElementDataFile = LOCAL",
    ]
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        for layer in range(grid.shape[2]):  # z slowest
            file.write(np.ascontiguousarray(filled[:, :, layer].T).tobytes())
