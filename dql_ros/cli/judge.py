"""`dql judge`: say by recorded episodes which policy is better than what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from dql_core.cli.terminal import Terminal
from dql_core.errors import BagError, ConfigError, visible
from dql_core.extras import needing
from dql_core.files import atomic_directory
from dql_core.process import CHECK_FAILED
from dql_core.training.run_files import ALL
from dql_ros.bag.reader import Bag
from dql_ros.cli.inspect import MsgsOption, reading_bar
from dql_ros.contract import contract_path, load_contract, resolve_topic
from dql_ros.contract.shadow import POLICY_NODE

with needing("train", __name__):
    from dql_core.cli.judgement import (
        PAGE_FILE,
        judge_policies,
        show_judgement,
        show_shadow,
        write_judgement,
    )
    from dql_core.data.dataset import LoadedDataset, load_datasets
    from dql_core.evaluation.offline.judging import Judgement, meets
    from dql_core.evaluation.offline.shadow import ShadowFindings, compare_shadow, document_of
    from dql_core.export.candidates import Policies, held_out_episodes
    from dql_ros.tools.shadow import ShadowSource, read_shadow

RequiredVerdict = Literal["better", "not-worse"]


def judge(
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for judge.json and judge.html. Must be new or empty."),
    ],
    policies: Annotated[
        list[Path] | None,
        typer.Argument(metavar="POLICY...", help="Run folders, checkpoints and bundles."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Episodes to judge by, folder or Minari id, repeatable; best those that nothing "
            "was trained on. Default: those that the first run held out.",
        ),
    ] = None,
    shadow: Annotated[
        list[Path] | None,
        typer.Option(
            "--shadow",
            metavar="BAG",
            help="A recording of shadow mode, repeatable: what the policy would have sent beside "
            "what was sent. Policies, if any, are judged by its episodes.",
        ),
    ] = None,
    contract: Annotated[
        Path | None,
        typer.Option(
            "--contract",
            help="With --shadow: the robot contract (yaml), its path or the name of one of this "
            "package's.",
        ),
    ] = None,
    node: Annotated[
        str, typer.Option("--node", help="With --shadow: name of the node that looked on.")
    ] = POLICY_NODE,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace", help="With --shadow: namespace of node and contract's relative topics."
        ),
    ] = "/",
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="With --shadow: read what is left of damaged bags."),
    ] = False,
    msgs: MsgsOption = None,
    checkpoints: Annotated[
        str,
        typer.Option(
            help="Which checkpoints of each run: all, or steps and names (last, best_offline, "
            "best_online, last_healthy) with commas between them."
        ),
    ] = ALL,
    discount: Annotated[
        float | None,
        typer.Option(
            help="Weight of a reward that is one step later, below 1. Default: the largest that "
            "one of the policies was trained with."
        ),
    ] = None,
    require: Annotated[
        RequiredVerdict | None,
        typer.Option(
            help="Exit with 1 unless the policy to take is better than the data, or not worse."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds all that is random.")] = 0,
) -> None:
    """Say by held-out episodes which policy is better than what was recorded, before it moves.

    Estimates what each policy is worth by fitted Q evaluation, with an interval,
    beside what was recorded; compares its actions with the recorded ones; and
    says which checkpoint to take and what speaks against it. Values are
    discounted returns from the first states of the episodes.

    With --shadow: compares what a policy in shadow mode would have sent with
    what was sent. That has no value by itself; policies that are named, too,
    are valued by the recording's episodes.

    Writes DIR/judge.json and the page DIR/judge.html. Without simulator and
    robot this is an estimate: it does not see what happens where nobody has
    been. How often it is right is measured on one simulated robot only so
    far: benchmarks/results/judge.md.

    Example: dql judge runs/arm --out runs/arm/judge
    """
    named, bags = policies or [], shadow or []
    _require_sense(named, bags, dataset, contract, require)
    console = Terminal()
    # Before minutes of work: whether it can be written.
    with atomic_directory(out, error=ConfigError) as folder:
        found = Policies(named, checkpoints) if named else None
        judgement, looked_on = None, None
        if bags and contract is not None:
            source = ShadowSource(
                load_contract(contract_path(contract)),
                namespace,
                resolve_topic(node, namespace),
                needs_rewards=found is not None,
            )
            episodes, looked_on = _compared(bags, source, salvage, tuple(msgs or ()), seed)
        else:
            episodes = load_datasets(dataset) if dataset else held_out_episodes(named)
        if found is not None:
            judgement = judge_policies(console, found, episodes, discount, seed)
        write_judgement(folder, _document(episodes, judgement, looked_on))
    if looked_on is not None:
        show_shadow(console, looked_on)
    if judgement is not None:
        show_judgement(console, judgement)
    console.print(Text.assemble(("judged", "green"), visible(f" {out / PAGE_FILE}")))
    if require and not (judgement and meets(judgement, better=require == "better")):
        raise typer.Exit(CHECK_FAILED)


def _require_sense(
    policies: Sequence[Path],
    bags: Sequence[Path],
    dataset: Sequence[str] | None,
    contract: Path | None,
    require: str | None,
) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: With what to name or to leave out.
    """
    if not policies and not bags:
        raise ConfigError(
            "nothing to judge: name runs, checkpoints or bundles, or a recording of shadow mode "
            "with --shadow"
        )
    if bags and contract is None:
        raise ConfigError(
            f"--shadow {bags[0]}: needs the robot's contract; name it with --contract"
        )
    if bags and dataset:
        raise ConfigError(
            "--shadow and --dataset cannot be used together: policies are judged by the "
            "recording's episodes; leave one out"
        )
    if contract is not None and not bags:
        raise ConfigError("--contract is for --shadow only: leave it out, or name a recording")
    if require and not policies:
        raise ConfigError(
            f"--require {require} needs a policy: shadow commands alone have no value; name the "
            f"run or bundle, too"
        )


def _compared(
    bags: Sequence[Path],
    source: ShadowSource,
    salvage: bool,
    msgs: tuple[Path, ...],
    seed: int,
) -> tuple[LoadedDataset, ShadowFindings]:
    """Read recordings of shadow mode; return their episodes, and what was found in them.

    Raises:
        BagError: As `read_shadow` does, or if no shadow command falls into an episode.
        ConfigError: If values are asked for and no reward differs from 0.
    """
    recorded = []
    for path in bags:
        with (
            Bag(path, salvage=salvage, msgs=msgs) as bag,
            reading_bar(f"Reading {path.name}", bag.size_bytes) as progress,
        ):
            recorded.append(read_shadow(bag, source, progress))
    shadows = [each for one in recorded for each in one.episodes]
    driven = tuple(each.episode for each in shadows)
    episodes = LoadedDataset(source.contract.policy_spec(), driven, ", ".join(map(str, bags)))
    if source.needs_rewards and not any(each.rewards.any() for each in driven):
        raise ConfigError(
            f"{episodes.source}: every reward is 0, by which no policy can be valued: leave the "
            f"policies out, or convert the recording and give it rewards with 'dql relabel'"
        )
    # Counts of several sessions are not one session's.
    reported = recorded[0].reported if len(recorded) == 1 else {}
    remarks = tuple(remark for one in recorded for remark in one.remarks)
    found = compare_shadow(episodes, shadows, reported, remarks, seed)
    if found is None:
        raise BagError(
            f"{episodes.source}: no shadow command falls into an episode: record while the "
            f"policy node is active and somebody drives"
        )
    return episodes, found


def _document(
    episodes: LoadedDataset, judgement: Judgement | None, shadow: ShadowFindings | None
) -> dict[str, object]:
    if shadow is not None:
        return document_of(episodes, shadow, judgement)
    assert judgement is not None
    return judgement.to_json()
