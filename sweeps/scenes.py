"""The scenes of a sweep: their configurations read, their names made sure of, their input made where need be."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sweeps.options import SweepOptions, asked
from utils.errors import InputError
from utils.stages import Stage

Parse = Callable[[Sequence[str]], Mapping[str, Any]]


@dataclass(frozen=True)
class Pipeline:
    """What a sweep has to know about the program that it runs.

    Args:
        stages: in order.
        parse: a command line -> the options of every section; raises InputError.
        flags: the names of all flags.
        fixed: those that cannot be swept, besides the usual ones.
        prepare: makes the input of a scene where the program makes it itself; returns the flags that name it.
        program: the file that Python runs.
    """

    stages: Sequence[Stage]
    parse: Parse
    flags: Sequence[str]
    fixed: Sequence[str]
    prepare: Callable[[Mapping[str, Any]], Sequence[str]]
    program: Path


@dataclass(frozen=True)
class Scene:
    """One scene of a sweep: its name, the words of its command line, and its own experiment."""

    name: str
    words: tuple[str, ...]
    basedir: Path

    @property
    def home(self) -> Path:
        """The experiment that the same command makes without a sweep."""
        return self.basedir / self.name


def without_sweep(argv: Sequence[str]) -> list[str]:
    """Return the command line without the flags of the sweep."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for field in fields(SweepOptions):
        parser.add_argument(f"--{field.name}", nargs="+" if field.default == () else None)
    return parser.parse_known_args(list(argv))[1]


def read_scenes(words: Sequence[str], options: SweepOptions, pipeline: Pipeline) -> list[Scene]:
    """Read every scene's configuration, and make its input where the program does that."""
    if options.configs and any(word.split("=")[0] == "--config" for word in words):
        raise InputError(
            "--config and --configs are given",
            found="both",
            expected="one of them",
            do="name every scene by --configs",
        )
    scenes: list[Scene] = []
    names: set[str] = set()
    for config in options.configs or ("",):
        mine = (*(("--config", config) if config else ()), *words)
        parsed = pipeline.parse(mine)
        if asked(parsed["sweep"]):
            raise InputError(
                f"{config or 'the configuration'} asks for a sweep",
                found="sweep or configs in a configuration file",
                expected="a configuration of one run",
                do="write them on the command line",
            )
        experiment = parsed["experiment"]
        if not experiment.expname or experiment.expname in names:
            raise InputError(
                "the scenes of a sweep need names that differ",
                found=f"expname {experiment.expname or 'missing'} in {config or 'the command line'}",
                expected="one expname a scene",
                do="correct expname in the configurations",
            )
        names.add(experiment.expname)
        mine = (*mine, *pipeline.prepare(parsed))
        scenes.append(Scene(experiment.expname, mine, Path(experiment.basedir)))
    return scenes
