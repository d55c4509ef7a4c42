"""Options: frozen dataclasses beside the code that reads them, one parser over all, nearest-name errors."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import configargparse

from utils.errors import InputError

_NUMBERS = re.compile(r"^[-+\d.eE,;\s\[\]()]+$")


def option(
    default: Any,
    help: str,
    *,
    affects_result: bool = True,
    choices: Sequence[str] | None = None,
    flag: str | None = None,
) -> Any:
    """Declare a dataclass field that is also a flag and a configuration key.

    Args:
        default: its value when nobody sets it.
        help: one sentence for `--help`.
        affects_result: False for flags that change only speed, memory or printing; they enter no stamp.
        choices: the allowed strings, where there are only some.
        flag: the flag's name where it cannot be the field's (a word that Python reserves).
    """
    metadata = {"help": help, "affects_result": affects_result, "choices": choices, "flag": flag}
    return dataclasses.field(default=default, metadata=metadata)


def parse_options(
    sections: Mapping[str, type],
    retired: Mapping[str, str],
    argv: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    """Read the command line and its `--config` file into one frozen dataclass a section.

    A flag that several sections declare reaches all of them; the declarations must agree.

    Args:
        sections: name of the section -> its dataclass.
        retired: name of a flag of the reference system that does nothing here -> what replaces it.
        argv: the command line without the program's name.

    Returns:
        The sections, and one line of notice for each retired flag that was set.

    Raises:
        InputError: unknown flag or key (with the nearest known name), or a value of the wrong type.
    """
    parser = _Parser(
        prog="run.py",
        allow_abbrev=False,
        formatter_class=configargparse.ArgumentDefaultsHelpFormatter,
        description="From the images of a stereo endoscope to a metric, measured 3-D reconstruction.",
    )
    parser.add_argument("--config", is_config_file=True, help="file of `key = value` lines")
    declared: dict[str, dataclasses.Field[Any]] = {}
    for name, section in sections.items():
        group = parser.add_argument_group(name)
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            _declare(group, field, hints[field.name], declared)
    for name in retired:
        parser.add_argument(f"--{name}", nargs="*", default=None, help=configargparse.SUPPRESS)
    values, unknown = parser.parse_known_args(_join_numbers(argv, declared))
    known = [*(_flag(field) for field in declared.values()), *retired, "config"]
    _refuse_unknown(unknown, known, argv, values.config)
    notices = [f"--{name}: {text}" for name, text in retired.items() if getattr(values, name) is not None]
    filled = {
        name: section(**{field.name: getattr(values, field.name) for field in dataclasses.fields(section)})
        for name, section in sections.items()
    }
    return filled, notices


def flags_of(section: type) -> list[str]:
    """Return the names of a section's flags."""
    return [_flag(field) for field in dataclasses.fields(section)]


def stamped(options: Any, counted: Collection[str] | None = None) -> dict[str, Any]:
    """Return the options that change a stage's result, ready for JSON: what its stamp remembers.

    Args:
        options: a section.
        counted: the names of those that do so this time; None: all that may.

    Raises:
        ValueError: a name that is no option.
    """
    strange = set(counted or ()) - {field.name for field in dataclasses.fields(options)}
    if strange:
        raise ValueError(f"{type(options).__name__} has no option {', '.join(sorted(strange))}")
    return {
        field.name: _plain(getattr(options, field.name))
        for field in dataclasses.fields(options)
        if field.metadata.get("affects_result", True) and (counted is None or field.name in counted)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


class _Parser(configargparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        if "open config file" in message:
            raise InputError(
                "--config cannot be read",
                found=message.split("Error: ")[-1],
                expected="a file of `key = value` lines, such as configs/phantom.txt",
                do="correct the path",
            )
        raise InputError(
            "the command line or the configuration cannot be read",
            found=message,
            expected="flags and values as listed by `python run.py --help`",
            do="mend the value",
        )


def _declare(
    group: Any, field: dataclasses.Field[Any], hint: Any, declared: dict[str, dataclasses.Field[Any]]
) -> None:
    if field.name in declared:
        if declared[field.name].default != field.default:
            raise TypeError(f"two sections declare --{field.name} with different defaults")
        return
    declared[field.name] = field
    kind, optional = _kind(hint)
    details: dict[str, Any] = {"default": field.default, "help": field.metadata.get("help", "")}
    if kind is bool:
        details |= {"nargs": "?", "const": True, "type": _boolean}
    elif typing.get_origin(kind) is tuple:
        details |= {"nargs": "+", "type": str, "action": _Words if typing.get_args(kind)[0] is str else _Numbers}
    else:
        details |= {"type": kind, "choices": field.metadata.get("choices")}
    if optional:
        details["metavar"] = field.name.upper()
    group.add_argument(f"--{_flag(field)}", dest=field.name, **details)


def _flag(field: dataclasses.Field[Any]) -> str:
    return field.metadata.get("flag") or field.name


def _kind(hint: Any) -> tuple[Any, bool]:
    """Return the type of a field without its `| None`, and whether it had one."""
    if isinstance(hint, types.UnionType):
        inner = [part for part in hint.__args__ if part is not type(None)]
        return inner[0], True
    return hint, False


class _Numbers(configargparse.argparse.Action):
    """Numbers given as `1 2 3`, `1,2,3` or `[1, 2, 3]`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        words = [word for text in values for word in re.split(r"[\s,;\[\]()]+", text) if word]
        try:
            numbers = tuple(float(word) for word in words)
        except ValueError:
            parser.error(f"{option_string}: {' '.join(words)!r} is not a list of numbers")
        setattr(namespace, self.dest, numbers)


class _Words(configargparse.argparse.Action):
    """Words given one after the other."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, _option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "on"):
        return True
    if text.lower() in ("false", "no", "0", "off"):
        return False
    raise ValueError(f"{text!r} is neither True nor False")


def _join_numbers(argv: Sequence[str], declared: Mapping[str, dataclasses.Field[Any]]) -> list[str]:
    """Join the numbers behind a list flag into one word, or `-406.05,1.26` would be taken for a flag."""
    lists = {
        f"--{name}"
        for name, field in declared.items()
        if "tuple" in str(field.type) and "str" not in str(field.type)
    }
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1].split("=")[0] in lists and _NUMBERS.match(word):
            joined[-1] += ("," if "=" in joined[-1] else "=") + word
        else:
            joined.append(word)
    return joined


def _refuse_unknown(unknown: Iterable[str], known: Sequence[str], argv: Sequence[str], config: str | None) -> None:
    typed = {word.split("=")[0] for word in argv}
    for word in unknown:
        name = word.lstrip("-").split("=")[0]
        if not word.startswith("-"):
            raise InputError(
                f"`{word}` on the command line belongs to no flag",
                found=word,
                expected="flags that start with --",
                do=f"put the flag in front of it, or take `{word}` out",
            )
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        where = "on the command line" if word.split("=")[0] in typed or not config else f"in {config}"
        raise InputError(
            f"unknown option `{name}` {where}",
            found=word if where == "on the command line" else word.lstrip("-").replace("=", " = ", 1),
            expected=f"`{nearest[0]}`, the nearest known name" if nearest else "a name listed by --help",
            do=f"correct the name {where}",
        )
