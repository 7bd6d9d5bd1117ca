"""What the figures of the control path's timing come to, and their page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.machine import Line, markdown_table, where

RATE_ERROR, MISSED, JITTER, INFERENCES = 0.001, 0.001, 2.0, 1.5


@dataclass(frozen=True)
class Condition:
    """Under which something is measured.

    Attributes:
        rate_hz: The control rate.
        busy: Whether another process keeps one core busy.
    """

    rate_hz: float
    busy: bool

    def to_json(self) -> Line:
        """Return it as part of a line."""
        return {"rate_hz": self.rate_hz, "one_core_busy": self.busy}


def judge(condition: Condition, lines: Sequence[Line]) -> Line:
    """Return the line that compares the policy's figures with the better yardstick's."""
    policy = next(line for line in lines if line["variant"] == "policy")
    timer = _best(lines, "timer", "jitter_p99_ms")
    echo = _best(lines, "echo", "latency_p99_ms")
    missed_share = policy["missed"] / (policy["missed"] + policy["ticks"])
    rate_error = abs(policy["achieved_hz"] / condition.rate_hz - 1)
    jitter_ratio = policy["jitter_p99_ms"] / timer["jitter_p99_ms"]
    unanswered = policy["without_policy_action"] / policy["ticks"]
    latency_ms = policy["latency_p99_of_all_ms"]
    bound_ms = echo["latency_p99_ms"] + INFERENCES * policy["inference_p99_ms"]
    return {
        "benchmark": "control_timing",
        **condition.to_json(),
        "variant": "verdict",
        "rate_error_percent": round(100 * rate_error, 3),
        "missed_percent": round(100 * missed_share, 3),
        "timer": timer["variant"],
        "jitter_p99_times_the_timer's": round(jitter_ratio, 2),
        "echo": echo["variant"],
        "without_policy_action_percent": round(100 * unanswered, 3),
        "latency_p99_of_all_ms": latency_ms,
        "latency_bound_ms": round(bound_ms, 3),
        "met": {
            "rate": bool(rate_error <= RATE_ERROR),
            "missed": bool(missed_share <= MISSED),
            "jitter": bool(jitter_ratio <= JITTER),
            "latency": latency_ms is not None and bool(latency_ms <= bound_ms),
        },
    }


def _best(lines: Sequence[Line], kind: str, figure: str) -> Line:
    alike = [line for line in lines if line["variant"].startswith(kind)]
    return min(alike, key=lambda line: float(line[figure]))


def table(command: str, lines: Sequence[Line]) -> str:
    """Return the page of the results."""
    measured = [line for line in lines if line["variant"] != "verdict"]
    verdicts = [line for line in lines if line["variant"] == "verdict"]
    return (
        f"# Timing of the policy node in real time\n\n    {command}\n\n{where(lines)}\n"
        f"Where the load is above the number of cores, everything here had to wait for a core "
        f"at times.\n\n"
        f"The lines as printed are in [control_timing.jsonl](control_timing.jsonl); what is "
        f"measured, and how,\nis said in `benchmarks/control/timing.py`. Times are p50 / p99 / "
        f"max in ms. `timer` and `echo` are\nthe yardsticks, bare rclpy nodes with either "
        f"executor, in turns with the policy node. `normal priority` is the policy node where it "
        f"may not have a\nreal-time priority.\n\n"
        f"{markdown_table(_HEADINGS, [_row(line) for line in measured])}\n"
        f"Against the aims: rate within {RATE_ERROR:.1%}, at most {MISSED:.1%} of the ticks "
        f"missed, jitter p99 at most {JITTER:g} x\nthe better timer's, latency p99 at most the "
        f"better echo's plus {INFERENCES:g} x the inference's p99.\n`no action` are ticks at "
        f"which the fallback was sent in place of an action, as when inference\ntook longer than "
        f"the period; in the latency below they count as never answered, in that above\nthey do "
        f"not occur. States come every 2 ms: where the period is no multiple of that, a state "
        f"waits\nup to 2 ms for its tick, whatever the node does; that is in the latency, too. So "
        f"is that the\npublisher of the states, which has no priority, is late where a core is "
        f"busy.\n\n"
        f"{markdown_table(_VERDICT_HEADINGS, [_verdict_row(line) for line in verdicts])}"
    )


SPREADS = ("jitter", "age", "inference", "tick_to_command", "latency")

_HEADINGS = (
    "rate",
    "one core busy",
    "node",
    "achieved Hz",
    "missed of ticks",
    "jitter",
    "age of state",
    "inference",
    "tick to command",
    "state to command",
    "no action",
    "CPU",
    "load",
)

_VERDICT_HEADINGS = (
    "rate",
    "one core busy",
    "rate error",
    "missed",
    "no action",
    "jitter p99",
    "latency p99",
)


def _row(line: Line) -> tuple[object, ...]:
    return (
        f"{line['rate_hz']:g} Hz",
        _yes(line["one_core_busy"]),
        line["variant"],
        line["achieved_hz"],
        f"{line['missed']} of {line['missed'] + line['ticks']}" if "missed" in line else "",
        *(_spread(line, name) for name in SPREADS),
        line.get("without_policy_action", ""),
        f"{line['cpu_percent']:.0f} %",
        line["load"],
    )


def _verdict_row(line: Line) -> tuple[str, ...]:
    met = {name: "met" if ok else "**not met**" for name, ok in line["met"].items()}
    latency_ms = line["latency_p99_of_all_ms"]
    latency = "never" if latency_ms is None else f"{latency_ms} ms"
    jitter = line["jitter_p99_times_the_timer's"]
    return (
        f"{line['rate_hz']:g} Hz",
        _yes(line["one_core_busy"]),
        f"{line['rate_error_percent']} %: {met['rate']}",
        f"{line['missed_percent']} %: {met['missed']}",
        f"{line['without_policy_action_percent']} %",
        f"{jitter} x the timer's: {met['jitter']}",
        f"{latency}, of {line['latency_bound_ms']} ms: {met['latency']}",
    )


def _spread(line: Line, name: str) -> str:
    keys = [f"{name}_{part}_ms" for part in ("p50", "p99", "max")]
    return " / ".join(f"{line[key]:.2f}" for key in keys) if keys[0] in line else ""


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
