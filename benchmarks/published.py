"""Read the published numbers of others under `docs/published`: a line a number, with its protocol and source."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from utils.errors import InputError

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "published"
NOT_IMPLEMENTED = "not implemented: "
PROTOCOLS = (
    "default", "endonerf", "endosurf", "endogaussian", "endogs", "forplane", "afsfm", "nerfingmvs",
    "upstream_legacy",
)  # fmt: skip
MOVING = ("EndoNeRF", "StereoMIS", "C3VDv2", "DynamicColon")  # tissue moves: a static field cannot show it
NO_UNIT, UNSTATED, NO_DATASET = "1", "not stated", "none"
# A number as its source prints it: about, at least, a range, a spread, two parts of a sum.
_NUMBER = re.compile(r"(~|<|>|>=)?\d+(\.\d+)?([-±+]\d+(\.\d+)?)?")
TITLES = {
    "psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS", "abs_rel": "AbsRel", "sq_rel": "SqRel",
    "rmse": "RMSE", "rmse_log": "RMSE log", "a1": "δ < 1.25", "ate": "ATE", "fps": "rendering",
    "gpu_memory": "GPU memory", "hd95": "HD95", "chamfer": "Chamfer", "bad2": "bad-2", "d1_all": "D1-all",
    "depth_mae": "depth MAE",
    "disparity_mae": "disparity MAE", "psnr_gain": "PSNR gain", "ssim_gain": "SSIM gain", "train": "training",
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """One published number.

    Args:
        dataset: its name; `none` where there is none, as for a speed.
        clip: the part of it, or what is averaged.
        method: whose result it is.
        metric: named as in `metrics.json` where that has it.
        value: as its source prints it.
        unit: `1` for none, `not stated` where the source leaves it open.
        protocol: one of `PROTOCOLS`, or `not implemented: ` and what is known of it.
        source: where it was read.
        secondary: `yes` where that is not its publisher's own text, `no` otherwise.
        note: what else its reader must know; `conflict:` where sources contradict each other.
    """

    dataset: str
    clip: str
    method: str
    metric: str
    value: str
    unit: str
    protocol: str
    source: str
    secondary: str
    note: str

    @property
    def comparable(self) -> bool:
        """Whether its protocol is one of ours."""
        return self.protocol in PROTOCOLS

    @property
    def origin(self) -> str:
        """The source, and that it is second-hand where it is."""
        return self.source + (" (secondary)" if self.secondary == "yes" else "")


@dataclass(frozen=True)
class Own:
    """One line of ours below the published ones of a clip: figures by metric, and in words where they are from."""

    clip: str
    name: str
    values: Mapping[str, str]
    words: str


COLUMNS = tuple(field.name for field in fields(Number))


def read_numbers(path: Path) -> list[Number]:
    """Read one file of published numbers. Raises InputError for a line that lacks something, with its number."""
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise _wrong(path, 1, ",".join(lines[0]) if lines else "nothing", ",".join(COLUMNS))
    numbers: dict[tuple[str, ...], Number] = {}
    for index, line in enumerate(lines[1:], 2):
        if len(line) != len(COLUMNS):
            raise _wrong(path, index, f"{len(line)} columns", f"{len(COLUMNS)} columns")
        number = _checked(path, index, Number(*line))
        place = number.dataset, number.clip, number.method, number.metric, number.protocol, number.origin
        if place in numbers:
            raise _wrong(path, index, f"a second {number.metric} of {number.method}", "one from each source")
        numbers[place] = number
    return list(numbers.values())


def read_all(folder: Path = FOLDER) -> list[Number]:
    """Read all files of published numbers."""
    return [number for path in sorted(folder.glob("*.csv")) for number in read_numbers(path)]


def _checked(path: Path, index: int, number: Number) -> Number:
    for name in COLUMNS[:-1]:
        if not getattr(number, name).strip():
            raise _wrong(path, index, f"no {name}", f"a {name} for every number")
    if not _NUMBER.fullmatch(number.value):
        raise _wrong(path, index, f"the value {number.value!r}", "a number as printed, such as 34.21 or ~8-10")
    named = number.protocol.startswith(NOT_IMPLEMENTED) and len(number.protocol) > len(NOT_IMPLEMENTED)
    if not (number.comparable or named):
        known = f"`{NOT_IMPLEMENTED}…` or one of {', '.join(PROTOCOLS)}"
        raise _wrong(path, index, f"the protocol {number.protocol!r}", known)
    if number.secondary not in ("yes", "no"):
        raise _wrong(path, index, f"secondary {number.secondary!r}", "yes or no")
    return number


def _wrong(path: Path, index: int, found: str, expected: str) -> InputError:
    what = f"{path}, line {index}, is no published number"
    return InputError(what, found=found, expected=expected, do="mend the line")


def metrics_of(numbers: Iterable[Number]) -> list[str]:
    """Return the metrics of some numbers, image quality first, then depth, then time and memory."""
    found = {number.metric for number in numbers}
    last = ("train", "fps", "gpu_memory")
    first = [name for name in TITLES if name in found and name not in last]
    others = sorted(found - set(TITLES))
    return [*first, *others, *(name for name in last if name in found)]


def beside(numbers: Sequence[Number], own: Sequence[Own]) -> list[str]:
    """Return the lines of a Markdown table: the published lines of each clip, and our own below them."""
    metrics = metrics_of(numbers)
    shared = {metric: _shared_unit(metric, numbers) for metric in metrics}
    several = len({number.dataset for number in numbers}) > 1
    lines = []
    for dataset, clip in dict.fromkeys((number.dataset, number.clip) for number in numbers):
        part = [number for number in numbers if (number.dataset, number.clip) == (dataset, clip)]
        place = f"{dataset}, {clip}" if several and dataset != NO_DATASET else clip
        for method, origin in dict.fromkeys((number.method, number.origin) for number in part):
            same = [number for number in part if (number.method, number.origin) == (method, origin)]
            values = {number.metric: _cell(number, shared[number.metric]) for number in same}
            lines.append([place, method, *(values.get(metric, "") for metric in metrics), origin, _notes(same)])
        for one in own:
            if one.clip == clip:
                figures = (one.values.get(metric, "") for metric in metrics)
                lines.append([place, f"**{one.name}**", *figures, one.words, ""])
    return table(
        ["clip", "method", *(_head(metric, shared[metric]) for metric in metrics), "source", "note"], lines
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def _shared_unit(metric: str, numbers: Iterable[Number]) -> str | None:
    units = {number.unit for number in numbers if number.metric == metric}
    return units.pop() if len(units) == 1 else None


def _head(metric: str, unit: str | None) -> str:
    name = TITLES.get(metric, metric.replace("_", " "))
    if unit in (None, NO_UNIT):
        return name
    return f"{name}, unit not stated" if unit == UNSTATED else f"{name}, {unit}"


def _cell(number: Number, shared: str | None) -> str:
    return number.value if shared or number.unit == NO_UNIT else f"{number.value} {number.unit}"


def _notes(parts: Sequence[Number]) -> str:
    """Return the notes of one line: once what all its numbers share, behind the metric's name what they do not."""
    words: dict[str, list[str]] = {}
    for number in parts:
        for note in filter(None, number.note.split("; ")):
            words.setdefault(note, []).append(TITLES.get(number.metric, number.metric.replace("_", " ")))
    return "; ".join(
        note if len(names) == len(parts) else f"{', '.join(names)}: {note}" for note, names in words.items()
    )
