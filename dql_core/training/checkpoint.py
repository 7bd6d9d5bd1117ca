"""Checkpoints: the whole state of a run as safetensors and json, never pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from dql_core.algo.agent import Agent
from dql_core.algo.noise import RunSeeds
from dql_core.algo.policy_graph import TorchPolicy, torch_policy
from dql_core.algo.registry import make_agent
from dql_core.config import TrainConfig
from dql_core.documents import CHECKPOINT_FILE
from dql_core.errors import DamagedCheckpointError, one_line
from dql_core.normalize import Normalizer
from dql_core.presets import as_saved
from dql_core.spec import PolicySpec
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint_files import (
    FORMAT_VERSION,
    STATE_FILE,
    CheckpointDocument,
    read_document,
    read_state,
    tensors_of,
    whole_before,
    write_checkpoint,
)
from dql_core.training.run_files import (
    CheckpointName,
    checkpoint_folder,
    find_checkpoint,
)
from dql_core.training.saved_config import warn_if_edited

GENERATORS = "generator"


@dataclass
class LossSums:
    """Sums of losses over updates, added one after the other: a pause at any changes no bit.

    Attributes:
        totals: Sum of each loss by its name.
        count: Updates summed up.
    """

    totals: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, names: Sequence[str], rows: NDArray[np.float64]) -> None:
        """Add the losses of n updates, shape (n, len(names))."""
        before = [self.totals.get(name, 0.0) for name in names]
        # A sum over an axis may add in any order, a cumulative one may not.
        sums = np.cumsum(np.vstack([before, rows]), axis=0)[-1]
        self.totals = dict(zip(names, sums.tolist(), strict=True))
        self.count += len(rows)

    def means(self) -> dict[str, float]:
        """Return the mean of each loss; nothing if there was no update."""
        return {name: total / self.count for name, total in self.totals.items()}

    def reset(self) -> None:
        """Start again."""
        self.totals, self.count = {}, 0


@dataclass
class Progress:
    """What a run has summed up and not yet written down.

    Attributes:
        since_reading: Losses since the last line of metrics.
        since_checkpoint: Losses since the last due checkpoint.
        alarming: Whether the critics diverge.
        allowance: How far values may be beyond their limits, since those of untrained critics
            were; 0 as soon as they were within.
        errors: Typical errors of the critics at the latest readings.
        sound_error: Such an error before it grew, if that was an alarm.
    """

    since_reading: LossSums = field(default_factory=LossSums)
    since_checkpoint: LossSums = field(default_factory=LossSums)
    alarming: bool = False
    allowance: float = 0.0
    errors: list[float] = field(default_factory=list)
    sound_error: float | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Progress:
        """Rebuild what `dataclasses.asdict` made of it.

        Raises:
            ValueError: If ``document`` is something else.
        """
        progress = TypeAdapter(cls).validate_python(document)
        for sums in (progress.since_reading, progress.since_checkpoint):
            if sums.count < bool(sums.totals):
                raise ValueError(f"losses of {sums.count} updates are summed up")
        return progress


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
        statistics: Of the training data, where ``normalizer`` leaves observations as they are.
    """

    spec: PolicySpec
    config: TrainConfig
    normalizer: Normalizer
    agent: Agent
    batches: torch.Generator
    progress: Progress = field(default_factory=Progress)
    statistics: Normalizer | None = None

    @property
    def step(self) -> int:
        """Updates taken so far."""
        return self.agent.step

    @property
    def device(self) -> str:
        """Where the networks are."""
        return str(self.agent.noise.generator.device)

    @property
    def data_statistics(self) -> Normalizer:
        """Mean and spread of the training data's observations, as far as they are known."""
        return self.statistics or self.normalizer

    def policy(self, **selection: Any) -> TorchPolicy:
        """Return what acts as this run is configured to; it shares the agent's weights.

        Args:
            selection: What differs in the section ``selection``.
        """
        chosen = self.config.selection.model_copy(update=selection)
        config = self.config.model_copy(update={"selection": chosen})
        return torch_policy(self.agent, config, self.normalizer, self.spec)


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Write ``run/checkpoints/step-<8 digits>``, whole or not at all, and return this folder.

    Raises:
        OutputError: If it cannot be written.
    """
    target = checkpoint_folder(run, checkpoint.step)
    if not target.exists():
        write_checkpoint(target, _document(checkpoint), _state(checkpoint))
    return target


class Snapshot:
    """A run as it was at one step, kept in memory, to be saved if it turns out to be needed.

    Args:
        checkpoint: The run, which goes on.

    Attributes:
        step: Updates taken.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.step = checkpoint.step
        self._document = _document(checkpoint)
        state = _state(checkpoint)
        self._tensors = {name: each.to("cpu", copy=True) for name, each in state.items()}

    def save(self, run: Path) -> None:
        """Write it as `save_checkpoint` would have done.

        Raises:
            OutputError: If it cannot be written.
        """
        target = checkpoint_folder(run, self.step)
        if not target.exists():
            write_checkpoint(target, self._document, self._tensors)


def _document(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return all that a checkpoint says beside its tensors."""
    return {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "device": checkpoint.agent.noise.generator.device.type,
        "config_hash": checkpoint.config.hash(),
        "config": checkpoint.config.model_dump(mode="json"),
        "spec": checkpoint.spec.to_json(),
        "normalizer": checkpoint.normalizer.to_json(),
        "statistics": checkpoint.statistics and checkpoint.statistics.to_json(),
        "progress": asdict(checkpoint.progress),
    }


def load_checkpoint(path: Path, device: str = "cpu", which: CheckpointName = "last") -> Checkpoint:
    """Rebuild a run from its folder or from one checkpoint's folder.

    Args:
        path: A run folder or a checkpoint folder.
        device: Where the networks are to be.
        which: Which checkpoint of a run.

    Raises:
        CheckpointError: If there is none, or it is of an unknown format.
        DamagedCheckpointError: If it is damaged; names the one before it that is not.
    """
    folder = find_checkpoint(path, which)
    if folder != path:
        warn_if_edited(path)
    try:
        return load_exactly(folder, device)
    except DamagedCheckpointError as cause:
        before = whole_before(folder)
        remedy = f"the previous checkpoint is intact: use {before}" if before else "train again"
        raise DamagedCheckpointError(f"{cause}; {remedy}") from cause


def load_exactly(folder: Path, device: str = "cpu") -> Checkpoint:
    """Rebuild a run from one checkpoint's folder.

    Raises:
        CheckpointError: If it is of an unknown format.
        DamagedCheckpointError: If it is damaged.
    """
    document = read_document(folder)
    state = read_state(folder, document)
    checkpoint = _empty(folder, document, len(state), device)
    tensors = tensors_of(state, folder)
    agent = checkpoint.agent
    agent.step = document.step
    generator = agent.noise.generator
    if document.device != generator.device.type:
        # A CUDA generator's state means nothing to the CPU's, and the reverse.
        generator.manual_seed(RunSeeds.derive(checkpoint.config.run.seed).updates + agent.step)
        tensors[f"{GENERATORS}.updates"] = generator.get_state()
    _restore(checkpoint, tensors, folder)
    return checkpoint


def _empty(folder: Path, document: CheckpointDocument, num_bytes: int, device: str) -> Checkpoint:
    """Return a run as the document describes it, whose tensors are to be replaced.

    Its networks are not made unless a file of ``num_bytes`` can hold them.
    """
    where = str(folder / CHECKPOINT_FILE)
    config = parse(as_saved(document.config), TrainConfig, where, DamagedCheckpointError)
    try:
        if document.step > config.run.steps:
            raise ValueError(f"step {document.step} is beyond its run.steps: {config.run.steps}")
        spec = PolicySpec.from_json(document.spec)
        spec.require_sound()
        normalizer = Normalizer.from_json(document.normalizer)
        normalizer.require_fits(spec)
        statistics = Normalizer.from_json(document.statistics) if document.statistics else None
        if statistics:
            statistics.require_fits(spec)
        config.require_room(len(spec.observation), len(spec.action), num_bytes)
        progress = Progress.from_json(document.progress)
    except ValueError as cause:
        raise DamagedCheckpointError(f"{where}: damaged: {one_line(cause)}") from cause
    with torch.random.fork_rng(devices=[]):  # its initial weights are replaced at once
        agent = make_agent(config, spec, torch.Generator(device=device))
    return Checkpoint(spec, config, normalizer, agent, torch.Generator(), progress, statistics)


def _state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of the run under a name of its own."""
    tensors = {
        f"{GENERATORS}.batches": checkpoint.batches.get_state(),
        f"{GENERATORS}.updates": checkpoint.agent.noise.generator.get_state(),
    }
    for name, module in checkpoint.agent.modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in checkpoint.agent.optimizers.items():
        tensors |= {f"adam.{name}.{key}": value for key, value in optimizer.state_dict().items()}
    return tensors


@torch.no_grad()
def _restore(checkpoint: Checkpoint, tensors: dict[str, Tensor], folder: Path) -> None:
    """Copy ``tensors`` into the run; every tensor must find its place and every place a tensor."""
    places = _state(checkpoint)
    try:
        for name, place in places.items():
            found = tensors[name]
            if (found.shape, found.dtype) != (place.shape, place.dtype):
                raise ValueError(
                    f"size mismatch: {name} is {found.dtype} of shape {tuple(found.shape)}, not "
                    f"{place.dtype} of shape {tuple(place.shape)}"
                )
            place.copy_(found)
        checkpoint.batches.set_state(tensors[f"{GENERATORS}.batches"])
        checkpoint.agent.noise.generator.set_state(tensors[f"{GENERATORS}.updates"])
    except (KeyError, RuntimeError, TypeError, ValueError) as cause:
        raise DamagedCheckpointError(
            f"{folder}: does not fit its own configuration: {one_line(cause)}"
        ) from cause
    if unknown := tensors.keys() - places.keys():
        raise DamagedCheckpointError(f"{folder}: unknown tensor '{min(unknown)}' in {STATE_FILE}")
