"""How a `python -m` command answers: its result, a mistake in the input, a disk in trouble, Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable

from utils.errors import InputError, disk_trouble


def answer(work: Callable[[], str]) -> int:
    """Print what `work` returns. Return the exit status: 0 done, 2 a mistake or a disk in trouble, 130 stopped."""
    try:
        print(work())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        print(f"error: {trouble}", file=sys.stderr)
        return 2
    return 0
