"""The page of results from rows.

    python -m benchmarks.judge.table --rows runs/judge/rows.jsonl

Leaves results/judge.jsonl (the rows), results/judge.md and docs/images/judge.svg.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.judge.figure import draw
from benchmarks.judge.findings import (
    DISTANCE,
    FITTED,
    JUDGE,
    RANKERS,
    TD_ERROR,
    OfSet,
    Regret,
    group,
    rate,
    verdicts,
)
from benchmarks.judge.rows import Row
from benchmarks.machine import IMAGES, RESULTS, markdown_table
from benchmarks.suite.command import Options, exit_on_mistake
from benchmarks.suite.rows import read_rows_of
from dql_core.errors import ConfigError
from dql_core.evaluation.statistics import Estimate, estimate_mean
from dql_core.files import write_text

CHOOSERS = (JUDGE, FITTED, TD_ERROR, DISTANCE)


@exit_on_mistake
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the rows and the page, and print which goals are reached."""
    parser = Options(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="+", default=[RESULTS / "judge.jsonl"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of rows and table")
    parser.add_argument("--images", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    rows: dict[str, Row] = {}
    for path in options.rows:
        rows |= read_rows_of(Row, path)
    if not rows:
        raise ConfigError(f"--rows: {', '.join(map(str, options.rows))}: holds no row")
    sets = group(rows.values())
    _require_whole(sets)
    draw(sets, options.images / "judge.svg")
    lines = [json.dumps(asdict(row)) for one in sets for row in one.rows]
    write_text(options.out / "judge.jsonl", "".join(f"{line}\n" for line in lines))
    write_text(options.out / "judge.md", report(sets))
    print("\n".join(verdicts(sets)))


def report(sets: Sequence[OfSet]) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# How often the judge is right",
            "",
            "    python -m benchmarks.judge.policies --set SET",
            "    python -m benchmarks.judge.run --set SET",
            "    python -m benchmarks.judge.table --rows runs/judge/rows.jsonl",
            "",
            _about([row for one in sets for row in one.rows]),
            "",
            "## Order",
            "",
            "Spearman's correlation of each estimate with the true discounted return. The judge",
            "says a value, and chooses by what a policy is worth *at least*: more than the data,",
            "less one standard error.",
            "",
            _ranks(sets),
            "## Choice",
            "",
            "Regret: how far the chosen checkpoint's true value is below the best one's, as a",
            "share of the distance from the worst to the best.",
            "",
            _regrets(sets),
            "## Values and verdicts",
            "",
            _verdicts(sets),
            "## Cost",
            "",
            _costs(sets),
            "## What was to be reached",
            "",
            *(f"* {verdict}." for verdict in verdicts(sets)),
            "",
            "## All policies",
            "",
            "![Judged and true values](../../docs/images/judge.svg)",
            "",
            *(line for one in sets for line in _policies(one)),
        ]
    )


def _ranks(sets: Sequence[OfSet]) -> str:
    def cell(one: OfSet, ranker: str) -> str:
        found = one.rank(ranker)
        if found is None:
            return "not known"
        few = "" if found.count == len(one.rows) else f", of {found.count}"
        return f"{found.correlation.mean:.2f} {_interval(found.correlation)}{few}"

    rows = [[one.name, len(one.rows), *(cell(one, ranker) for ranker in RANKERS)] for one in sets]
    return markdown_table(["set", "policies", *RANKERS], rows)


def _regrets(sets: Sequence[OfSet]) -> str:
    rows = []
    for one in sets:
        within = [one.regret_in_runs(chooser) for chooser in CHOOSERS]
        over = [one.regret_over_all(chooser) for chooser in CHOOSERS]
        rows.append([one.name, "each run", _last(within[0]), *map(_chosen, within)])
        rows.append([one.name, "all", _last(over[0]), *map(_chosen, over)])
    return markdown_table(["set", "among", "the last", *CHOOSERS], rows)


def _verdicts(sets: Sequence[OfSet]) -> str:
    rows = [
        [
            one.name,
            f"{one.rows[0].behaviour:.4g}",
            f"{one.rows[0].judged_behaviour:.4g}",
            f"{rate(one.covered)}, of {len(one.covered)}" if one.covered else "not known",
            one.better,
            *(
                one.called(verdict)
                for verdict in ("better", "not distinguishable", "worse", "no verdict")
            ),
            _wrong(one),
        ]
        for one in sets
    ]
    headings = ["set", "the data", "the data as judged", "covered", "truly better"]
    headings += ["better", "not distinguishable", "worse", "no verdict", "worse called better"]
    return markdown_table(headings, rows)


def _costs(sets: Sequence[OfSet]) -> str:
    rows = [
        [
            one.name,
            f"{one.rows[0].together} policies by {one.rows[0].episodes} episodes, "
            f"{one.rows[0].learned:,} of {one.rows[0].held_out:,} transitions",
            f"{one.rows[0].seconds:.0f} s",
            f"{one.rows[0].cpu_seconds:.0f} s",
            "not run" if one.d3rlpy_seconds is None else f"{one.d3rlpy_seconds:.0f} s",
        ]
        for one in sets
    ]
    return markdown_table(["set", "judged", "the judge", "of computing", "d3rlpy's FQE"], rows)


def _policies(one: OfSet) -> list[str]:
    rows = []
    for row in sorted(one.rows, key=lambda each: -each.true_value):
        truth, own = estimate_mean(row.truth.discounted), row.estimated
        judged = ""
        if own.value is not None and own.low is not None and own.high is not None:
            judged = f"{own.value:.4g} [{own.low:.4g}, {own.high:.4g}]"
        rows.append(
            [
                row.policy.name,
                f"{truth.mean:.4g} [{truth.low:.4g}, {truth.high:.4g}]",
                f"{estimate_mean(row.truth.returns).mean:.4g}",
                judged,
                own.verdict,
                f"{own.far_share:.0%}",
                "" if row.d3rlpy is None else f"{row.d3rlpy.value:.4g}",
                "" if row.td_error is None else f"{row.td_error:.4g}",
            ]
        )
    headings = ["policy", "true value", "return", "judged", "verdict", "far share"]
    headings += ["d3rlpy's FQE", "TD error"]
    return [f"### {one.name}", "", markdown_table(headings, rows)]


def _chosen(regret: Regret | None) -> str:
    return "not known" if regret is None else _share(regret.chosen, regret.spread)


def _last(regret: Regret | None) -> str:
    return "not known" if regret is None else _share(regret.last, regret.spread)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole > 0 else "0%"


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.low:.2f}, {estimate.high:.2f}]"


def _wrong(one: OfSet) -> str:
    wrong = one.worse_called_better
    sure = sum(one.surely_worse(row) for row in wrong)
    return f"{len(wrong)} ({sure} beyond chance)" if wrong else "0"


def _require_whole(sets: Sequence[OfSet]) -> None:
    """Refuse what was judged by several datasets, or a part of what was judged together."""
    for one in sets:
        if len({(row.data_sha256, row.updates) for row in one.rows}) > 1:
            raise ConfigError(f"--rows: {one.name} was not judged alike in all rows")
        if missing := one.rows[0].together - len(one.rows):
            raise ConfigError(
                f"--rows: {one.name} lacks {missing} of {one.rows[0].together} policies: "
                f"benchmarks.judge.run goes on"
            )


def _about(rows: Sequence[Row]) -> str:
    """Say what the figures are and where they were measured."""
    machine = rows[-1].machine
    commits = Counter(row.machine.get("commit", "unknown") for row in rows)
    loads = [row.machine.get("load", 0.0) for row in rows]
    libraries = ", ".join(f"{name} {text}" for name, text in machine.get("versions", {}).items())
    episodes = sorted({len(row.truth.discounted) for row in rows})
    updates = sorted({row.updates for row in rows})
    return (
        f"{len(rows)} policies, each rolled out {', '.join(map(str, episodes))} times and judged "
        f"by episodes that none of them was trained on, with {', '.join(map(str, updates))} "
        f"updates of a fit, on one thread of {machine.get('cpus')} cores (load {min(loads)} to "
        f"{max(loads)}), Python {machine.get('python')}, {libraries}; commits "
        f"{', '.join(name for name, _ in commits.most_common())}. Values are discounted returns "
        "from first states, as if episodes had no time limit; intervals hold 95 %, those of "
        "correlations by a bootstrap over policies. *Covered*: how often the judge's interval "
        "holds the mean of the rollouts, which is itself uncertain. *The last*: without a choice "
        "one has a run's last checkpoint; among all policies, the last one of any run, the bad "
        "runs included. d3rlpy's "
        "FQE has its default settings, the same transitions, the same actions and as many "
        "updates as the judge's fits; *TD error* is of the critics on the held-out episodes, "
        "*distance* that of the actions from those recorded there."
    )


if __name__ == "__main__":
    main()
