"""`dql convert`: recorded bags to a Minari dataset."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from dql_ros.bag.convert import REPORT_HTML, Source
from dql_ros.bag.convert import convert as convert_bags
from dql_ros.contract import load_contract


def convert(
    contract: Path = typer.Argument(help="The robot's contract (yaml)."),
    bags: list[Path] = typer.Argument(
        help="rosbag2 folders, or single .mcap or .db3 files; their episodes keep this order."
    ),
    out: Path = typer.Option(help="Folder to make: data/ (Minari), report.json, report.html."),
    namespace: str = typer.Option("/", help="Namespace of the contract's relative topics."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON on stdout."),
) -> None:
    """Turn recorded bags into a Minari dataset, with a report of what was done.

    Each observation is made of what had arrived by its tick; nothing is interpolated or filled
    in. Where something the contract needs is missing, the episode ends and the report says so.

    Example: dql convert config/contracts/scara.yaml runs/demo/bags/* --out data/scara
    """
    source = Source(
        contract=load_contract(contract),
        bags=bags,
        namespace=namespace,
        contract_name=contract.name,
        contract_text=contract.read_text(),
    )
    with _progress() as bar:
        task = bar.add_task("Converting", total=None)
        report = convert_bags(
            source, out, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(_summary(report, out))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _summary(report: dict[str, Any], out: Path) -> str:
    totals = report["totals"]
    remarks = len(report["remarks"])
    return (
        f"{out}: {totals['episodes']} episodes ({totals['terminated']} terminated), "
        f"{totals['transitions']} transitions at {report['rate_hz']:g} Hz, "
        f"mean return {totals['mean_return']:.4g}"
        + (f"; {remarks} remarks" if remarks else "")
        + f"; see {out / REPORT_HTML}"
    )
