"""The page of what `benchmarks.motion.run` measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from benchmarks.machine import Line, markdown_table, where

COMMAND = "python -m benchmarks.motion.run --agents DIR --keep"
Key = tuple[str, int, int, str]


def table(lines: Sequence[Line], not_run: Sequence[str]) -> str:
    """Return the page; it names what was not run."""
    groups: dict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["robot"], line["horizon"], line["stall"], line["late"]].append(line)
    parts = [
        f"# Smooth and in time\n\n    {COMMAND}\n\n{where(lines)}\n\n"
        "Policies over topics, in real time; `benchmarks/motion/run.py` says how they learned. "
        "They decide H actions at a time, of which a quarter, rounded up, are played before the "
        "next are asked for. *Ticks stalled*: by how many control periods each decision takes "
        "longer.\n\n"
        "Means over *seeds*; in brackets the lowest and the highest. *Outcome*: the share of "
        "successes, or else the mean return. *Lost*: how much less it is than with the same H, no "
        "stall and punctual commands; below 0 it is more. *Running*: the share of ticks at which "
        "the policy acted; at the others the fallback did. *Jerk*: the mean absolute second "
        "difference of the commands, and *seam*: the mean step where a decision came in, over "
        "that within chunks.\n\n"
        "*Commands late*: they take effect a control period later, and the policy decides single "
        "actions. *Unaware*: the policy of the first table. *Aware*: one that was trained with "
        "`delay_s` and observes its last command, with dropout.\n"
    ]
    if not_run:
        parts.append(f"\nNot run: {', '.join(not_run)}.\n")
    for robot in dict.fromkeys(line["robot"] for line in lines):
        parts.append(f"\n## {robot}\n\n{_stalled(robot, groups)}\n{_late(robot, groups)}")
    return "".join(parts)


def _stalled(robot: str, groups: Mapping[Key, Sequence[Line]]) -> str:
    rows = []
    for (name, horizon, stall, late), found in sorted(groups.items()):
        if name == robot and not late:
            base = groups.get((robot, horizon, 0, ""), ())
            cells = [horizon, stall, len(found), _outcome(found), _lost(found, base)]
            rows.append([*cells, *_smoothness(found)])
    heads = ["H", "ticks stalled", "seeds", "outcome", "lost", "running", "jerk", "seam"]
    return markdown_table([*heads, "decisions/s"], rows)


def _late(robot: str, groups: Mapping[Key, Sequence[Line]]) -> str:
    base = groups.get((robot, 1, 0, ""), ())
    rows = [
        [late, len(found), _outcome(found), _lost(found, base), *_smoothness(found)]
        for (name, _, _, late), found in groups.items()
        if name == robot and late
    ]
    heads = ["commands late, policy", "seeds", "outcome", "lost", "running", "jerk", "seam"]
    return markdown_table([*heads, "decisions/s"], rows)


def _value(line: Line) -> float:
    rate = line.get("success_rate")
    return float(line["mean_return"] if rate is None else rate)


def _outcome(lines: Sequence[Line]) -> str:
    driven = [_value(line) for line in lines if "refused" not in line]
    if not driven:
        return "refused"
    share = all(line.get("success_rate") is not None for line in lines if "refused" not in line)
    style = ".0%" if share else ".0f"
    return f"{fmean(driven):{style}} [{min(driven):{style}}, {max(driven):{style}}]"


def _lost(lines: Sequence[Line], base: Sequence[Line]) -> str:
    """How much of the outcome without stall and latency is lost, of the same seeds."""
    before = {line["seed"]: _value(line) for line in base if "refused" not in line}
    pairs = [
        (_value(line), before[line["seed"]])
        for line in lines
        if "refused" not in line and before.get(line["seed"])
    ]
    if not pairs or lines is base:
        return ""
    ours, theirs = (fmean(each) for each in zip(*pairs, strict=True))
    return f"{1 - ours / theirs:.0%}"


def _smoothness(lines: Sequence[Line]) -> list[str]:
    driven = [line for line in lines if "refused" not in line]
    if not driven:
        return ["", "", "", ""]
    seams = [
        line["seam_step"] / line["step_within"]
        for line in driven
        if line["seam_step"] is not None and line["step_within"]
    ]
    jerks = [line["jerk"] for line in driven if line["jerk"] is not None]
    return [
        f"{fmean(line['running'] for line in driven):.0%}",
        f"{fmean(jerks):.3f}" if jerks else "",
        f"{fmean(seams):.2f}" if seams else "",
        f"{fmean(line['decisions_per_s'] for line in driven):.1f}",
    ]
