"""Make the README picture of a run: `PYTHONPATH=. python docs/example_picture.py logs/phantom OUT.png`."""

import sys
from pathlib import Path

import cv2
import numpy as np

from utils.artifacts import load_maps
from utils.images import colour_depth, read_rgb, write_rgb
from utils.scene import Scene


def main(run: Path, out: Path) -> None:
    """Put image, render and depth of the middle held-out frame above the mesh."""
    scene = Scene.load(run / "scene")
    name = scene.test[len(scene.test) // 2]
    maps = load_maps(run / "render", "left", name)
    depth = np.where(maps["opacity"] >= 0.5, maps["depth_mm"], np.nan)
    depth[~scene.masks("left", name)[0]] = np.nan
    top = np.hstack([scene.image("left", name), maps["rgb"], colour_depth(depth)])
    mesh = read_rgb(run / "export" / "mesh.png")
    height = round(mesh.shape[0] * top.shape[1] / mesh.shape[1])
    bottom = cv2.resize(mesh, (top.shape[1], height), interpolation=cv2.INTER_AREA)
    write_rgb(out, np.vstack([top, np.asarray(bottom, np.uint8)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
