"""How fast a bag becomes a dataset, against a plain loop over the same bag; JSON lines.

    python -m benchmarks.convert.speed           # prints lines
    python -m benchmarks.convert.speed --keep    # and writes them to benchmarks/results

The bag has JointState(7) at 500 Hz and Twist at 50 Hz (`benchmarks/convert/bags.py`). The
yardstick is the loop that people write: rosbags iterates and deserialises, numbers are appended to
lists and become numpy arrays at the end; it aligns, rewards, checks and writes nothing.
``convert`` is the whole of ``dql convert``: read, decode, align, cut into episodes, reward, hash
the input, write the Minari dataset and the report; its stages are measured by themselves, too, and
``convert, commands paused`` is the same of a bag that has commands in its first and last second
only: a pause may not cost more than what it leaves out. All run in one process with one thread for
numpy's products and take turns, so that whatever else the machine does falls on all; the ratio is
the median over the turns of the ratio of their times, then over several processes, with its range.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from benchmarks.convert.bags import STORAGES, TOPICS, message_count, write_bag, write_contract
from benchmarks.convert.stages import stages
from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_core.export.latency import speed_ratio, time_interleaved
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert

PAUSED = "convert, commands paused"
SECONDS, PROCESSES, ROUNDS = 200, 3, 5
COMMAND = "python -m benchmarks.convert.speed --keep"


def main() -> None:
    """Write a bag of each storage and measure it in several processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="length of the bag")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns in a process")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    parser.add_argument("--measure", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        contract, bag, paused = arguments.measure
        compare(contract, bag, paused, arguments.seconds, arguments.rounds)
        return
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        contract = write_contract(Path(folder))
        for storage in STORAGES:
            place = Path(folder) / storage.replace(" ", "_")
            bag = write_bag(place / "whole", storage, seconds=arguments.seconds)
            paused = write_bag(
                place / "paused", storage, seconds=arguments.seconds, is_paused=True
            )
            options = ["--seconds", str(arguments.seconds), "--rounds", str(arguments.rounds)]
            part = [*options, "--measure", str(contract), str(bag), str(paused)]
            runs = [run_part(part) for _ in range(arguments.processes)]
            lines += [show({"storage": storage, **line}) for line in summary(runs)]
    if arguments.keep:
        keep("convert_speed", lines, table(lines))


def run_part(options: list[str]) -> list[Line]:
    """Measure in a new process and return its lines."""
    command = [sys.executable, "-m", "benchmarks.convert.speed", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return [json.loads(line) for line in finished.stdout.splitlines()]


def compare(contract: Path, bag: Path, paused: Path, seconds: int, rounds: int) -> None:
    """Let the plain loop and ours take turns on one bag, and ours on one with a pause."""
    messages = message_count(seconds)
    if plain_loop(bag) != messages:
        raise SystemExit(f"the plain loop did not read all {messages} messages of {bag}")
    with tempfile.TemporaryDirectory() as folder:
        functions: dict[str, Callable[[], object]] = {
            "yardstick": partial(plain_loop, bag),
            **stages(bag, load_contract(contract)),
            "convert": conversion(contract, bag, Path(folder) / "whole"),
            PAUSED: conversion(contract, paused, Path(folder) / "paused"),
        }
        for function in functions.values():
            function()
        times = time_interleaved(functions, rounds=rounds, calls=1, warm_up=0)
    for name, taken in times.items():
        messages = message_count(seconds, is_paused=name == PAUSED)
        seconds_taken = float(np.median(taken)) / 1e6
        _, ratio, _ = speed_ratio(times["yardstick"], taken)
        show(
            {
                "benchmark": "convert_speed",
                "variant": name,
                "messages": messages,
                "seconds": round(seconds_taken, 4),
                "messages_per_s": round(messages / seconds_taken),
                "times_the_yardstick": round(ratio, 2),
                **machine(),
            }
        )


def plain_loop(bag: Path) -> int:
    """Read a bag as people do; return the number of messages."""
    rows: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
    stamps = []
    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        wanted = [connection for connection in reader.connections if connection.topic in rows]
        for connection, log_time, raw in reader.messages(connections=wanted):
            message: Any = reader.deserialize(raw, connection.msgtype)
            if connection.topic == "/joint_states":
                stamp = message.header.stamp
                stamps.append(stamp.sec * 1_000_000_000 + stamp.nanosec)
                rows[connection.topic].append(np.concatenate([message.position, message.velocity]))
            elif connection.topic == "/cmd_vel":
                rows[connection.topic].append((log_time, message.linear.x, message.angular.z))
            else:
                rows[connection.topic].append((log_time, message.data))
    arrays = [np.array(stamps), *(np.array(values) for values in rows.values())]
    return sum(len(array) for array in arrays[1:])


def conversion(contract: Path, bag: Path, folder: Path) -> Callable[[], object]:
    """Return a function that converts a bag to one more folder."""
    numbers = itertools.count()
    source = Source(
        contract=load_contract(contract),
        bags=[bag],
        contract_name=contract.name,
        contract_text=contract.read_text(),
    )
    return lambda: convert(source, folder / str(next(numbers)))


def summary(runs: list[list[Line]]) -> list[Line]:
    """Make one line of the equal lines of several processes."""
    lines = []
    for same in zip(*runs, strict=True):
        line = dict(same[0])
        for name in ("seconds", "messages_per_s", "times_the_yardstick", "load"):
            line[name] = statistics.median(each[name] for each in same)
        ratios = [each["times_the_yardstick"] for each in same]
        lines.append(line | {"ratio_range": [min(ratios), max(ratios)], "processes": len(same)})
    return lines


def table(lines: list[Line]) -> str:
    """Return the page of the results."""
    rows = [
        (
            line["storage"],
            line["variant"],
            f"{line['seconds']:.3f} s",
            f"{line['messages_per_s']:,.0f}",
            f"{line['times_the_yardstick']} {line['ratio_range']}",
        )
        for line in lines
    ]
    headings = ("storage", "", "median", "messages/s", "times as fast")
    return (
        f"# How fast a bag becomes a dataset\n\n    {COMMAND}\n\n{where(lines)}\n"
        f"The lines as printed are in [convert_speed.jsonl](convert_speed.jsonl). The bag has "
        f"{lines[0]['messages']:,} messages:\nJointState(7) at 500 Hz and Twist at 50 Hz. The "
        f"yardstick is the plain loop: rosbags iterates and\ndeserialises, numbers go to lists "
        f"and become numpy arrays. `convert` is the whole of `dql convert`,\nwith rewards, "
        f"dataset and report; `{PAUSED}` that of a bag with commands at its\ntwo ends "
        f"only. All take turns in one process; medians over "
        f"{lines[0]['processes']} processes,\nin brackets the range of their ratios.\n\n"
        f"{markdown_table(headings, rows)}"
    )


if __name__ == "__main__":
    main()
