"""`dql export`: turn a checkpoint into a policy bundle for the robot, or into C."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dql_core.cli.terminal import Terminal
from dql_core.errors import ConfigError, counted, visible
from dql_core.extras import needing
from dql_core.runtime.manifest import Manifest
from dql_core.runtime.policy import Selection
from dql_core.training.run_files import CheckpointName, exported_by_default, read_best

with needing("train", __name__):
    from dql_core.export.c.export import export_policy, is_bundle
    from dql_core.export.c.folder import CHECK, CPolicy


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A run folder or one checkpoint's folder; with --c also a bundle's.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the bundle; it must not exist yet.")
    ] = None,
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
    execute: Annotated[
        int | None,
        typer.Option(
            "--execute",
            min=1,
            help="Of a policy that decides several actions at once (policy.horizon): how many of "
            "them policy_node plays before it decides the next ones; in real time not all. "
            "Default: a quarter of them.",
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
    c: Annotated[
        Path | None,
        typer.Option(
            "--c",
            metavar="DIR",
            help="Folder for the same policy as plain C99, which needs no library but libm; it "
            "must not exist yet. The number of candidates and the selection are fixed in it.",
        ),
    ] = None,
    c_prefix: Annotated[
        str | None,
        typer.Option(
            "--c-prefix",
            help="What all names in the C begin with, such as left_arm. Default: made of the "
            "robot's name.",
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into a policy bundle that a robot runs without torch.

    The bundle holds the whole choice of an action as one ONNX graph, the
    weights, and a manifest with the spec, the normaliser, the hash of every
    file and the measured difference between graph and checkpoint. A graph
    that differs by more than 1e-4 of the action range is refused. With --c
    the graph is written as C, too, or, of a bundle, C alone.

    Example: dql export runs/arm --out runs/arm/bundle

    Example: dql export runs/arm/bundle --c firmware/policy
    """
    _require_folder(checkpoint, out, c, c_prefix)
    console = Terminal()
    source_is_bundle = is_bundle(checkpoint)
    name = which if source_is_bundle else which or exported_by_default(checkpoint)
    with console.status("exporting and comparing"):
        manifest, written = export_policy(
            checkpoint,
            out=out,
            c=c,
            prefix=c_prefix,
            num_candidates=candidates,
            selection=selection,
            dataset=dataset,
            which=name,
            execute=execute,
        )
    if out is not None:
        console.print(_exported(out, manifest), soft_wrap=True)
    if written is not None:
        console.print(_written(c, written), soft_wrap=True)
    if which is None and name is not None and name != "last":
        why = read_best(checkpoint)[name]["criterion"]
        console.print(visible(f"{name}: {why}; the last one: --checkpoint last"), soft_wrap=True)


def _require_folder(source: Path, out: Path | None, c: Path | None, prefix: str | None) -> None:
    if out is None and c is None:
        by = "--c for C" if is_bundle(source) else "--out for a bundle or by --c for C"
        raise ConfigError(f"dql export {source}: name a folder, by {by}")
    if c is None and prefix is not None:
        raise ConfigError(f"--c-prefix is '{prefix}', but no C is written: name its folder by --c")


def _exported(out: Path, manifest: Manifest) -> Text:
    parity = manifest.parity
    chunks = f"chunks of {manifest.horizon} actions, " if manifest.horizon > 1 else ""
    line = (
        f" {out}: {manifest.agent} after {manifest.step:,} updates, "
        f"{counted(manifest.num_candidates, 'candidate')}, {chunks}{manifest.selection}; differs "
        f"from the checkpoint by at most {parity.action_error:.1e} of the action range on "
        f"{parity.observations} {parity.source}"
    )
    return Text.assemble(("exported", "green"), visible(line))


def _written(c: Path | None, written: CPolicy) -> Text:
    choice = written.choice
    line = (
        f" {c}: C99, {written.prefix}_decide, "
        f"{counted(choice.num_candidates, 'candidate')}, {choice.selection}; "
        f"{written.weight_bytes / 1024:,.0f} KiB of weights, "
        f"{written.memory_bytes / 1024:,.1f} KiB of memory; compare it with ONNX Runtime where it "
        f"is to run: cd {shlex.quote(str(c))} && {CHECK}"
    )
    return Text.assemble(("written", "green"), visible(line))
