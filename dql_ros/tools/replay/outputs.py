"""The files of a replay: a table, figures, pictures, and bags for Foxglove."""

from __future__ import annotations

import csv
import heapq
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dql_core.files import write_text
from dql_core.spec import FieldSpec
from dql_ros.bag.metadata import describe
from dql_ros.bag.writer import BagWriter
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.blank import blank_element, blank_message
from dql_ros.contract import Contract
from dql_ros.tools.layouts import COLORS
from dql_ros.tools.replay import FIGURES, TABLE
from dql_ros.tools.replay.recorded import RecordedMessage
from dql_ros.tools.replay.replayed_bag import ReplayedBag, trips

# Before the name of a command topic: what the node of the usual name would have sent.
REPLAYED = "/policy/replay"
_DPI = 120


def write_outputs(
    folder: Path,
    contract: Contract,
    contract_text: str,
    bags: Sequence[ReplayedBag],
    facts: Mapping[str, Any],
) -> None:
    """Write all files of a replay into an empty folder.

    Those of bag i are ``replay_<i>.png`` and the rosbag2 folder ``replay_<i>``.

    Args:
        folder: Where.
        contract: The robot contract.
        contract_text: Its yaml, which the bags carry.
        bags: What was replayed.
        facts: What else ``replay.json`` is to say.

    Raises:
        BagError: If the disk does not take it.
    """
    fields = contract.policy_spec().action
    names = [field.name for field in fields]
    write_table(folder / TABLE, contract, bags)
    document = {
        **facts,
        "units": {field.name: field.unit for field in fields},
        "bags": [bag.to_json(names) for bag in bags],
    }
    write_text(folder / FIGURES, json.dumps(document, indent=2) + "\n")
    for number, bag in enumerate(bags):
        draw(folder / f"replay_{number}.png", fields, bag)
        write_bag(folder / f"replay_{number}", contract, contract_text, bag)


def write_table(path: Path, contract: Contract, bags: Iterable[ReplayedBag]) -> None:
    """Write one row a tick; what there is not is empty.

    Numbers of commands are the shortest that read back as the same float32.
    """
    streams = [stream.key for stream in contract.observation]
    names = [field.name for field in contract.policy_spec().action]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["bag", "span", "time_ns", "time_s", "state", "fault", "warnings", "reason"]
            + [f"age_s.{stream}" for stream in streams]
            + [f"{kind}.{name}" for name in names for kind in ("sent", "recorded")]
        )
        for bag in bags:
            table.writerows(_rows(bag, streams))


def _rows(bag: ReplayedBag, streams: Sequence[str]) -> Iterator[list[object]]:
    for tick, time_s, sent, recorded in zip(
        bag.ticks, bag.times_s, bag.sent, bag.recorded, strict=True
    ):
        command, ages_ns = tick.command, tick.observation.ages_ns
        row: list[object] = [bag.name, tick.span, tick.time_ns, f"{time_s:.9f}"]
        row += [command.state.value, command.fault.guard.value if command.fault else ""]
        row.append(" ".join(trip.guard.value for trip in command.warnings))
        row.append("; ".join(trip.reason for trip in trips(tick)))
        for stream in streams:
            age_ns = ages_ns[stream]
            row.append("" if age_ns is None else f"{age_ns / 1e9:.9f}")
        for ours, theirs in zip(sent, recorded, strict=True):
            row += [str(value) if math.isfinite(value) else "" for value in (ours, theirs)]
        yield row


def draw(path: Path, fields: Sequence[FieldSpec], bag: ReplayedBag) -> None:
    """Draw each action field over time: replayed, recorded, and where the policy did not act."""
    figure = Figure(figsize=(11, 1 + 2 * len(fields)), layout="constrained")
    panels = figure.subplots(len(fields), 1, sharex=True, squeeze=False)[:, 0]
    times_s, sent, idle = bag.times_s, bag.sent, ~bag.running
    shaded = idle | np.append(False, idle[:-1])  # to the end of the last tick
    for index, (axes, field) in enumerate(zip(panels, fields, strict=True)):
        axes.step(times_s, bag.recorded[:, index], where="post", color=COLORS[1], label="recorded")
        axes.step(times_s, sent[:, index], where="post", color=COLORS[0], label="replayed")
        axes.fill_between(
            times_s,
            0,
            1,
            where=shaded.tolist(),
            step="post",
            transform=axes.get_xaxis_transform(),
            color="#999999",
            alpha=0.3,
            linewidth=0,
            label="the policy does not act" if idle.any() else "_",
        )
        title = f"{field.name} ({field.unit})" if field.unit else field.name
        axes.set_title(title, fontsize="medium", parse_math=False)
    panels[0].legend(fontsize="small", loc="upper right")
    panels[-1].set_xlabel("time since the first message (s)")
    figure.suptitle(Path(bag.name).name, parse_math=False)
    figure.savefig(path, dpi=_DPI)


def write_bag(folder: Path, contract: Contract, contract_text: str, bag: ReplayedBag) -> None:
    """Write the recorded commands under their own topics, and those of the replay beside them.

    The latter are on ``/policy/replay/<topic>``; both have the recording's times.

    Raises:
        BagError: If the disk does not take it.
        ContractError: If a command cannot be sent.
    """
    writer = BagWriter(folder, contract_text=contract_text)
    for role in bag.commands.roles:
        typestore = bag.commands.typestore(role)
        names = {f"{REPLAYED}{role.topic}"} | ({role.topic} - set(bag.commands.missing))
        for name in sorted(names):
            writer.add(describe(name, role.rule.type, (), None, typestore))
    recorded = sorted(bag.commands.messages, key=lambda message: message.log_time_ns)
    for message in heapq.merge(
        recorded, _replayed(contract, bag), key=lambda message: message.log_time_ns
    ):
        writer.write(message.topic, message.cdr, message.log_time_ns)
    writer.close()


def _replayed(contract: Contract, bag: ReplayedBag) -> Iterator[RecordedMessage]:
    encoders = []
    start = 0
    for stream, role in zip(contract.action, bag.commands.roles, strict=True):
        part = slice(start, start + stream.width)
        encoders.append((StreamEncoder(stream), part, role, bag.commands.typestore(role)))
        start += stream.width
    for tick in bag.ticks:
        values = tick.command.values
        if values is None:
            continue
        for encoder, part, role, typestore in encoders:
            msgtype = role.rule.type
            message = encoder.encode(
                values[part],
                blank_message(typestore, msgtype),
                tick.time_ns,
                partial(blank_element, typestore),
            )
            cdr = bytes(typestore.serialize_cdr(message, msgtype))
            yield RecordedMessage(tick.time_ns, f"{REPLAYED}{role.topic}", cdr)
