"""Make the page of published numbers from its data: `PYTHONPATH=. python docs/published_page.py [OUT.md]`.

`docs/published/page.md` holds the words; where it has a line `[name.csv]`, the tables of that file are set in.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.published import FOLDER, MOVING, NOT_IMPLEMENTED, Number, Own, beside, read_numbers
from utils.commands import answer

PAGE, WORDS = FOLDER.with_suffix(".md"), FOLDER / "page.md"
NOT_MEASURED = "not measured: we do not have this data"
TISSUE_MOVES = f"{NOT_MEASURED}; tissue moves, a static field has nothing to show"


def page() -> str:
    """Return the text of the page."""
    return re.sub(
        r"^\[(\w+\.csv)\]$",
        lambda found: tables(FOLDER / found[1]),
        WORDS.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )


def tables(path: Path) -> str:
    """Return the tables of one file, one for each protocol, those that we have first."""
    numbers = read_numbers(path)
    names = dict.fromkeys(number.protocol for number in numbers)
    protocols = sorted(names, key=lambda name: name.startswith(NOT_IMPLEMENTED))
    parts = [table_of([number for number in numbers if number.protocol == name]) for name in protocols]
    return "\n\n".join([f"Data: [published/{path.name}](published/{path.name})", *parts])


def table_of(numbers: Sequence[Number]) -> str:
    """Return the heading and the table of one protocol."""
    first = numbers[0]
    if not first.comparable:
        words = first.protocol.removeprefix(NOT_IMPLEMENTED)
        heading, own = f"### Not implemented here: {words}", []
    else:
        words = TISSUE_MOVES if first.dataset in MOVING else NOT_MEASURED
        heading = f"### Protocol `{first.protocol}`"
        own = [Own(clip, "Specula", {}, words) for clip in dict.fromkeys(number.clip for number in numbers)]
    return "\n".join([heading, "", *beside(numbers, own)])


def main(out: Path) -> str:
    """Write the page; return in words what was written."""
    partial = out.with_name(out.name + ".partial")
    partial.write_text(page(), encoding="utf-8")
    os.replace(partial, out)
    return f"wrote {out}"


if __name__ == "__main__":
    sys.exit(answer(lambda: main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE)))
