"""`dql convert`: recorded bags to a Minari dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from dql_core.cli.terminal import print_json, print_line
from dql_core.extras import needing
from dql_core.process import INCOMPLETE, INTERRUPTED
from dql_ros.cli.inspect import MsgsOption, reading_bar
from dql_ros.contract import contract_path, load_contract

with needing("convert", __name__):
    from dql_core.data.curation.shards import Shard
    from dql_ros.convert.convert import REPORT_HTML, ConvertOptions, Interrupted, Source
    from dql_ros.convert.convert import convert as convert_bags


def convert(
    contract: Path = typer.Argument(help="The robot's contract (yaml)."),
    bags: list[Path] = typer.Argument(
        help="rosbag2 folders, or single .mcap, .db3 or ROS 1 .bag files, also with .zstd; their "
        "episodes keep this order."
    ),
    out: Path = typer.Option(help="Folder to make: data/ (Minari), report.json, report.html."),
    namespace: str = typer.Option("/", help="Namespace of the contract's relative topics."),
    salvage: bool = typer.Option(
        False, "--salvage", help="Read what is left of damaged bags, and say how much is lost."
    ),
    keep_going: bool = typer.Option(
        False, "--keep-going", help="Leave out bags that do not convert, and list them."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Skip the bags that an interrupted conversion to OUT has done."
    ),
    workers: int | None = typer.Option(
        None,
        min=1,
        help="How many bags are converted at a time; 1 if not given, with --ray as many as the "
        "cluster has processors.",
    ),
    ray: str | None = typer.Option(
        None,
        metavar="ADDRESS",
        help="Convert on a Ray cluster: host:port, auto, or local for one on this machine alone. "
        "Bags, OUT and the working folder must lie on a file system that its machines share.",
    ),
    shard: str | None = typer.Option(
        None,
        metavar="I/N",
        help="Convert the I-th of N parts of the bags only; 'dql dataset merge' joins the parts.",
    ),
    msgs: MsgsOption = None,
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Do everything but write: show what would come out."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON on stdout."),
) -> None:
    """Turn recorded bags into a Minari dataset, with a report of what was done.

    Each observation is made of what had arrived by its tick; nothing is interpolated or filled
    in. Where something the contract needs is missing, the episode ends and the report says so.
    The dataset is the same whatever the number of workers and wherever they are, and so is the
    one that 'dql dataset merge' makes of all shards. Name all bags to each shard, in one order.

    Exits with 0 if all went well, 2 on a mistake that it names, 3 if --keep-going left out a bag,
    and 130 after Ctrl-C.

    Example: dql convert config/contracts/scara.yaml runs/demo/bags/* --out data/scara
    """
    contract = contract_path(contract)
    source = Source(
        contract=load_contract(contract),
        bags=bags,
        namespace=namespace,
        contract_name=contract.name,
        contract_text=contract.read_text(),
    )
    options = ConvertOptions(
        salvage,
        keep_going,
        resume,
        dry_run,
        workers,
        ray,
        tuple(msgs or ()),
        None if shard is None else Shard.parse(shard),
    )
    report = _convert(source, out, options)
    if as_json:
        print_json(report)
    else:
        print_line(_summary(report, out, dry_run))
    for failed in report["failed"]:
        print_line(f"dql: left out: {failed['error']}", err=True)
    if report["failed"]:
        raise typer.Exit(INCOMPLETE)


def _convert(source: Source, out: Path, options: ConvertOptions) -> dict[str, Any]:
    try:
        with reading_bar("Converting") as progress:
            return convert_bags(source, out, options, progress)
    except Interrupted as stop:
        print_line(f"dql: interrupted; {out} was not made{stop}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _summary(report: dict[str, Any], out: Path, dry_run: bool) -> str:
    totals = report["totals"]
    episodes = f"{totals['episodes']} episode{'' if totals['episodes'] == 1 else 's'}"
    remarks = len(report["remarks"])
    mean_return = totals["mean_return"]
    discarded = f"; {totals['discarded']} more discarded" if totals["discarded"] else ""
    return (
        f"{'would make ' if dry_run else ''}{out}: {episodes} "
        f"({totals['terminated']} terminated{discarded}), {totals['transitions']} transitions at "
        f"{report['rate_hz']:g} Hz"
        + ("" if mean_return is None else f", mean return {mean_return:.4g}")
        + (f"; {remarks} remark{'' if remarks == 1 else 's'}" if remarks else "")
        + ("" if dry_run else f"; see {out / REPORT_HTML}")
    )
