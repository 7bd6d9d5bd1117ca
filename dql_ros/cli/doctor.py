"""`dql doctor`: is this machine fit to run a policy on a robot?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.text import Text

from dql_core.cli.terminal import Terminal, print_json
from dql_core.errors import visible
from dql_core.process import CHECK_FAILED
from dql_ros.tools.doctor.checks import run_checks
from dql_ros.tools.doctor.finding import Finding, Verdict

_MARKS = {
    Verdict.FINE: ("ok  ", "green"),
    Verdict.WARNING: ("warn", "yellow"),
    Verdict.FAILURE: ("FAIL", "bold red"),
}
_NAME_WIDTH = 16


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON on stdout.")
    ] = False,
) -> None:
    """Look over this machine: ROS 2, libraries, discovery, timing; one line each, with the remedy.

    Starts two ROS 2 processes on the loopback interface, on a domain of their own, and waits
    2 s for the clock; takes some 10 s. Exits with 1 if something does not work, else with 0.

    Example: dql doctor
    """
    console = Terminal()
    findings = []
    for finding in run_checks():
        findings.append(finding)
        if not as_json:
            console.print(line_of(finding), soft_wrap=True, highlight=False)
    counts = {verdict.value: _count(findings, verdict) for verdict in Verdict}
    if as_json:
        document = {**counts, "findings": [finding.to_json() for finding in findings]}
        print_json(document)
    else:
        console.print(summary_of(findings), highlight=False)
    raise typer.Exit(CHECK_FAILED if counts[Verdict.FAILURE.value] else 0)


def line_of(finding: Finding) -> Text:
    """Return one finding as one line."""
    mark, style = _MARKS[finding.verdict]
    line = Text.assemble((mark, style), "  ", (f"{finding.check:<{_NAME_WIDTH}}", "cyan"))
    line.append(visible(f"  {finding.found}"))
    if finding.remedy:
        line.append(visible(f" -> {finding.remedy}"), "bold")
    return line


def summary_of(findings: Iterable[Finding]) -> Text:
    """Return the result of all checks in one line."""
    findings = list(findings)
    failures = _count(findings, Verdict.FAILURE)
    warnings = _count(findings, Verdict.WARNING)
    if failures:
        return Text(f"{failures} of {len(findings)} checks failed", "bold red")
    if warnings:
        return Text(f"everything works; {warnings} of {len(findings)} checks warn", "yellow")
    return Text("everything works", "green")


def _count(findings: Iterable[Finding], verdict: Verdict) -> int:
    return sum(finding.verdict is verdict for finding in findings)
