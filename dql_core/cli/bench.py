"""`dql bench`: how fast a policy bundle chooses actions on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dql_core.algo.backends import BackendName
from dql_core.cli.terminal import Terminal
from dql_core.errors import counted
from dql_core.export.latency import (
    ROUNDS,
    Measurement,
    measure_bundle,
    plain_decisions,
)
from dql_core.files import write_text
from dql_core.runtime.chunk import ticks_to_decide
from dql_core.runtime.manifest import Manifest, read_manifest


def bench(
    bundle: Annotated[Path, typer.Argument(help="Folder of a policy bundle.")],
    backend: Annotated[
        BackendName,
        typer.Option(help="What computes: onnx, torch, or auto for the faster one."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="Where: cpu, cuda, cuda:0, …")] = "cpu",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of plain torch; a bundle uses one.")
    ] = 1,
    rounds: Annotated[
        int, typer.Option(min=1, help="Turns of each; more take longer and measure better.")
    ] = ROUNDS,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file as well.")
    ] = None,
) -> None:
    """Measure how fast a policy bundle chooses actions on this machine.

    For 1, 10 and 50 candidates and the bundle's own number: how long a
    decision takes, how many fit in a second, the highest control rate at
    which 99 of 100 take at most half of the period, and how much longer the
    same choice takes in plain eager PyTorch on the CPU, if that is installed.

    Example: dql bench runs/arm/bundle
    """
    console = Terminal()
    manifest = read_manifest(bundle)
    plain = plain_decisions(manifest, threads)
    compared = None if isinstance(plain, str) else plain
    with console.status("measuring"):
        measurements = measure_bundle(
            bundle, manifest, compared, backend=backend, device=device, rounds=rounds
        )
    console.print(_table(bundle, manifest, measurements))
    if isinstance(plain, str):
        console.print(f"not compared with plain torch: {plain}", soft_wrap=True)
    console.print(_verdict(manifest, measurements), soft_wrap=True)
    if json_file:
        document = {
            "bundle": str(bundle),
            "backend": backend,
            "device": device,
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "measurements": [each.to_json() for each in measurements],
        }
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_text(json_file, json.dumps(document, indent=2) + "\n")


def _table(bundle: Path, manifest: Manifest, measurements: list[Measurement]) -> Table:
    table = Table(
        title=f"{bundle}: {manifest.agent}",
        title_justify="left",
        title_style="bold",
        caption="* the bundle's own",
        caption_justify="left",
    )
    for heading in ("K", "p50 ms", "p95 ms", "p99 ms", "max ms", "a second", "up to", "torch"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in measurements:
        own = each.num_candidates == manifest.num_candidates
        times_us = (each.p50_us, each.p95_us, each.p99_us, each.max_us)
        table.add_row(
            f"{each.num_candidates}{' *' if own else ''}",
            *(f"{time_us / 1e3:.3f}" for time_us in times_us),
            f"{each.calls_per_s:,.0f}",
            f"{each.control_rate_hz:,.0f} Hz",
            f"{each.times_faster:.1f} x" if each.times_faster else "-",
        )
    return table


def _verdict(manifest: Manifest, measurements: list[Measurement]) -> Text:
    """Say whether the bundle is fast enough for its robot."""
    rate_hz = manifest.policy_spec.rate_hz
    own = next(each for each in measurements if each.num_candidates == manifest.num_candidates)
    possible_hz = own.control_rate_hz
    if not rate_hz:
        candidates = counted(own.num_candidates, "candidate")
        return Text(f"up to {possible_hz:,.0f} Hz with {candidates}")
    if manifest.horizon > 1:
        return _verdict_of_chunks(manifest, own.p99_us / 1e6, rate_hz)
    if possible_hz >= rate_hz:
        return Text.assemble(("fast enough", "green"), f" for the contract's {rate_hz:g} Hz")
    return Text.assemble(
        ("too slow", "red"),
        f" for the contract's {rate_hz:g} Hz: 99 of 100 decisions take at most half of the period "
        f"up to {possible_hz:,.0f} Hz; choose among fewer candidates",
    )


def _verdict_of_chunks(manifest: Manifest, p99_s: float, rate_hz: float) -> Text:
    """Say whether the next chunk is there before what is played of the present one ends."""
    horizon, executed = manifest.horizon, manifest.executed
    ticks = ticks_to_decide(horizon, executed)
    why = (
        f" for the contract's {rate_hz:g} Hz: the next {horizon} actions are decided after "
        f"{executed}, and may take {counted(ticks, 'period')}, {1000 * ticks / rate_hz:g} ms"
    )
    if p99_s <= ticks / rate_hz:
        return Text.assemble(("fast enough", "green"), why)
    return Text.assemble(
        ("too slow", "red"),
        f"{why}; choose among fewer candidates, execute fewer, or train longer chunks",
    )
