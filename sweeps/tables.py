"""Tables of a sweep: one row a combination, mean ± spread over its seeds, in Markdown and LaTeX."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from sweeps.results import FIGURES, Result, split_of
from sweeps.settings import SEED, Setting, without_seed
from utils.latex import escape, table_row

ABSENT = "–"


def rows(results: Sequence[Result], flags: Sequence[str]) -> list[list[str]]:
    """Return the head and a row for every scene and combination without its seed.

    A row averages over the seeds that are done; how many those are of how many stands in its column `seeds`.
    """
    shown = [flag for flag in flags if flag != SEED]
    used = [key for key in FIGURES if any(key in result.figures for result in results)]
    many = len({result.run.scene for result in results}) > 1
    groups: dict[tuple[str, Setting], list[Result]] = {}
    for result in results:
        groups.setdefault((result.run.scene, without_seed(result.run.setting)), []).append(result)
    table = [[*(["scene"] if many else []), *shown, "seeds", *(FIGURES[key].title for key in used)]]
    for (scene, setting), group in groups.items():
        scored = [result for result in group if result.figures]
        count = str(len(scored)) if len(scored) == len(group) else f"{len(scored)} of {len(group)}"
        values = dict(setting)
        cells = [
            spread([one.figures[key] for one in scored if key in one.figures], FIGURES[key].pattern)
            for key in used
        ]
        table.append([*([scene] if many else []), *(values.get(flag, ABSENT) for flag in shown), count, *cells])
    return table


def spread(values: Sequence[float], pattern: str) -> str:
    """Return `mean ± standard deviation` (n - 1) of a sample, one value alone as it is, – of none."""
    if not values:
        return ABSENT
    mean = format(statistics.fmean(values), pattern)
    return f"{mean} ± {statistics.stdev(values):{pattern}}" if len(values) > 1 else mean


def remarks(results: Sequence[Result], flags: Sequence[str], command: str, notes: Sequence[str]) -> list[str]:
    """Return the sentences under the table."""
    splits = sorted({split_of(result.metrics) for result in results if result.metrics})
    lines = [f"Left eye, tissue; frames of {' and '.join(splits)}."] if splits else []
    if any(result.metrics.get("metric") is False for result in results):
        lines.append("Runs without a metric scale are scored after one median scale a run.")
    if SEED in flags:
        lines.append("± is the standard deviation over the seeds (n − 1).")
    lines += list(notes)
    lines += _shared(results)
    failed = [result for result in results if result.state != "done"]
    lines += [
        f"{result.run.title}: {result.state}{f': {result.reason}' if result.reason else ''}" for result in failed
    ]
    done = [result for result in results if result.state == "done" and not result.figures]
    lines += [f"{result.run.title}: no scores{f': {result.reason}' if result.reason else ''}" for result in done]
    return [*lines, f"Made by `{command}`."]


def _shared(results: Sequence[Result]) -> list[str]:
    """Say what sharing saved: seconds of every stage once, against those of every run by itself."""
    done = [result for result in results if result.state == "done" and result.metrics.get("runtime_s")]
    alone = sum(seconds for result in done for seconds in result.metrics["runtime_s"].values())
    once = {
        result.run.made(name): seconds
        for result in done
        for name, seconds in result.metrics["runtime_s"].items()
        if name in result.run.hashes
    }
    if len(done) < 2 or not alone:
        return []
    return [f"{sum(once.values()):.0f} s of work; {alone:.0f} s had every run made all its stages by itself."]


def markdown(title: str, table: Sequence[Sequence[str]], lines: Sequence[str]) -> str:
    """Return the table and its remarks as Markdown."""
    words = table[0].index("seeds")
    text = [f"# {title}", "", f"| {' | '.join(table[0])} |"]
    text += ["|" + "---|" * words + "---:|" * (len(table[0]) - words)]
    text += [f"| {' | '.join(row)} |" for row in table[1:]]
    return "\n".join([*text, "", *(f"- {line}" for line in lines)]) + "\n"


def latex(title: str, table: Sequence[Sequence[str]], lines: Sequence[str]) -> str:
    r"""Return the table for LaTeX (`\usepackage{booktabs}`); the remarks are comments above it."""
    words = table[0].index("seeds")
    places = "l" * words + "r" * (len(table[0]) - words)
    text = [r"% \usepackage{booktabs}", *(f"% {line}" for line in lines)]
    text += [r"\begin{table}", r"\centering", rf"\caption{{{escape(title)}}}", rf"\begin{{tabular}}{{{places}}}"]
    text += [r"\toprule", table_row(table[0]), r"\midrule", *(table_row(row) for row in table[1:])]
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"
