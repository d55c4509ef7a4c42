"""A finished run made by hand, for the report page: a tilted plane, five stereo frames, known errors."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evaluation import stage
from evaluation.options import EvaluationOptions
from evaluation.report.run import Run, read_run
from utils.artifacts import save_maps, write_json
from utils.geometry import rigid
from utils.images import write_rgb
from utils.ply import write_ply
from utils.scene import Scene, save_poses
from utils.types import Camera, Poses, Rig, Side

WIDTH, HEIGHT = 48, 36
CAMERA = Camera(fx=50.0, fy=50.0, cx=23.5, cy=17.5, width=WIDTH, height=HEIGHT)
RIG = Rig(CAMERA, CAMERA, rigid(np.eye(3), np.array([-4.0, 0.0, 0.0])))
SIDES: tuple[Side, ...] = ("left", "right")
NAMES = ("a", "b", "c", "d", "e")
TEST = ("b", "d")
STAGES = ("matches", "poses", "stereo", "prior", "nerf", "render", "filter", "export")
# error of the filtered depth, by held-out view; training views have none
ERROR = {("left", "b"): 0.005, ("right", "b"): 0.018, ("left", "d"): 0.009, ("right", "d"): 0.044}


def plane_mm() -> np.ndarray:
    return np.broadcast_to(np.linspace(70, 90, WIDTH, dtype=np.float32), (HEIGHT, WIDTH)).copy()


def stamp(folder: Path, skipped: str | None = None) -> None:
    record = {"stage": folder.name, "options": {"seed": 0}, "seconds": 2.0, "peak_memory_mb": 300.0}
    record |= {"hash": f"of {folder.name}"}
    write_json(folder / "stamp.json", record | {"summary": f"did {folder.name}", "skipped": skipped})


class Example:
    """A finished run on disk, before its evaluation."""

    def __init__(self, root: Path) -> None:
        self.data, self.logs = root / "data", root / "logs" / "example"
        self.options = EvaluationOptions(datadir=str(self.data))
        rng = np.random.default_rng(0)
        images = {}
        for side in SIDES:
            for name in NAMES:
                path = self.data / side[0] / "images" / f"{name}.png"
                write_rgb(path, rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
                images[f"{side}_{name}"] = str(path)
                self.write_view(side, name, rng)
        lens = {"camera": asdict(CAMERA), "distortion": []}
        train = tuple(name for name in NAMES if name not in TEST)
        scene = Scene(self.logs / "scene", RIG, NAMES, train, TEST, SIDES, images)
        scene.save({"lenses": dict.fromkeys(SIDES, lens), "checks": ["[ok] baseline: 4 mm"]})
        self.write_poses()
        self.write_cloud(400)
        good = {"check": "rows of the matches", "verdict": "good", "found": "0.2 px", "expected": "", "do": ""}
        write_json(self.logs / "matches" / "checks.json", [good])
        (self.logs / "prior" / "alignment.csv").write_text("source,scale\nsgbm,1.001\n")
        for name in ("scene", *STAGES):
            stamp(self.logs / name)

    def write_view(self, side: Side, name: str, rng: np.random.Generator) -> None:
        depth = self.data / side[0] / "depth" / f"{name}.npy"
        depth.parent.mkdir(parents=True, exist_ok=True)
        truth = plane_mm()
        np.save(depth, truth)
        sigma = np.full_like(truth, 0.5)
        inside, outside = np.ones(truth.shape, bool), np.zeros(truth.shape, bool)
        save_maps(self.logs / "scene" / "masks", side, name, tissue=inside, highlight=outside)
        prior = truth + rng.normal(0, 0.5, truth.shape).astype(np.float32)
        confidence = rng.uniform(0, 1, truth.shape).astype(np.float32)
        save_maps(self.logs / "prior", side, name, depth_mm=prior, sigma_mm=sigma, confidence=confidence)
        rgb = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        render = {"rgb": rgb, "depth_mm": truth, "depth_std_mm": sigma, "opacity": np.ones_like(truth)}
        save_maps(self.logs / "render", side, name, **render)
        save_maps(self.logs / "filter", side, name, depth_mm=truth * (1 + ERROR.get((side, name), 0.0)))

    def write_poses(self) -> None:
        left = np.stack([rigid(np.eye(3), np.array([2.0 * index, 0.0, 0.0])) for index in range(len(NAMES))])
        right = left.copy()
        right[:, 0, 3] += 4.0
        save_poses(self.logs / "poses", Poses(NAMES, left, right, True))
        known = {"n_registered": 5, "n_frames": 5, "reprojection_px": 0.43, "metric": True, "not_placed": []}
        write_json(self.logs / "poses" / "report.json", known | {"scale": "from the rig", "warnings": []})

    def write_cloud(self, count: int) -> None:
        rng = np.random.default_rng(1)
        points = rng.uniform([-30, -20, 70], [30, 20, 90], (count, 3))
        normals = np.tile([0.0, 0.0, -1.0], (count, 1))
        colours = rng.integers(0, 255, (count, 3), dtype=np.uint8)
        (self.logs / "export").mkdir(exist_ok=True)
        write_ply(self.logs / "export" / "cloud.ply", points, normals, colours, rng.uniform(0, 1, count), [])

    def skip(self, *names: str, reason: str) -> None:
        for name in names:
            shutil.rmtree(self.logs / name)
            stamp(self.logs / name, reason)

    def evaluate(self) -> str:
        inputs = {name: self.logs / name for name in STAGES}
        out = self.logs / "evaluation"
        out.mkdir(exist_ok=True)
        stage.run(self.options, out=out, scene=self.logs / "scene", **inputs)
        record = {
            "options": asdict(self.options),
            "inputs": {name: f"of {name}" for name in ("scene", *STAGES)},
            "skipped": None,
        }
        write_json(out / "stamp.json", record)
        return self.page()

    def page(self) -> str:
        return (self.logs / "evaluation" / "report.html").read_text(encoding="utf-8")

    def read(self) -> Run:
        inputs = {name: self.logs / name for name in STAGES}
        return read_run(self.options, self.logs / "scene", self.logs / "evaluation", inputs)
