"""`dql inspect`: show what a file or folder of the project holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group

from dql_core.cli.facts import facts_table, fields_table, plain_table, spec_facts
from dql_core.cli.inspect import describe
from dql_core.errors import DqlError, did_you_mean
from dql_ros.bag.reader import STORAGE_SUFFIXES, Bag
from dql_ros.contract import Contract, QualityOfService, load_contract


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A bag (rosbag2 folder, .mcap or .db3 file), dataset, run folder, checkpoint, "
            "policy bundle or contract.",
        ),
    ],
) -> None:
    """Show what a bag, dataset, run, checkpoint, bundle or contract holds.

    Fields come with their units and bounds; a bundle is also checked for
    damage: every file's hash is compared with the manifest.

    Example: dql inspect runs/demo/bundles/diffusion_ql
    """
    Console().print(_describe(path))


def _describe(path: Path) -> Group:
    if not path.exists():
        siblings = [other.name for other in path.parent.glob("*")]
        raise DqlError(f"{path}: no such file or folder{did_you_mean(path.name, siblings)}")
    known = describe(path)
    if known is not None:
        return known
    if _looks_like_bag(path):
        with Bag(path) as bag:
            return _bag(bag)
    if path.suffix in {".yaml", ".yml"}:
        return _contract(path, load_contract(path))
    raise DqlError(
        f"{path}: is nothing that 'dql inspect' knows; it shows bags (a folder with "
        f"metadata.yaml, {' or '.join(STORAGE_SUFFIXES)} files), datasets, run folders, "
        f"checkpoints, policy bundles and contracts (.yaml)"
    )


def _looks_like_bag(path: Path) -> bool:
    if path.is_file():
        return path.suffix in STORAGE_SUFFIXES
    inside = {other.suffix for other in path.iterdir()}
    return (path / "metadata.yaml").is_file() or bool(inside & set(STORAGE_SUFFIXES))


def _bag(bag: Bag) -> Group:
    duration_s = (bag.end_ns - bag.start_ns) / 1e9
    started = datetime.fromtimestamp(bag.start_ns / 1e9, tz=timezone.utc)
    facts: Mapping[str, object] = {
        "starts": f"{bag.start_ns / 1e9:.3f} s ({started:%Y-%m-%d %H:%M:%S} UTC)",
        "duration": f"{duration_s:.3f} s",
        "messages": f"{bag.message_count:,}",
        "files": f"{', '.join(file.name for file in bag.files)} ({bag.size_bytes / 1e6:.2f} MB)",
        "carries": ", ".join(bag.custom_data),
    }
    topics = plain_table("topic", "type", "messages", "mean rate")
    for topic in sorted(bag.topics.values(), key=lambda topic: topic.name):
        rate = f"{(topic.count - 1) / duration_s:.1f} Hz" if duration_s and topic.count > 1 else ""
        topics.add_row(topic.name, _short(topic.msgtype), f"{topic.count:,}", rate)
    return Group(facts_table(f"bag {bag.path}", facts), topics)


def _contract(path: Path, contract: Contract) -> Group:
    streams = plain_table("topic", "type", "QoS", "age limit")
    streams.add_row("[bold]observation[/]")
    for observed in contract.observation:
        limit = "none (latched)" if observed.latched else f"{observed.max_age_s:g} s"
        streams.add_row(observed.topic, _short(observed.type), _qos(observed.qos), limit)
    streams.add_section()
    streams.add_row("[bold]action[/]")
    for commanded in contract.action:
        streams.add_row(commanded.topic, _short(commanded.type), _qos(commanded.qos))
    safe = ", ".join(f"{value:g}" for value in contract.safe_command)
    facts = {
        **spec_facts(contract.policy_spec()),
        "on a fault": f"hold for {contract.on_fault.hold_s:g} s, then send {safe}",
    }
    return Group(
        facts_table(f"contract {path}", facts), streams, fields_table(contract.policy_spec())
    )


def _short(msgtype: str) -> str:
    return msgtype.replace("/msg/", "/")


def _qos(qos: QualityOfService) -> str:
    return f"{qos.reliability}, {qos.durability}"
