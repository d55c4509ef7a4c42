"""Four toy stages that say what ran, for tests of the stage runner."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.errors import InputError
from utils.options import option
from utils.stages import Stage, choose, run_stages, skipped

NAMES = ("source", "double", "train", "report")


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Of the stage `source`."""

    number: int = option(3, "what it writes")
    file: str = option("", "a file that it reads")
    talk: bool = option(False, "printing only", affects_result=False)


@dataclasses.dataclass(frozen=True)
class DoubleOptions:
    """Of the stage `double`."""

    factor: int = option(2, "what it multiplies by")


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Of the resumable stage `train`."""

    steps: int = option(4, "how many there are")
    printing: int = option(1, "speed only", affects_result=False)


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Of the stage `report`."""

    title: str = option("", "its title")


class Toys:
    """Four stages (source -> double -> report, source -> train -> report), and a diary of what ran."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.diary: list[str] = []
        self.during: dict[str, Callable[[Path], None]] = {}
        self.versions = dict.fromkeys(NAMES, 1)
        self.options: dict[str, Any] = {
            "source": SourceOptions(),
            "double": DoubleOptions(),
            "train": TrainOptions(),
            "report": ReportOptions(),
        }

    def stages(self) -> list[Stage]:
        kinds = {name: type(section) for name, section in self.options.items()}
        version = self.versions
        return [
            Stage("source", self._source, kinds["source"], (), version["source"], self._files, self._check),
            Stage("double", self._double, kinds["double"], ("source",), version["double"]),
            Stage("train", self._train, kinds["train"], ("source",), version["train"], resumable=True),
            Stage("report", self._report, kinds["report"], ("double", "train"), version["report"]),
        ]

    def change(self, stage: str, **changes: Any) -> None:
        self.options[stage] = dataclasses.replace(self.options[stage], **changes)

    def run(self, only: str = "", start: str = "", until: str = "", *, fresh: bool = False) -> list[str]:
        """Run and return which stages did anything."""
        self.diary.clear()
        chosen = choose(NAMES, only, start, until)
        run_stages(self.stages(), self.options, self.root, chosen=chosen, fresh=fresh)
        return list(self.diary)

    def value(self, stage: str) -> int:
        return int((self.root / stage / "value.txt").read_text())

    def folders(self) -> set[str]:
        return {path.name for path in self.root.iterdir()}

    def _enter(self, name: str, out: Path) -> None:
        self.diary.append(name)
        assert out.is_dir()
        assert out.name == f"{name}.partial"
        (out / "half.txt").write_text("in the making")
        if name in self.during:
            self.during[name](out)

    def _files(self, options: SourceOptions) -> list[Path]:
        return [Path(options.file)] if options.file else []

    def _check(self, options: SourceOptions) -> None:
        if options.number < 0:
            raise InputError("negative", found=str(options.number), expected="0 or more", do="raise it")

    def _source(self, options: SourceOptions, *, out: Path) -> str:
        self._enter("source", out)
        text = Path(options.file).read_text() if options.file else "0"
        (out / "value.txt").write_text(str(options.number + int(text)))
        return f"{options.number} written"

    def _double(self, options: DoubleOptions, *, out: Path, source: Path) -> str:
        self._enter("double", out)
        (out / "value.txt").write_text(str(options.factor * int((source / "value.txt").read_text())))
        return "multiplied"

    def _train(self, options: TrainOptions, *, out: Path, source: Path) -> str:
        log = out / "steps.txt"
        done = len(log.read_text().split()) if log.exists() else 0
        self._enter("train", out)
        for step in range(done, options.steps):
            with log.open("a") as file:
                file.write(f"{step} ")
            if "step" in self.during:
                self.during["step"](out)
        (out / "value.txt").write_text((source / "value.txt").read_text())
        return f"{options.steps - done} steps"

    def _report(self, options: ReportOptions, *, out: Path, double: Path, train: Path) -> str:
        self._enter("report", out)
        reason = skipped(double)
        parts = [train] if reason else [double, train]
        (out / "value.txt").write_text(str(sum(int((part / "value.txt").read_text()) for part in parts)))
        return options.title


def raising(error: BaseException) -> Callable[[Path], None]:
    def crash(out: Path) -> None:
        del out
        raise error

    return crash


def interrupt_after(steps: int) -> Callable[[Path], None]:
    def crash(out: Path) -> None:
        if len((out / "steps.txt").read_text().split()) == steps:
            raise KeyboardInterrupt

    return crash
