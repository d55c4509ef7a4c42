"""Put a coloured mesh into a binary glTF that is shown with exactly its colours, whatever the lights are."""

from __future__ import annotations

import json
import struct

import numpy as np
from numpy.typing import NDArray

from export.shapes import Shape
from utils.types import FloatArray

FLOAT, UNSIGNED_INT = 5126, 5125  # component types, glTF 2.0 section 3.6.2.2
VERTICES, TRIANGLES = 34962, 34963  # buffer targets, section 5.11.5
_JSON, _BIN = 0x4E4F534A, 0x004E4942


def unlit_glb(shape: Shape, colours: NDArray[np.uint8]) -> bytes:
    """Return a GLB of a mesh in its own unit and axes, with vertex colours (n, 3) RGB and no lighting.

    Seen from both sides, by the extension KHR_materials_unlit. glTF's vertex colours are linear (section 3.7.2.1),
    images are not: they are converted.
    """
    points, linear = shape.points_world.astype("<f4"), linear_rgb(colours).astype("<f4")
    faces = shape.faces.astype("<u4")
    parts = [part.tobytes() for part in (points, linear, faces)]  # of four-byte numbers: all are aligned
    offsets = np.cumsum([0, *map(len, parts)]).tolist()
    targets = (VERTICES, VERTICES, TRIANGLES)
    record = {
        "asset": {"version": "2.0"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}]}],
        "materials": [
            {
                "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
                "doubleSided": True,
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "buffers": [{"byteLength": offsets[-1]}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": len(part), "target": target}
            for offset, part, target in zip(offsets, parts, targets, strict=False)
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": FLOAT,
                "count": len(points),
                "type": "VEC3",
                "min": points.min(axis=0).tolist(),
                "max": points.max(axis=0).tolist(),
            },
            {"bufferView": 1, "componentType": FLOAT, "count": len(points), "type": "VEC3"},
            {"bufferView": 2, "componentType": UNSIGNED_INT, "count": faces.size, "type": "SCALAR"},
        ],
    }
    text = json.dumps(record).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(parts)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(data))
    return head + struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", len(data), _BIN) + data


def linear_rgb(colours: NDArray[np.uint8]) -> FloatArray:
    """Return linear RGB in [0, 1] of sRGB colours (IEC 61966-2-1)."""
    share = colours.astype(float) / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
