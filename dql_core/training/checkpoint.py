"""Checkpoints: the whole state of a run as safetensors and json, never pickled."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dql_core.algo.agent import Agent, make_agent
from dql_core.atomic import whole_directory
from dql_core.config import TrainConfig
from dql_core.errors import CheckpointError
from dql_core.normalize import Normalizer
from dql_core.spec import PolicySpec
from dql_core.strict_yaml import parse
from dql_core.training.locate import DOCUMENT_FILE, Which, checkpoint_folder, find_checkpoint
from dql_core.training.progress import Progress
from dql_core.training.seeding import RunSeeds

FORMAT_VERSION = 2
STATE_FILE = "state.safetensors"
GENERATORS = "generator"


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment: enough to act, to export and to go on training.

    Attributes:
        spec: What observation and action mean.
        config: The resolved training configuration.
        normalizer: Units of the networks.
        agent: Networks, averages, targets, optimisers and the updates' generator.
        batches: Generator of the batches.
        progress: What is summed up and not yet written down.
    """

    spec: PolicySpec
    config: TrainConfig
    normalizer: Normalizer
    agent: Agent
    batches: torch.Generator
    progress: Progress = field(default_factory=Progress)

    @property
    def step(self) -> int:
        """Updates taken so far."""
        return self.agent.step


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Write ``run/checkpoints/step-<8 digits>``; it appears whole or not at all.

    Returns:
        The checkpoint's folder.
    """
    target = checkpoint_folder(run, checkpoint.step)
    if target.exists():
        return target
    document = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "device": checkpoint.agent.noise.generator.device.type,
        "config_hash": checkpoint.config.hash(),
        "config": checkpoint.config.model_dump(mode="json"),
        "spec": checkpoint.spec.to_json(),
        "normalizer": checkpoint.normalizer.to_json(),
        "progress": checkpoint.progress.to_json(),
    }
    with whole_directory(target) as folder:
        safetensors.torch.save_file(_state(checkpoint), folder / STATE_FILE)
        (folder / DOCUMENT_FILE).write_text(json.dumps(document, indent=2) + "\n")
    return target


def load_checkpoint(path: Path, device: str = "cpu", which: Which = "last") -> Checkpoint:
    """Rebuild a run from its folder or from one checkpoint's folder.

    Args:
        path: A run folder or a checkpoint folder.
        device: Where the networks are to be.
        which: Which checkpoint of a run.

    Raises:
        CheckpointError: If there is none, or it is damaged or of an unknown format.
    """
    folder = find_checkpoint(path, which)
    document = _read_document(folder / DOCUMENT_FILE)
    config = parse(document["config"], TrainConfig, str(folder / DOCUMENT_FILE), CheckpointError)
    spec = PolicySpec.from_json(document["spec"])
    generator = torch.Generator(device=device)
    with torch.random.fork_rng(devices=[]):  # its initial weights are replaced at once
        agent = make_agent(config, spec, generator)
    normalizer = Normalizer.from_json(document["normalizer"])
    progress = Progress.from_json(document["progress"])
    checkpoint = Checkpoint(spec, config, normalizer, agent, torch.Generator(), progress)
    tensors = _read_state(folder / STATE_FILE)
    agent.step = document["step"]
    if document["device"] != generator.device.type:
        # A CUDA generator's state means nothing to the CPU's, and the reverse.
        generator.manual_seed(RunSeeds.derive(config.run.seed).updates + agent.step)
        tensors[f"{GENERATORS}.updates"] = generator.get_state()
    _restore(checkpoint, tensors, str(folder))
    return checkpoint


def _state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of the run under a name of its own."""
    tensors = {
        f"{GENERATORS}.batches": checkpoint.batches.get_state(),
        f"{GENERATORS}.updates": checkpoint.agent.noise.generator.get_state(),
    }
    for name, module in checkpoint.agent.modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for name, descent in checkpoint.agent.descents.items():
        tensors |= {f"adam.{name}.{key}": value for key, value in descent.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _restore(checkpoint: Checkpoint, tensors: dict[str, Tensor], where: str) -> None:
    """Copy ``tensors`` into the run; every tensor must find its place and every place a tensor."""
    agent, left = checkpoint.agent, dict(tensors)
    try:
        checkpoint.batches.set_state(left.pop(f"{GENERATORS}.batches"))
        agent.noise.generator.set_state(left.pop(f"{GENERATORS}.updates"))
        for name, module in agent.modules.items():
            module.load_state_dict({key: left.pop(f"{name}.{key}") for key in module.state_dict()})
        for name, descent in agent.descents.items():
            state = {key: left.pop(f"adam.{name}.{key}") for key in descent.state_dict()}
            descent.load_state_dict(state)
    except (KeyError, RuntimeError, TypeError) as cause:
        reason = " ".join(str(cause).split())
        raise CheckpointError(f"{where}: does not fit its own configuration: {reason}") from cause
    if left:
        raise CheckpointError(f"{where}: unknown tensor '{min(left)}' in {STATE_FILE}")


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as cause:
        raise CheckpointError(f"{path}: damaged: {' '.join(str(cause).split())}") from cause
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {version!r}; this version of dql reads {FORMAT_VERSION}: "
            f"train again"
        )
    missing = {"step", "device", "config", "spec", "normalizer", "progress"} - set(document)
    if missing:
        raise CheckpointError(f"{path}: damaged: key '{min(missing)}' is missing")
    return dict(document)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as cause:
        raise CheckpointError(f"{path}: damaged: {' '.join(str(cause).split())}") from cause
