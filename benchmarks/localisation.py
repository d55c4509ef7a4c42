"""How well are new images located in a finished run, from where, with what in the way, and what is refused?

See `benchmarks/README.md`. Results: `localisation.md` in `--out`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from benchmarks import setting
from benchmarks.exact_views import ExactPhantom
from benchmarks.setting import Example
from localisation.locator import Located, Locator, Start
from localisation.query import Eye, Query
from localisation.reading import Reader
from localisation.verdict import Limits
from nerf.finished_field import FinishedField
from utils.errors import InputError
from utils.geometry import invert_rigid, rigid, rotation_angle_degrees
from utils.images import list_images, read_rgb
from utils.phantom import PhantomOptions, ensure_phantom
from utils.types import FloatArray, Side

Image = NDArray[np.uint8]
STRICT, LOOSE = (1.0, 1.0), (5.0, 5.0)  # degrees, mm
USUAL_START = (10.0, 8.0)
STARTS = ((5.0, 5.0), USUAL_START, (20.0, 15.0), (30.0, 25.0))
NEW_VIEWS = 5  # a phantom, beside its held-out frames
BETWEEN = (2.0, 3.0)  # degrees and mm that a new view is off the path
FOREIGN_SEEDS, FOREIGN_FRAMES = range(10, 15), 20
HEAD = (
    "queries", "start", "n", "located", "< 1° and < 1 mm", "< 5° and < 5 mm", "wrong but believed",
    "rotation, °", "place, mm", "error / its std", "s an image",
)  # fmt: skip
NOTES = (
    "A field is trained on each phantom's training frames with both eyes. Queries are its held-out frames, and "
    "new views that the phantom renders exactly, half-way between two frames and off the path by 2° and 3 mm; "
    "none was trained on (poses of all frames are estimated together, held-out images included; the new views "
    "took part in nothing). Truth: the phantom's own poses, brought to the run by a rigid motion of its training "
    "frames. Shares are of all queries, refused ones count as failed; medians too are over all queries, refused "
    "ones with the best guess. *Wrong but believed*: accepted and not within 5° and 5 mm. *Error / its std*: "
    "median of the place's error over the standard deviation that is given with it (about 0.9 where that is "
    "right). Starts: off by so much in a random direction; *anywhere*: none given. *Photometric alone*: no "
    "features."
)


@dataclass(frozen=True, eq=False)
class Asked:
    """One query of the benchmark: images by eye, and the true pose (4, 4), mm."""

    name: str
    images: dict[Side, Image]
    world_from_left: FloatArray


Change = Callable[[Image, np.random.Generator], Image]


def noisy(image: Image, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of 0.03 of full scale."""
    return np.rint((image + rng.normal(0, 0.03 * 255, image.shape)).clip(0, 255)).astype(np.uint8)


def brighter(factor: float) -> Change:
    """Return what multiplies a picture's values."""
    return lambda image, _: np.rint((image * factor).clip(0, 255)).astype(np.uint8)


def with_tool(image: Image, rng: np.random.Generator) -> Image:
    """Put a metal shaft into the picture that covers a tenth of it."""
    height, width = image.shape[:2]
    angle, tip = rng.uniform(0, 2 * np.pi), np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    offset = np.stack([columns, rows], -1) - tip
    beside, behind = offset @ across, offset @ along > 0
    half = float(np.sort(np.abs(beside[behind]))[min(int(0.1 * width * height), int(behind.sum()) - 1)])
    shaft = behind & (np.abs(beside) <= half)
    shade = 90 + 130 * np.exp(-(((beside / half) - 0.3) ** 2) / 0.05)
    return np.where(shaft[..., None], shade[..., None], image).clip(0, 255).astype(np.uint8)


def with_highlights(image: Image, rng: np.random.Generator) -> Image:
    """Add thirty reflections that belong to no surface, about 2 % of the picture."""
    height, width = image.shape[:2]
    glow = np.zeros((height, width), np.float32)
    for _ in range(30):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = tuple(int(value) for value in rng.integers(2, 8, 2) * width // 320 + 1)
        cv2.ellipse(glow, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    blurred = cv2.GaussianBlur(glow, (0, 0), 0.004 * width)
    return (image + 255 * np.asarray(blurred)[..., None]).clip(0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "as taken": lambda image, _: image,
    "noise 0.03": noisy,
    "values x 0.8": brighter(0.8),
    "values x 1.25": brighter(1.25),
    "a tool over 10 %": with_tool,
    "30 false highlights": with_highlights,
    "all of these, x 1.25": lambda image, rng: noisy(
        with_tool(with_highlights(brighter(1.25)(image, rng), rng), rng), rng
    ),
}


@dataclass(eq=False)
class Bench:
    """One phantom's field and its queries."""

    field: FinishedField
    locator: Locator
    reader: Reader
    queries: list[Asked]

    def query(self, asked: Asked, sides: Sequence[Side], change: Change, rng: np.random.Generator) -> Query:
        """Return a query of some eyes with a change of its images."""
        rig = self.field.dataset.rig
        return Query(
            asked.name,
            tuple(
                Eye.of(
                    side, rig.camera(side), invert_rigid(rig.left_from(side)), change(asked.images[side], rng),
                    self.reader.tissue[side],
                )
                for side in sides
            ),
        )  # fmt: skip


class PhotometricLocator(Locator):
    """The same without features: a given start is all there is."""

    def starts_near(self, query: Query, world_from_left: FloatArray) -> list[Start]:
        """Return the given start alone."""
        del query
        return [Start(world_from_left, "given")]


def prepare(example: Example) -> Bench:
    """Train a phantom's field where it is not there yet, and make its queries."""
    run = setting.LOGS / f"{example.name}_located"
    setting.forget_where_code_changed(run, setting.ALL_CODE)
    setting.run_product(example.flags(run), until="render")
    field, exact = FinishedField.load(run), ExactPhantom.of(example, run)
    dataset = field.dataset
    sides = dataset.rig.sides
    queries = [
        Asked(name, {side: dataset.image(side, name) for side in sides}, exact.pose(name)) for name in dataset.test
    ]
    rng = np.random.default_rng([example.seed, 7])
    for k in np.linspace(0, len(dataset.names) - 2, NEW_VIEWS).round().astype(int):
        one, other = (exact.pose(dataset.names[index]) for index in (k, k + 1))
        pose = moved(between(one, other), *BETWEEN, rng)
        images = {side: exact.picture(pose, side, int(k)).rgb for side in sides}
        queries.append(Asked(f"new{k}", images, pose))
    return Bench(field, Locator(field, Limits()), Reader.of(dataset), queries)


def between(world_from_a: FloatArray, world_from_b: FloatArray) -> FloatArray:
    """Return the pose half-way between two, (4, 4)."""
    turns = Rotation.from_matrix([world_from_a[:3, :3], world_from_b[:3, :3]])
    return rigid(turns.mean().as_matrix(), 0.5 * (world_from_a[:3, 3] + world_from_b[:3, 3]))


def moved(world_from_left: FloatArray, degrees: float, mm: float, rng: np.random.Generator) -> FloatArray:
    """Return a pose turned and moved by so much about and along a random axis."""
    axis, way = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    return world_from_left @ rigid(Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix(), mm * way)


@dataclass(frozen=True)
class Score:
    """What became of one query."""

    degrees: float
    mm: float
    believed: bool
    in_std: float
    seconds: float

    @staticmethod
    def of(found: Located, truth: FloatArray) -> Score:
        """Compare with the truth."""
        off = invert_rigid(truth) @ found.world_from_left
        mm = float(np.linalg.norm(off[:3, 3]))
        std = found.uncertainty.std_mm if found.uncertainty else float("nan")
        return Score(float(rotation_angle_degrees(off[:3, :3])), mm, found.reason is None, mm / std, found.seconds)

    def within(self, limit: tuple[float, float]) -> bool:
        """Whether the pose is believed and this near."""
        return self.believed and self.degrees < limit[0] and self.mm < limit[1]


def row(what: str, start: str, scores: Sequence[Score]) -> tuple[str, ...]:
    """Return a line of the table."""
    wrong = sum(score.believed and not score.within(LOOSE) for score in scores)
    shares = [np.mean([score.believed for score in scores])]
    shares += [np.mean([score.within(limit) for score in scores]) for limit in (STRICT, LOOSE)]
    numbers = np.array([(score.degrees, score.mm, score.in_std, score.seconds) for score in scores])
    middle = np.median(numbers[:, :2], axis=0)
    calibrated = float(np.nanmedian(numbers[:, 2])) if np.isfinite(numbers[:, 2]).any() else float("nan")
    return (
        what, start, str(len(scores)), *(f"{100 * share:.0f} %" for share in shares), str(wrong),
        f"{middle[0]:.3f}", f"{middle[1]:.3f}", f"{calibrated:.2f}", f"{np.median(numbers[:, 3]):.2f}",
    )  # fmt: skip


def measure(examples: Sequence[Example], repeats: int) -> list[tuple[str, ...]]:
    """Return the lines about the phantoms' own images."""
    kept: dict[tuple[str, str], list[Score]] = {}
    for example in examples:
        bench = prepare(example)
        plain = PhotometricLocator(bench.field, Limits())
        for eyes in (1, 2):
            plain.error_scales[eyes] = bench.locator.error_scale(eyes)
        usual = "{:g}° {:g} mm".format(*USUAL_START)
        jobs: list[tuple[str, str, Locator, tuple[Side, ...], Change, tuple[float, float] | None]] = [
            ("as taken", "anywhere", bench.locator, ("left",), CHANGES["as taken"], None),
            ("as taken, both eyes", "anywhere", bench.locator, ("left", "right"), CHANGES["as taken"], None),
        ]
        jobs += [
            ("as taken", "{:g}° {:g} mm".format(*off), bench.locator, ("left",), CHANGES["as taken"], off)
            for off in STARTS
        ]
        jobs += [
            (
                "as taken, photometric alone",
                "{:g}° {:g} mm".format(*off),
                plain,
                ("left",),
                CHANGES["as taken"],
                off,
            )
            for off in STARTS[:3]
        ]
        jobs += [
            (name, usual, bench.locator, ("left",), change, USUAL_START)
            for name, change in CHANGES.items()
            if name != "as taken"
        ]
        jobs.append(("all of these, both eyes", usual, bench.locator, ("left", "right"), CHANGES["all of these, x 1.25"], USUAL_START))  # fmt: skip  # noqa: E501
        for what, start, locator, sides, change, off in tqdm(jobs, desc=example.name, unit="row"):
            for k, asked in enumerate(bench.queries):
                for repeat in range(repeats if off else 1):
                    rng = np.random.default_rng([example.seed, k, repeat])
                    begin = None if off is None else moved(asked.world_from_left, *off, rng)
                    found = locator.locate(bench.query(asked, sides, change, rng), begin)
                    kept.setdefault((what, start), []).append(Score.of(found, asked.world_from_left))
    return [row(what, start, scores) for (what, start), scores in kept.items()]


def foreign(example: Example, folders: Sequence[Path], most: int) -> list[str]:
    """Return what became of images of other scenes: lines of a list."""
    bench = prepare(example)
    data = setting.ROOT / "data" / "benchmarks"
    images: dict[str, list[Path]] = {}
    for seed in FOREIGN_SEEDS:
        options = PhantomOptions(example.rig, seed, FOREIGN_FRAMES, example.width, example.height)
        folder = data / f"foreign{seed}_{example.rig}"
        ensure_phantom(folder, options)
        images.setdefault("phantoms of other seeds", []).extend(list_images(folder / "l" / "images"))
    for folder in folders:
        images[folder.parent.parent.name if folder.name == "images" else folder.name] = list_images(folder)[:most]
    camera, tissue = bench.field.dataset.rig.left, bench.reader.tissue["left"]
    lines = []
    for name, files in images.items():
        found = []
        for path in tqdm(files, desc=name, unit="image"):
            image = cv2.resize(read_rgb(path), (camera.width, camera.height), interpolation=cv2.INTER_AREA)
            eye = Eye.of("left", camera, np.eye(4), np.asarray(image, np.uint8), tissue)
            found.append(bench.locator.locate(Query(path.stem, (eye,))))
        accepted = sum(one.reason is None for one in found)
        explained = [one.agreement.explained for one in found]
        lines.append(
            f"- {len(found)} images of {name}: {accepted} falsely accepted; explained "
            f"{100 * np.median(explained):.0f} % in the median, {100 * max(explained):.0f} % at most "
            f"(limit {100 * Limits().explained:.0f} %); "
            f"{np.median([one.seconds for one in found]):.1f} s an image"
        )
    return lines


def main(argv: Sequence[str]) -> int:
    """Measure on every phantom and write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the phantoms; default 0 1 2")
    parser.add_argument("--rig", nargs="+", default=["parallel"], choices=("parallel", "verged"))
    parser.add_argument("--repeats", type=int, default=2, help="starts a query and row; default 2")
    parser.add_argument(
        "--foreign", nargs="*", type=Path, default=[], help="more folders of images of other scenes"
    )
    parser.add_argument("--most", type=int, default=35, help="images of each of them at most; default 35")
    setting.add_example_flags(parser)
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    examples = setting.examples_of(given.rig, given, ())
    try:
        rows = measure(examples, given.repeats)
        lines = foreign(examples[0], given.foreign, given.most)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    table = setting.markdown_rows([HEAD, *rows])
    text = "\n".join(
        ["# Locating images", "", f"- `{setting.command_line('localisation.py', argv)}`",
         f"- {setting.machine()}", "", NOTES, "", *table, "",
         "Images of other scenes, from anywhere:", "", *lines, ""]
    )  # fmt: skip
    (given.out / "localisation.md").write_text(text)
    sys.stdout.write("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
