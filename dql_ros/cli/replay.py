"""`dql replay`: what a bundle would have commanded in recorded situations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dql_core.cli.console import facts_table
from dql_core.cli.terminal import Terminal, print_line
from dql_core.errors import ConfigError, counted
from dql_core.extras import needing
from dql_core.files import atomic_directory
from dql_core.spec import PolicySpec
from dql_ros.bag.reader import Bag
from dql_ros.cli.inspect import MsgsOption, reading_bar
from dql_ros.codecs import StreamEncoder
from dql_ros.contract import contract_path, load_contract
from dql_ros.control.loaded_policy import load_bundle
from dql_ros.control.settings import LoopSettings
from dql_ros.tools.replay import FIGURES, TABLE
from dql_ros.tools.replay.replayed_bag import ReplayedBag, replay_bag

with needing("convert", __name__):
    from dql_ros.tools.replay.outputs import write_outputs


def replay(
    bundle: Annotated[Path, typer.Argument(help="Folder of the policy bundle.")],
    bags: Annotated[
        list[Path],
        typer.Argument(
            metavar="BAG...",
            help="rosbag2 folders, or single .mcap, .db3 or ROS 1 .bag files, also with .zstd.",
        ),
    ],
    contract: Annotated[
        Path,
        typer.Option(
            "--contract",
            help="Robot contract (yaml) that it was trained with, or a tighter copy: its "
            "path, or the name of one of this package's.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help=f"Folder to make: {TABLE} (a row a tick), {FIGURES}, and for each bag a picture "
            "and an MCAP bag with both commands. Must be new or empty.",
        ),
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", help="Namespace of the contract's relative topics.")
    ] = "/",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the sampled actions, as policy_node's.")
    ] = 0,
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage", help="Read what is left of damaged bags, and say how much is lost."
        ),
    ] = False,
    msgs: MsgsOption = None,
) -> None:
    """Run a bundle over bags, tick by tick, as policy_node would have; nothing is sent.

    Observations, guards and fallback are the node's own, with its default parameters, by the
    clock of the recording; ROS is not needed. Beside each command is the recorded one that a
    conversion makes the action of that tick. Only what takes time differs from a robot: no
    decision is late, and ticks lie otherwise than those of a node that was started at another
    moment.

    Exits with 0 if all bags were replayed, and 2 on a mistake that it names.

    Example: dql replay runs/arm/bundle bags/monday --contract arm.yaml --out runs/arm/replay
    """
    contract = contract_path(contract)
    rules = load_contract(contract)
    for stream in rules.action:
        StreamEncoder(stream)  # what cannot be sent is refused before anything is read
    spec = rules.policy_spec()
    loaded = load_bundle(bundle, spec)
    settings = LoopSettings(lockstep=True, seed=seed)
    replayed = []
    with atomic_directory(out, error=ConfigError) as unfinished:
        for path in bags:
            with (
                Bag(path, salvage=salvage, msgs=tuple(msgs or ())) as bag,
                reading_bar(f"Replaying {path.name}", bag.size_bytes) as progress,
            ):
                replayed.append(replay_bag(bag, rules, loaded, settings, namespace, progress))
        facts = {"contract": spec.contract_hash, "seed": seed, **loaded.facts}
        write_outputs(unfinished, rules, contract.read_text(), replayed, facts)
    console = Terminal()
    for each in replayed:
        console.print(facts_table(f"{each.name} replayed", _facts(each, spec)))
    print_line(f"{out}: {TABLE}, {FIGURES}, pictures and bags")


def _facts(bag: ReplayedBag, spec: PolicySpec) -> dict[str, object]:
    total, found = len(bag.ticks), bag.agreement
    shares = (f"{state} {count / total:.1%}" for state, count in bag.states.items())
    guards = (f"{name} {count:,}" for name, count in bag.guards.items())
    facts: dict[str, object] = {
        "ticks": f"{total:,} at {spec.rate_hz:g} Hz",
        "states": ", ".join(shares),
        "guards (ticks)": ", ".join(guards) or "none tripped",
    }
    if found.count:
        over = f"mean absolute difference over {counted(found.count, 'tick')}"
        facts["from the recorded"] = over
        for field, mean in zip(spec.action, found.by_field, strict=True):
            facts[f"  {field.name}"] = f"{mean:.4g} {field.unit}".rstrip()
    else:
        facts["from the recorded"] = "unknown: no tick has an action and a recorded command"
    if bag.remarks:
        facts["remarks"] = "\n".join(bag.remarks)
    return facts
