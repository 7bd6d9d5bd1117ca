"""`dql relabel`: give a dataset other rewards."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from dql_core.cli.console import facts_table, plain_table
from dql_core.cli.terminal import TaskText, Terminal, print_json
from dql_core.errors import ConfigError, did_you_mean
from dql_core.extras import needing
from dql_core.rewards.call import RewardFunction
from dql_core.strict_yaml import parse, parse_assignment, read_yaml

with needing("convert", __name__):
    from dql_core.data.relabel import RelabelResult
    from dql_core.data.relabel import relabel as relabel_dataset


def relabel(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset's folder, or a local Minari id.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the dataset to make.")],
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Function of an episode that returns its rewards. Bundled ones are "
            "dql_core.rewards:distance_to_goal, action_cost, success_bonus, outcome and "
            "joint_limit_penalty.",
        ),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=YAML", help="Argument of --reward; may be given again."),
    ] = None,
    contract: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take the function, or the list of functions with weights, from the key "
            "'reward' of this contract or other yaml file.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON on stdout.")
    ] = False,
) -> None:
    """Give a dataset other rewards.

    DATASET stays as it is. What is written to --out has its observations,
    actions, ends and metadata to the bit, and says in its metadata what
    was done: the function, its arguments and the hash of its source.

    Example: dql relabel data/arm --reward dql_core.rewards:action_cost
    --argument weights=0.1 --out data/arm-effort
    """
    functions = _functions(reward, argument or [], contract)
    terminal = Terminal(stderr=True)
    columns = TaskText(), BarColumn(), MofNCompleteColumn()
    is_shown = sys.stderr.isatty()
    with Progress(*columns, console=terminal, transient=True, disable=not is_shown) as bar:
        task = bar.add_task("Relabelling", total=None)
        result = relabel_dataset(
            dataset,
            functions,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json({"dataset": dataset, "out": str(out), **result.to_json()})
        return
    _show(result, out)


def _functions(
    reward: str | None, arguments: Sequence[str], contract: Path | None
) -> list[RewardFunction]:
    if (reward is None) == (contract is None):
        raise ConfigError("name the rewards by either --reward or --contract")
    if contract is not None:
        if arguments:
            raise ConfigError(f"--argument {arguments[0]}: belongs to --reward, not to --contract")
        return _from_file(contract)
    if not re.fullmatch(r"[\w.]+:\w+", str(reward)):
        raise ConfigError(
            f"--reward {reward}: is not a function's name; write module:function, such as "
            f"dql_core.rewards:distance_to_goal"
        )
    given = dict(parse_assignment(text, "--argument", "key=value") for text in arguments)
    document = {"function": reward, "arguments": given}
    return [parse(document, RewardFunction, f"--reward {reward}", ConfigError)]


def _from_file(path: Path) -> list[RewardFunction]:
    document = read_yaml(path, ConfigError)
    section = document.get("reward")
    if not section:
        raise ConfigError(f"{path}: has no key 'reward'{did_you_mean('reward', document)}")
    functions = section if isinstance(section, list) else [section]
    for function in functions:
        if not isinstance(function, dict):
            raise ConfigError(
                f"{path}: reward is {function!r}; give a mapping with 'function' and 'arguments'"
            )
        if "topic" in function:
            raise ConfigError(
                f"{path}: the reward is the topic '{function['topic']}', and a dataset has no "
                f"topics; name a function by --reward"
            )
    return [parse(each, RewardFunction, f"{path}: reward", ConfigError) for each in functions]


def _show(result: RelabelResult, out: Path) -> None:
    done = result.to_json()
    facts = {"episodes": f"{done['episodes']:,}", "transitions": f"{done['transitions']:,}"}
    for place, function in enumerate(done["reward"], start=1):
        arguments = ", ".join(f"{key}={value}" for key, value in function["arguments"].items())
        facts[f"reward {place}"] = f"{function['weight']:g} x {function['function']}({arguments})"
    columns = ["before", "after"] if result.had_rewards else ["after"]
    table = plain_table("", *columns)
    for name in done["after"]:
        values = (_number(done[when][name]) for when in columns)
        table.add_row(name.replace("_", " "), *values)
    console = Terminal()
    console.print(facts_table(f"dataset {out}", facts))
    console.print(table)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
