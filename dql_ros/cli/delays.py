"""What `dql inspect --delay` shows of a bag's delays."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from dql_core.cli.console import plain_table
from dql_core.cli.terminal import NameText
from dql_core.errors import ConfigError, counted, visible
from dql_ros.contract import Contract
from dql_ros.tools.delay.picture import shown_delay

_OF_PAIRS = (
    "delay: from a command to the first answer; lag: of the actuator, which is no part of it; "
    "explained: share of the state's motion"
)
_OF_STREAMS = "from header stamp to receipt; jitter: what 99 % need more than the median"
# Imported where a bundle is timed: ONNX Runtime takes a while.
_POLICIES, _TIMES = "dql_core.runtime.bundle_policy", "dql_ros.control.loaded_policy"


def delay_tables(document: Mapping[str, Any]) -> Group:
    """Show a bag's delays on a terminal.

    Args:
        document: With the keys ``bag`` and ``delay``, as `find_delays` returned it.
    """
    found = document["delay"]
    pairs = plain_table("command", "answered by", "delay", "lag", "explained")
    for pair in found["pairs"]:
        speed = "the speed of " if pair["answers_by"] == "speed" else ""
        state = (
            Text("nothing") if pair["state"] is None else NameText(speed + visible(pair["state"]))
        )
        numbers = (f"{pair['lag_ms']:.0f} ms", f"{pair['explained']:.0%}")
        if pair["delay_ms"] is None:
            numbers = ("", "")
        pairs.add_row(NameText(visible(pair["command"])), state, shown_delay(pair), *numbers)
    streams = plain_table("stream", "messages", "median ms", "99 % ms", "jitter ms", "")
    for row in found["streams"]:
        keys = ("median_ms", "p99_ms", "jitter_ms")
        figures = ("" if row[key] is None else f"{row[key]:.2f}" for key in keys)
        count = f"{row['messages']:,}"
        streams.add_row(NameText(visible(row["topic"])), count, *figures, row["doubt"])
    return Group(
        NameText(visible(f"delays of bag {document['bag']}"), "bold", overflow="fold"),
        pairs,
        Text(_OF_PAIRS, "dim italic"),
        streams,
        Text(_OF_STREAMS, "dim italic"),
        *(NameText(visible(f"- {remark}"), "yellow") for remark in found["remarks"]),
        *(NameText(visible(line)) for line in _lines(found)),
    )


def inference_of(bundle: Path, contract: Contract) -> dict[str, Any]:
    """Time a policy as a node does; what the node's commands are later by is ``send_after_s``.

    Args:
        bundle: A policy of the robot; its contract's delays and its weights do not matter.
        contract: What delays are looked for by.

    Raises:
        BundleError: If a file of the bundle is missing, damaged or foreign.
        ConfigError: If the bundle is of another robot.
    """
    policy = importlib.import_module(_POLICIES).load_policy(bundle)
    if policy.spec.robot != contract.robot:
        raise ConfigError(
            f"--bundle {bundle}: is of robot '{policy.spec.robot}', and the contract of "
            f"'{contract.robot}': give a bundle of this robot"
        )
    times = importlib.import_module(_TIMES).time_inference(policy)
    # A chunk is decided while actions are sent that belong to their ticks: nothing waits for it.
    added_s = math.ceil(times.p99_ns / 1e5) / 1e4 if policy.horizon == 1 else 0.0
    return {
        "bundle": str(bundle),
        "horizon": policy.horizon,
        "num_candidates": policy.choice.num_candidates,
        "p50_ms": times.p50_ns / 1e6,
        "p99_ms": times.p99_ns / 1e6,
        "send_after_s": added_s,
    }


def add_inference(found: dict[str, Any], inference: Mapping[str, Any], contract: Contract) -> None:
    """Count a policy's inference in what the node's commands are delayed by.

    Args:
        found: As `find_delays` returned it. Its lines for the contract get ``node_delay_s``, in
            seconds, and it gets ``inference``.
        inference: As `inference_of` returned it.
        contract: What the delays were found by.
    """
    found["inference"], added_s = inference, inference["send_after_s"]
    for line in found["contract"]:
        if line["delay_s"] is not None:
            line["node_delay_s"] = round(line["delay_s"] + added_s, 4)
    if added_s * contract.rate_hz >= 1:
        found["remarks"].append(
            f"inference takes {added_s:g} s, which is no less than the control period of "
            f"{1 / contract.rate_hz:g} s: sample fewer candidates, or train chunks "
            f"(policy.horizon)"
        )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to write into the contract."""
    inference = found.get("inference")
    if inference is not None:
        yield (
            f"inference of {inference['bundle']}, "
            f"{counted(inference['num_candidates'], 'candidate')}, here and now: "
            f"median {inference['p50_ms']:.1f} ms, 99 % {inference['p99_ms']:.1f} ms"
            + ("" if inference["horizon"] == 1 else "; of chunks, which it delays by nothing")
        )
    for line in found["contract"]:
        if line["delay_s"] is None:
            yield f"{line['topic']}: no delay_s for the contract: {line['doubt']}"
            continue
        sent = line.get("node_delay_s", line["delay_s"])
        after = inference["send_after_s"] if inference is not None else 0.0
        held = f", with the node's send_after_s: {after:g}," if after else ""
        yield (
            f"{line['topic']}: in the contract  delay_s: {sent:g}  if the node's commands go this "
            f"way{held} and  recorded_delay_s: {line['delay_s']:g}  to convert this bag"
        )
