"""The results of the demo's agents as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.demo.findings import DEMONSTRATIONS, Findings, Measure
from dql_core.evaluation.statistics import Estimate


def report(findings: Findings, facts: dict[str, Any]) -> str:
    """Return the whole page.

    Args:
        findings: What came of the trainings.
        facts: How they were made, as `demo_agents` prints it.
    """
    seeds = " ".join(map(str, facts["seeds"]))
    return "\n".join(
        [
            "# All agents on the demo's two-way robot",
            "",
            f"    python -m benchmarks.demo.agents --seeds {seeds} "
            f"--demonstrations {facts['demonstrations']} --episodes {facts['episodes']}",
            "",
            f"Commit {facts['commit']}, Python {facts['python']}, torch {facts['torch']}, "
            f"{facts['cpus']} cores ({facts['capability']}), {facts['minutes']} minutes. Two "
            "trainings at a time, one thread each, on a machine that had other work.",
            "",
            f"Each seed has {facts['demonstrations']} demonstrations and trainings of its own; "
            f"each policy drives {facts['episodes']} episodes from the same starts. Ways: shares "
            "of the successful episodes that passed the post on the shorter, inner side and on "
            "the outer one. Intervals are 95 %: over the seeds by Student's t; in the last table "
            "over the episodes.",
            "",
            "## Verdicts",
            "",
            *verdict_lines(findings),
            "",
            "![Success and return of each agent](../../docs/images/demo_agents.png)",
            "",
            "## Means over the seeds",
            "",
            "| policy | success rate | mean return | inner way | outer way |",
            "|---|---|---|---|---|",
            *mean_rows(findings),
            "",
            "## Time",
            "",
            "Without the updates before the first reading. CPU seconds are those of the "
            "training's own thread, so other work on the machine counts less in them. First "
            "update: compilation included, from an empty cache on the first seed.",
            "",
            "| agent | updates | s | CPU s | updates/s | updates/CPU s | first update, s |",
            "|---|---|---|---|---|---|---|",
            *time_rows(findings),
            "",
            "## Each seed",
            "",
            "| seed | policy | success rate | mean return | inner way | outer way "
            "| updates/s | updates/CPU s |",
            "|---|---|---|---|---|---|---|---|",
            *seed_rows(findings),
            "",
        ]
    )


def verdict_lines(findings: Findings) -> list[str]:
    """A line for each claim: whether it holds, and by how much."""
    lines = []
    for verdict in findings.verdicts():
        parts = [
            f"{'yes' if verdict[measure]['holds'] else '**no**'} in {measure} "
            f"({_difference(verdict[measure]['difference'], measure)})"
            for measure in ("success", "return")
        ]
        lines.append(f"* {verdict['claim']}: {', '.join(parts)}")
    return lines


def mean_rows(findings: Findings) -> list[str]:
    """A row for each policy."""
    rows = []
    for key, label in findings.labels.items():
        episodes = [findings.episodes(key, seed) for seed in findings.seeds]
        inner = sum(each.successes_by("inner") for each in episodes) / len(episodes)
        outer = sum(each.successes_by("outer") for each in episodes) / len(episodes)
        success, mean = findings.over_seeds(key, "success"), findings.over_seeds(key, "return")
        rows.append(
            f"| {label} | {_percent(success)} | {_number(mean)} | {inner:.0%} | {outer:.0%} |"
        )
    return rows


def time_rows(findings: Findings) -> list[str]:
    """A row for each agent."""
    rows = []
    for agent in findings.agents:
        steps = findings.trained[agent.key, findings.seeds[0]].steps
        wall = findings.mean_speed(agent.key, lambda trained: trained.updates_per_s)
        cpu = findings.mean_speed(agent.key, lambda trained: trained.updates_per_cpu_s)
        first = [findings.trained[agent.key, seed].first_update_s for seed in findings.seeds]
        rows.append(
            f"| {agent.label} | {steps} | {steps / wall:.0f} | {steps / cpu:.0f} | {wall:.0f} "
            f"| {cpu:.0f} | {', '.join(f'{seconds:.2g}' for seconds in first)} |"
        )
    return rows


def seed_rows(findings: Findings) -> list[str]:
    """A row for each seed and policy."""
    rows = []
    for seed in findings.seeds:
        for key, label in findings.labels.items():
            episodes = findings.episodes(key, seed)
            speeds = " | "
            if key != DEMONSTRATIONS:
                trained = findings.trained[key, seed]
                speeds = f"{trained.updates_per_s:.0f} | {trained.updates_per_cpu_s:.0f}"
            rows.append(
                f"| {seed} | {label} | {_percent(episodes.success_rate)} "
                f"| {_number(episodes.mean_return)} | {episodes.successes_by('inner'):.0%} "
                f"| {episodes.successes_by('outer'):.0%} | {speeds} |"
            )
    return rows


def _difference(difference: dict[str, Any], measure: Measure) -> str:
    low, high = difference["ci95"]
    factor, unit, digits = (100, " points", 1) if measure == "success" else (1, "", 2)
    mean, low, high = (
        "?" if value is None else f"{value * factor:+.{digits}f}"
        for value in (difference["mean"], low, high)
    )
    seeds = ", ".join(f"{value * factor:+.{digits}f}" for value in difference["by_seed"])
    return f"{mean} [{low}, {high}]{unit}; by seed {seeds}"


def _percent(estimate: Estimate) -> str:
    low, high = max(0.0, estimate.low), min(1.0, estimate.high)
    return f"{estimate.mean:.1%} [{low:.1%}, {high:.1%}]"


def _number(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
