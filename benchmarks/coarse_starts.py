"""What is each way to start worth where images are located without features: similar views, the flow, both?

See `benchmarks/README.md`. Results: `coarse_starts.md` in `--out`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from benchmarks import setting
from benchmarks.exact_views import ExactPhantom
from benchmarks.localisation import STRICT, Score, moved
from benchmarks.setting import Example
from localisation.flow import PoseFlow
from localisation.locator import Locator, Start
from localisation.query import Eye, Query
from localisation.verdict import Limits
from nerf.finished_field import FinishedField
from utils.errors import InputError
from utils.geometry import invert_rigid, rotation_angle_degrees
from utils.types import FloatArray

OFF = (10.0, 8.0)  # degrees and mm that queries are off the training frames
HEAD = (
    "starts",
    "n",
    "best start off, °",
    "best start off, mm",
    "< 1° and < 1 mm",
    "wrong but believed",
    "s an image",
)
NOTES = (
    "New views of the embedded example, rendered exactly, each turned by 10° and moved by 8 mm from a training "
    "frame. Features are switched off in the first three rows: what is left is the search in the field. *Best "
    "start off*: median over the queries of the nearest start's error. The flow is the one of `train_flow` in the "
    "run."
)


class Blind(Locator):
    """Locates without features, from similar views, the flow, or both."""

    def __init__(self, field: FinishedField, flow: PoseFlow | None, views: bool) -> None:
        super().__init__(field, Limits(), flow)
        self.views = views

    def from_features(self, eye: Eye, views: list[int]) -> None:
        """Find none."""

    def starts(self, query: Query) -> list[Start]:
        """Return the usual starts but those of views where they are not asked for."""
        found = super().starts(query)
        return [
            start for start in found if start.origin == "flow" or (self.views and start.origin.startswith("view"))
        ]


def measure(run: Path, example: Example, count: int) -> list[tuple[str, ...]]:
    """Return the lines of the table."""
    field, exact = FinishedField.load(run), ExactPhantom.of(example, run)
    flow, dataset = PoseFlow.of_run(run), FinishedField.load(run).dataset
    tissue, rng = dataset.ever_tissue("left"), np.random.default_rng(5)
    names = rng.choice(dataset.train, count)
    poses = [moved(exact.pose(str(name)), *OFF, rng) for name in names]
    queries = [
        Query(f"{k}", (Eye.of("left", dataset.rig.left, np.eye(4), exact.picture(pose, "left", k).rgb, tissue),))
        for k, pose in enumerate(poses)
    ]
    ways: dict[str, Locator] = {
        "three similar views": Blind(field, None, True),
        "flow": Blind(field, flow, False),
        "three similar views and flow": Blind(field, flow, True),
    }
    scale = ways["flow"].error_scale(1)
    rows = []
    for name, way in ways.items():
        way.error_scales[1] = scale
        rows.append(_row(name, way, queries, poses))
    usual = Locator(field, Limits())
    usual.error_scales[1] = scale
    return [*rows, _row("features (as always)", usual, queries, poses)]


def _row(name: str, way: Locator, queries: Sequence[Query], poses: Sequence[FloatArray]) -> tuple[str, ...]:
    starts, scores = [], []
    for query, pose in zip(tqdm(queries, desc=name, unit="image"), poses, strict=True):
        off = [_apart(start.world_from_left, pose) for start in way.starts(query)]
        starts.append(min(off, key=lambda pair: pair[0] / OFF[0] + pair[1] / OFF[1]))
        scores.append(Score.of(way.locate(query), pose))
    degrees, mm = np.median(starts, axis=0)
    strict = np.mean([score.within(STRICT) for score in scores])
    wrong = sum(score.believed and not score.within(STRICT) for score in scores)
    seconds = np.median([score.seconds for score in scores])
    return (
        name,
        str(len(scores)),
        f"{degrees:.2f}",
        f"{mm:.2f}",
        f"{100 * strict:.0f} %",
        str(wrong),
        f"{seconds:.1f}",
    )


def _apart(world_from_a: FloatArray, world_from_b: FloatArray) -> tuple[float, float]:
    off = invert_rigid(world_from_a) @ world_from_b
    return float(rotation_angle_degrees(off[:3, :3])), float(np.linalg.norm(off[:3, 3]))


def main(argv: Sequence[str]) -> int:
    """Measure and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("run", type=Path, help="finished run of the embedded example, with a trained flow")
    parser.add_argument("--count", type=int, default=16, help="queries; default 16")
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="folder for tables")
    given = parser.parse_args(argv)
    example = Example("parallel", 0, *setting.USUAL_SIZE)
    try:
        rows = measure(given.run, example, given.count)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    head = ["# Starts without features", "", f"- `{setting.command_line('coarse_starts.py', argv)}`"]
    text = "\n".join([*head, f"- {setting.machine()}", "", NOTES, "", *setting.markdown_rows([HEAD, *rows]), ""])
    (given.out / "coarse_starts.md").write_text(text)
    sys.stdout.write("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
