"""Read `flag=value,value` words, and make every combination of them."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from utils.errors import InputError

SEED = "seed"
MOST_RUNS = 10_000
_LONGEST_NAME = 120

Setting = tuple[tuple[str, str], ...]  # (flag, value) for every swept flag, in the order of the command line


@dataclass(frozen=True)
class Axis:
    """One swept flag and its values, as they were written."""

    flag: str
    values: tuple[str, ...]


def read_axes(words: Sequence[str], known: Collection[str], fixed: Collection[str]) -> list[Axis]:
    """Read the words behind `--sweep`.

    Args:
        words: `flag=value,value`; where a `;` occurs it separates the values, and commas belong to them.
        known: the flags of the program.
        fixed: those among them that cannot differ within a sweep.

    Raises:
        InputError: a word of another form, an unknown or fixed flag, a flag or a value given twice.
    """
    axes: list[Axis] = []
    for word in words:
        flag, equals, text = word.lstrip("-").partition("=")
        values = tuple(part.strip() for part in text.split(";" if ";" in text else ","))
        if not equals or not flag or not all(values):
            raise InputError(
                f"--sweep {word} cannot be read",
                found=word,
                expected="flag=value,value…, for instance depth_loss_weight=0,0.001,0.01",
                do="write no blanks around = and commas; separate values that hold commas by ;",
            )
        _require_known(flag, known, fixed)
        twice = [value for value in values if values.count(value) > 1]
        if twice or any(axis.flag == flag for axis in axes):
            raise InputError(
                f"--sweep {word}: "
                + (f"the value {twice[0]} stands there twice" if twice else "twice the same flag"),
                found=word,
                expected="each flag once, each of its values once",
                do="take the second one out",
            )
        axes.append(Axis(flag, values))
    return axes


def _require_known(flag: str, known: Collection[str], fixed: Collection[str]) -> None:
    if flag in fixed:
        raise InputError(
            f"--sweep {flag}=… is not possible",
            found=flag,
            expected="a flag that changes what is computed on one scene",
            do="give scenes by --configs; names and folders of the runs are made by the sweep",
        )
    if flag not in known:
        nearest = difflib.get_close_matches(flag, known, n=1, cutoff=0.4)
        raise InputError(
            f"unknown option `{flag}` behind --sweep",
            found=flag,
            expected=f"`{nearest[0]}`, the nearest known name" if nearest else "a name listed by --help",
            do="correct the name",
        )


def combinations(axes: Sequence[Axis]) -> list[Setting]:
    """Return every combination of values, the last flag changing fastest. Raises InputError for too many."""
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_RUNS:
        raise InputError(
            "--sweep asks for too many runs",
            found=f"{count} combinations",
            expected=f"at most {MOST_RUNS} a scene",
            do="sweep fewer flags at a time",
        )
    flags = [axis.flag for axis in axes]
    return [
        tuple(zip(flags, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))
    ]


def folder_name(setting: Setting) -> str:
    """Return what the folder of one combination is called; different combinations never share a name."""
    plain = ",".join(f"{flag}={value}" for flag, value in setting)
    name = re.sub(r"[^\w.,=+-]", "_", plain)
    if name != plain or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}_{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
    return name


def without_seed(setting: Setting) -> Setting:
    """Return a combination without its seed: what the runs have in common that a table averages over."""
    return tuple((flag, value) for flag, value in setting if flag != SEED)


def in_words(setting: Setting) -> str:
    """Return a combination for eyes."""
    return " ".join(f"{flag}={value}" for flag, value in setting) or "as configured"
