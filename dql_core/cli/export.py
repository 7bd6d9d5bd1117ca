"""`dql export`: turn a checkpoint into a policy bundle for the robot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dql_core.cli.terminal import Terminal
from dql_core.errors import visible
from dql_core.export.bundle import export_bundle
from dql_core.runtime.policy import Selection
from dql_core.training.run_files import CheckpointName, exported_by_default, read_best


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A run folder or one checkpoint's folder.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the bundle; it must not exist yet.")
    ],
    which: Annotated[
        CheckpointName | None,
        typer.Option(
            "--checkpoint",
            help="Which checkpoint of a run: the last, the best by its own rules, or the last "
            "before its critics diverged. Default: the best where its rule is validation.rule: "
            "judge, else the last.",
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates",
            min=1,
            help="Actions that the bundle samples for each decision, K. Fewer are faster; it can "
            "still be changed where the bundle runs. Default: the training configuration's.",
        ),
    ] = None,
    selection: Annotated[
        Selection | None,
        typer.Option(
            "--selection",
            help="How one of them is chosen: softmax (drawn by its value), greedy (the best), "
            "mode (what most agree on) or first. Default: the training configuration's; first for "
            "Diffusion-BC, unless that is mode.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Dataset (folder or Minari id) on whose observations the exported graph is "
            "compared with the checkpoint. Default: the one it was trained on.",
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into a policy bundle that a robot runs without torch.

    The bundle holds the whole choice of an action as one ONNX graph, the
    weights, and a manifest with the spec, the normaliser, the hash of every
    file and the measured difference between graph and checkpoint. A graph
    that differs by more than 1e-4 of the action range is refused.

    Example: dql export runs/arm --out runs/arm/bundle
    """
    console = Terminal()
    name = which or exported_by_default(checkpoint)
    with console.status("exporting and comparing"):
        manifest = export_bundle(
            checkpoint,
            out,
            num_candidates=candidates,
            selection=selection,
            dataset=dataset,
            which=name,
        )
    parity = manifest.parity
    line = (
        f" {out}: {manifest.agent} after {manifest.step:,} updates, {manifest.num_candidates} "
        f"candidates, {manifest.selection}; differs from the checkpoint by at most "
        f"{parity.action_error:.1e} of the action range on {parity.observations} {parity.source}"
    )
    console.print(Text.assemble(("exported", "green"), visible(line)), soft_wrap=True)
    if which is None and name != "last":
        why = read_best(checkpoint)[name]["criterion"]
        console.print(visible(f"{name}: {why}; the last one: --checkpoint last"), soft_wrap=True)
