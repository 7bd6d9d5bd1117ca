"""Tables and learning curves from rows of results.

    python -m benchmarks.suite.table --rows runs/suite/rows.jsonl

Leaves results/suite.jsonl (the rows), results/suite.md, the table in README.md and the learning
curves in docs/images.
Rows with another number of updates than `--updates` are left out.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import IMAGES, RESULTS, markdown_table
from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.curves import draw
from benchmarks.suite.findings import BASELINES, DEFAULT, PAPER, Cell, Findings, label, trains
from benchmarks.suite.rows import Row, read_rows
from dql_core.errors import ConfigError
from dql_core.files import write_text

CLOCKS = {"wall": "by the clock on the wall", "cpu": "of computing, one thread"}
README = RESULTS.parents[1] / "README.md"


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Write tables and figures."""
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="+", default=[RESULTS / "suite.jsonl"])
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu if others were at work, too"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of rows and table")
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    found: dict[str, Row] = {}
    for path in options.rows:
        found |= read_rows(path)
    rows = [row for row in found.values() if row.updates == options.updates]
    if not rows:
        raise ConfigError(f"--rows: holds no row of {options.updates} updates")
    _require_equal_data(rows)
    findings = Findings(rows, options.clock)
    for axis in ("updates", "minutes"):
        if findings.sets:
            draw(findings, axis, options.images / f"suite_{axis}.svg")
    lines = [json.dumps(asdict(row)) for row in sorted(rows, key=lambda row: row.key)]
    write_text(options.out / "suite.jsonl", "".join(f"{line}\n" for line in lines))
    write_text(options.out / "suite.md", report(findings, rows))
    if options.out == RESULTS and findings.sets:
        write_text(README, with_overview(README.read_text(), overview(findings)))
    print("\n".join(findings.verdicts()))


def with_overview(page: str, table: str) -> str:
    """Return a page with a new table in place of the one with the same headings."""
    headings, *_ = table.splitlines()
    before, _, rest = page.partition(f"{headings}\n")
    _, _, after = rest.partition("\n\n")
    return f"{before}{table.strip()}\n\n{after}"


def report(findings: Findings, rows: Sequence[Row]) -> str:
    """Return the page of results."""
    return "\n".join(
        [
            "# The benchmark suite",
            "",
            "    python -m benchmarks.suite.run --set SET --method METHOD --seed SEED",
            "    python -m benchmarks.suite.table --rows runs/suite/rows.jsonl",
            "",
            _about(rows),
            "",
            "## In short",
            "",
            overview(findings),
            "## Scores at the last update",
            "",
            scores(findings, findings.sets),
            *_of_few_episodes(findings),
            "## Time to the score of the paper's code",
            "",
            f"Minutes of training ({CLOCKS[findings.clock]}) until the mean score is that of the",
            "paper's code at its last update, on the starts that all points of the curves have,",
            "and as a share of its time (all of it, if *never*).",
            "",
            times(findings),
            "## What was to be reached",
            "",
            *(f"* {verdict}." for verdict in findings.verdicts()),
            "",
            "![Scores over updates](../../docs/images/suite_updates.svg)",
            "",
            "![Scores over minutes](../../docs/images/suite_minutes.svg)",
            "",
        ]
    )


def overview(findings: Findings) -> str:
    """Return a table of our default beside the paper's code and the best of the baselines."""
    rows = []
    for name in findings.sets:
        cells = {method: findings.cell(name, method) for method in (PAPER, *BASELINES, DEFAULT)}
        texts = {
            method: _interval(cell) + _diverged(cell.broken + findings.lost[name, method])
            if cell
            else _absent(findings.lost[name, method])
            for method, cell in cells.items()
        }
        means = {each: cell.score.mean for each in BASELINES if (cell := cells[each])}
        best = max(means, key=lambda each: means[each], default=None)
        strongest = f"{label(best)} {texts[best]}" if best else "not run"
        if 0 < len(means) < len(BASELINES):
            strongest += f" ({len(means)} of {len(BASELINES)} run)"
        data = f"{findings.data_score(name):.1f}"
        rows.append([name, data, texts[PAPER], strongest, texts[DEFAULT]])
    headings = ["set", "the data", label(PAPER), "best of BC, TD3+BC and IQL", label(DEFAULT)]
    return markdown_table(headings, rows)


def scores(findings: Findings, names: Sequence[str]) -> str:
    """Return a table of scores, the best method of each set in bold.

    Methods that were run on none of the sets are left out.
    """
    methods = [
        method
        for method in findings.methods
        if any(findings.cell(name, method) or findings.lost[name, method] for name in names)
    ]
    rows = []
    for name in names:
        cells = {method: findings.cell(name, method) for method in methods}
        best = max(cell.score.mean for cell in cells.values() if cell)
        texts = [_score(cell, best, findings.lost[name, method]) for method, cell in cells.items()]
        rows.append([name, f"{findings.data_score(name):.1f}", *texts])
    return markdown_table(["set", "the data", *map(label, methods)], rows)


def _of_few_episodes(findings: Findings) -> list[str]:
    """Return a section of the subsets, if any was learned from."""
    if not findings.subsets:
        return []
    return ["## Of few episodes", "", scores(findings, findings.subsets)]


def times(findings: Findings) -> str:
    """Return a table of times to the paper's code's score, for the sets that it was run on."""
    rows = []
    for name in findings.sets:
        if paper := findings.cell(name, PAPER):
            texts = [
                _time(findings.cell(name, method), paper, findings.lost[name, method])
                for method in findings.trained
            ]
            rows.append([name, f"{paper.curve[-1].score:.1f}", *texts])
    return markdown_table(["set", "score", *map(label, findings.trained)], rows)


def _require_equal_data(rows: Sequence[Row]) -> None:
    files = {(row.set_name, row.data_sha256) for row in rows}
    several = [name for name, count in Counter(name for name, _ in files).items() if count > 1]
    if several:
        raise ConfigError(f"--rows: {', '.join(sorted(several))} is not the same data in all rows")


def _score(cell: Cell | None, best: float, lost: int) -> str:
    if cell is None:
        return _absent(lost)
    text = f"**{_interval(cell)}**" if cell.score.mean == best else _interval(cell)
    seeds = f" {len(cell.rows)} x {cell.episodes}"
    return text + seeds + _diverged(cell.broken + lost)


def _interval(cell: Cell) -> str:
    score = cell.score
    return f"{score.mean:.1f} [{score.low:.1f}, {score.high:.1f}]"


def _diverged(count: int) -> str:
    return f", {count} diverged" if count else ""


def _time(cell: Cell | None, paper: Cell, lost: int) -> str:
    if cell is None:
        return _absent(lost)
    if cell is paper:
        return f"{paper.seconds / 60:.1f}"
    seconds = cell.seconds_to(paper.curve[-1].score)
    if seconds is None:
        return f"never ({cell.seconds / 60:.1f})"
    return f"{seconds / 60:.1f} ({seconds / paper.seconds:.0%})"


def _absent(lost: int) -> str:
    return f"{lost} diverged" if lost else "not run"


def _about(rows: Sequence[Row]) -> str:
    """Say what the figures are and where they were measured."""
    rows = [row for row in rows if trains(row.method)]
    machine = rows[-1].machine
    commits = Counter(row.machine.get("commit", "unknown") for row in rows)
    loads = [row.machine.get("load", 0.0) for row in rows]
    reduced = sum(row.precision == "bfloat16" for row in rows)
    versions = ", ".join(f"{name} {text}" for name, text in machine.get("versions", {}).items())
    return (
        f"{len(rows)} trainings of {rows[0].updates:,} updates, each on one thread of "
        f"{machine.get('cpus')} cores (load {min(loads)} to {max(loads)} at its end), "
        f"Python {machine.get('python')}, {versions}; commits "
        f"{', '.join(name for name, _ in commits.most_common())}; matrix products of {reduced} "
        "trainings in bfloat16. Mean with its 95 % bootstrap interval over seeds and episodes (of "
        "one seed: over its episodes only), then seeds x episodes of each. Bold is the largest "
        "mean. *Diverged*: seeds whose training broke, or whose values left their limit, which is "
        "watched for ours only. The data of the locomotion sets is ours: 0 and 100 are D4RL's "
        "reference returns, and these are no D4RL "
        "scores. Of PushT, the mean covered share of the goal over 300 steps, in percent."
    )


if __name__ == "__main__":
    main()
