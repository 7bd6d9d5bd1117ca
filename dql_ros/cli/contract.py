"""`dql contract`: make a robot's contract from a recording, and see whether one fits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from dql_core.cli.terminal import print_json, print_line
from dql_core.errors import ContractError, counted
from dql_core.extras import needing
from dql_core.files import write_text
from dql_core.spec import CONTRACT_KEY
from dql_ros.bag.reader import STORAGE_SUFFIXES, Bag
from dql_ros.cli.inspect import MsgsOption, reading_bar
from dql_ros.contract import contract_path

with needing("convert", __name__):
    from dql_ros.tools.contract_check import (
        BagCheck,
        check_bag,
        check_file,
        check_types,
    )
    from dql_ros.tools.contract_draft.carried import without_code
    from dql_ros.tools.contract_draft.draft import Draft
    from dql_ros.tools.contract_draft.roles import assign
    from dql_ros.tools.contract_draft.topic_profile import Profiler
    from dql_ros.tools.contract_draft.trial import fitting_draft
    from dql_ros.tools.findings import Findings, once

UNFIT = 2
MOST_NAMED = 3

contract = typer.Typer(no_args_is_help=True, add_completion=False)


@contract.callback()
def _contract() -> None:
    """Make a robot's contract from a recording, and see whether one fits."""


@contract.command()
def init(
    bags: Annotated[
        list[Path],
        typer.Argument(
            metavar="BAG...",
            help="Rosbag2 folders, or single .mcap, .db3 or ROS 1 .bag files, of one robot.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The file to make; by default NAME.yaml after the first bag."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=2000, help="Control rate in Hz; by default the commands'."),
    ] = None,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Read what is left of a damaged bag.")
    ] = False,
    msgs: MsgsOption = None,
) -> None:
    """Write a first contract for recordings, with the reason for each choice.

    It proposes what is observed and what is the action, with units, rates, age limits and bounds
    from the data; of several recordings, from all. Then it tries the draft: a topic that leaves
    nothing or little of the recordings is taken out. What a recording cannot show is left to be
    filled in, and listed. A recording that carries its contract gets just that, unless --rate
    asks for another; but functions that it names are left in comments, since a recording may be
    anybody's.

    Example: dql contract init bags/* --out robot.yaml
    """
    target = out or Path(f"{_name(bags[0])}.yaml")
    if target.exists() or target.is_symlink():
        raise ContractError(f"{target}: already exists; name another --out file or remove it")
    if not target.parent.is_dir():
        raise ContractError(f"{target}: there is no folder {target.parent}")
    draft = _drafted(bags, rate, salvage=salvage, msgs=msgs or ())
    write_text(target, draft.text)
    for note in draft.notes:
        print_line(note)
    if not draft.missing:
        named = " ".join(map(str, bags)) if len(bags) <= MOST_NAMED else "BAG..."
        named += " --salvage" if salvage else ""
        print_line(f"wrote {target}; go through it, then: dql contract check {target} {named}")
        return
    print_line(f"wrote {target}, which is not complete:")
    for missing in draft.missing:
        print_line(f"fill in {missing}")


@contract.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="CONTRACT", help="The contract (yaml).")],
    bags: Annotated[
        list[Path] | None, typer.Argument(help="Recordings that it is to fit.")
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="Namespace of the contract's relative topics.")
    ] = "/",
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Read what is left of damaged bags.")
    ] = False,
    msgs: MsgsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is found as JSON.")] = False,
) -> None:
    """Say all that is wrong with a contract, and whether it fits recordings.

    Compared are topics, types, fields and joints with every message, header stamps with the times
    of receipt, age limits with the pauses, and bounds with the values; and the episodes are made
    as 'dql convert' makes them, to see how many there are.

    For each recording it says how much of it becomes transitions, and what the rest lacks.

    Exits with 0 if it fits and 2 if not; warnings do not count.

    Example: dql contract check robot.yaml bags/*
    """
    file = contract_path(file)
    if file.is_dir() or file.name.endswith(STORAGE_SUFFIXES):
        raise ContractError(
            f"{file}: is a recording or a folder, and the contract comes first: "
            f"dql contract check CONTRACT BAG..."
        )
    valid, findings = check_file(file)
    fits: dict[Path, BagCheck] = {}
    if valid is not None and not bags:
        findings.add(check_types(valid, msgs or ()))
    rehearse = not findings.problems
    for bag in bags or ():
        if valid is None:
            break
        with reading_bar(f"Checking {bag.name}", 2 * _size(bag)) as progress:
            fits[bag] = check_bag(
                bag,
                valid,
                namespace,
                salvage=salvage,
                msgs=msgs or (),
                rehearse=rehearse,
                progress=progress,
            )
        findings.add(fits[bag].findings)
    places = [str(bag) for bag in bags or ()]
    findings = Findings(once(findings.problems, places), once(findings.warnings, places))
    if as_json:
        print_json(_document(file, findings, fits))
    else:
        _print(file, findings, fits, unseen=len(bags or ()) - len(fits))
    if findings.problems:
        raise typer.Exit(UNFIT)


def _drafted(
    bags: Sequence[Path], rate: float | None, *, salvage: bool, msgs: Sequence[Path]
) -> Draft:
    notes = []
    text = _common_contract(bags, salvage=salvage) if rate is None else None
    if text is not None:
        try:
            return _carried(text)
        except ContractError as cause:
            notes.append(f"the contract that {bags[0]} carries {cause}: it is not taken")
    profiler = _profiled(bags, Profiler(), salvage=salvage, msgs=msgs)
    if profiler.steps:  # rates and pauses are those of the order in which messages were sent
        profiler = _profiled(bags, Profiler(profiler.steps), salvage=salvage, msgs=msgs)
    notes += profiler.losses

    @contextmanager
    def trying(path: Path) -> Iterator[Callable[[int], None]]:
        with reading_bar(f"Trying it on {path.name}", 2 * _size(path)) as progress:
            yield progress

    roles = replace(assign(profiler.topics()), pose=profiler.frames.pose())
    name, *others = map(_name, bags)
    draft = fitting_draft(
        roles, bags, name, rate, others=others, salvage=salvage, msgs=msgs, bar=trying
    )
    return replace(draft, notes=(*notes, *draft.notes))


def _profiled(
    bags: Sequence[Path], profiler: Profiler, *, salvage: bool, msgs: Sequence[Path]
) -> Profiler:
    for path in bags:
        with (
            Bag(path, salvage=salvage, msgs=msgs) as bag,
            reading_bar(f"Reading {path.name}", bag.size_bytes) as progress,
        ):
            profiler.add(bag, progress)
    return profiler


def _common_contract(bags: Sequence[Path], *, salvage: bool) -> str | None:
    """The contract that the recordings carry; ``None`` if not all carry the same."""
    texts = set()
    for path in bags:
        with Bag(path, salvage=salvage) as bag:
            texts.add(bag.custom_data.get(CONTRACT_KEY))
    return texts.pop() if len(texts) == 1 else None


def _carried(text: str) -> Draft:
    carried = without_code(text)
    return Draft(carried.text, (), tuple(_left_out(carried.left_out)))


def _left_out(functions: Sequence[str]) -> Iterator[str]:
    if functions:
        named = [*functions[:4], *([f"{len(functions) - 4} more"] if len(functions) > 4 else [])]
        yield (
            f"left out of the carried contract: {', '.join(named)}: a recording names no code; "
            f"the file has them in comments, to be put back where you trust them"
        )


def _name(bag: Path) -> str:
    """The bag's name without what its files end in."""
    name = Path(os.path.abspath(bag)).name
    suffixes = sorted(STORAGE_SUFFIXES, key=len, reverse=True)
    return next((name.removesuffix(each) for each in suffixes if name.endswith(each)), name)


def _size(bag: Path) -> int:
    files = bag.iterdir() if bag.is_dir() else [bag] if bag.exists() else []
    return sum(file.stat().st_size for file in files if file.is_file())


def _document(file: Path, findings: Findings, fits: dict[Path, BagCheck]) -> dict[str, Any]:
    return {
        "contract": str(file),
        "fits": not findings.problems,
        "problems": findings.problems,
        "warnings": findings.warnings,
        "bags": [
            {
                "bag": str(bag),
                "episodes": fit.episodes,
                "transitions": fit.transitions,
                **({} if fit.rehearsal is None else fit.rehearsal.usage.to_json()),
            }
            for bag, fit in fits.items()
        ],
    }


def _print(file: Path, findings: Findings, fits: dict[Path, BagCheck], unseen: int) -> None:
    for problem in findings.problems:
        print_line(f"problem: {problem}")
    for warning in findings.warnings:
        print_line(f"warning: {warning}")
    for bag, fit in fits.items():
        if fit.rehearsal is not None and (fit.episodes or fit.rehearsal.discarded):
            episodes = counted(fit.episodes, "episode")
            transitions = counted(fit.transitions, "transition")
            print_line(f"{bag}: fits: {episodes}, {transitions}: {fit.rehearsal.usage}")
    if unseen > 0 and findings.problems:
        print_line(f"the recordings are compared once {file} is right by itself")
    if findings.problems:
        print_line(f"{file}: {len(findings.problems)} to mend")
    elif not fits:
        print_line(f"{file}: nothing is wrong with it; name a recording to compare it with")
