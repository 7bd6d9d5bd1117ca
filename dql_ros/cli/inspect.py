"""`dql inspect`: show what a file or folder of the project holds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from dql_core.cli.facts import facts_table, fields_table, plain_table, spec_facts
from dql_core.cli.terminal import Terminal, tell_document
from dql_core.errors import DqlError, did_you_mean
from dql_ros.bag.reader import STORAGE_SUFFIXES, Bag, is_storage
from dql_ros.cli.inspect_bag import bag_document, bag_tables
from dql_ros.cli.reading_bar import reading_bar
from dql_ros.contract import Contract, QualityOfService, load_contract
from dql_ros.survey.topics import survey

# Imported when it is needed: its libraries take seconds, which a bag need not wait for.
DESCRIBER = "dql_core.cli.inspect"


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A bag (rosbag2 folder, .mcap, .db3 or ROS 1 .bag file), dataset, run folder, "
            "checkpoint, policy bundle or contract.",
        ),
    ],
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage", help="Read a damaged bag up to the damage, and say how much is lost."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what is known of a bag as JSON.")
    ] = False,
) -> None:
    """Show what a bag, dataset, run, checkpoint, bundle or contract holds.

    A bag is read from start to end, so that all of it is known to be readable: its topics come
    with their rates, how even they are, and what their header stamps tell. Fields come with their
    units and bounds; a bundle is also checked for damage: every file's hash is compared with the
    manifest.

    Example: dql inspect runs/demo/bundles/diffusion_ql
    """
    if _looks_like_bag(path):
        document = _surveyed(path, salvage=salvage)
        if as_json:
            tell_document(document)
        else:
            Terminal().print(bag_tables(document))
        return
    if as_json or salvage:
        raise DqlError(f"{path}: is no bag; --json and --salvage are for bags")
    Terminal().print(_described(path))


def _looks_like_bag(path: Path) -> bool:
    if not path.is_dir():
        return path.is_file() and is_storage(path)
    return (path / "metadata.yaml").is_file() or any(map(is_storage, path.iterdir()))


def _surveyed(path: Path, *, salvage: bool) -> dict[str, Any]:
    with Bag(path, salvage=salvage) as bag, reading_bar("Reading", bag.size_bytes) as progress:
        return bag_document(bag, survey(bag, progress))


def _described(path: Path) -> Group:
    if not path.exists():
        siblings = [other.name for other in path.parent.glob("*")]
        raise DqlError(f"{path}: no such file or folder{did_you_mean(path.name, siblings)}")
    known = importlib.import_module(DESCRIBER).describe(path)
    if isinstance(known, Group):
        return known
    if path.suffix in {".yaml", ".yml"}:
        return _contract(path, load_contract(path))
    raise DqlError(
        f"{path}: is nothing that 'dql inspect' knows; it shows bags (a folder with "
        f"metadata.yaml, {' or '.join(STORAGE_SUFFIXES)} files), datasets, run folders, "
        f"checkpoints, policy bundles and contracts (.yaml)"
    )


def _contract(path: Path, contract: Contract) -> Group:
    streams = plain_table("topic", "type", "QoS", "age limit")
    streams.add_row(Text("observation", "bold"))
    for observed in contract.observation:
        limit = "none (latched)" if observed.latched else f"{observed.max_age_s:g} s"
        streams.add_row(observed.topic, _short(observed.type), _qos(observed.qos), limit)
    streams.add_section()
    streams.add_row(Text("action", "bold"))
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
