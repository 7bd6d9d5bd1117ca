"""The training configuration: strict sections, yaml in, hash out.

Every key has a default, so a file states only what differs; the resolved configuration is saved
with each run. Names follow the paper (arXiv 2208.06193) where it has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from dql_core.diffusion.schedule import ScheduleName, Variance
from dql_core.errors import ConfigError
from dql_core.strict_yaml import StrictModel, parse, read_yaml

AgentName = Literal["diffusion_ql", "diffusion_bc"]


class RunConfig(StrictModel):
    """How long and where to train.

    Attributes:
        steps: Number of updates.
        batch_size: Transitions in an update, B.
        seed: Seeds initial weights, batches and the diffusion's noise.
        learning_rate_decay: ``cosine`` falls to zero over all steps, one step at a time.
        log_every: Updates between two lines of metrics.
        checkpoint_every: Updates between two checkpoints; the last update always makes one.
        device: Where the networks are; ``auto`` takes CUDA if there is one.
        num_threads: Threads of a CPU operation; 0 leaves the choice to torch.
    """

    steps: int = Field(default=100_000, ge=1)
    batch_size: int = Field(default=256, ge=1)
    seed: int = Field(default=0, ge=0)
    learning_rate_decay: Literal["cosine", "constant"] = "cosine"
    log_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=10_000, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    num_threads: int = Field(default=0, ge=0)


class DataConfig(StrictModel):
    """What is learned from and how it is prepared.

    Attributes:
        dataset: Folder or Minari id; ``--dataset`` overrides it.
        normalize_observations: Standardise observations; the paper's code uses them raw.
        reward_scale: Every reward is multiplied by it.
        out_of_bounds: What to do with actions beyond the bounds of the spec.
    """

    dataset: str = ""
    normalize_observations: bool = True
    reward_scale: float = Field(default=1.0, gt=0)
    out_of_bounds: Literal["refuse", "clip"] = "refuse"


class DiffusionConfig(StrictModel):
    """The diffusion process over actions.

    Attributes:
        num_diffusion_steps: Steps from noise to action, N.
        schedule: ``vp`` as in the paper, ``cosine``, or ``linear`` (for N in the hundreds).
        variance: Covariance of a reverse step: ``posterior`` as in the paper's code, ``beta`` as
            in the paper.
        clip_denoised: Clip the clean action that each reverse step predicts to the bounds.
    """

    num_diffusion_steps: int = Field(default=5, ge=1)
    schedule: ScheduleName = "vp"
    variance: Variance = "posterior"
    clip_denoised: bool = True


class PolicyConfig(StrictModel):
    """The policy's network and how it learns.

    Attributes:
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        learning_rate: Adam's step size at the start.
        gradient_clip: Largest norm of the gradient; null for no limit.
        eta: Weight of the values against the imitation of the data; larger trusts the critics
            more. No part of Diffusion-BC.
        ema_rate: How far the averaged policy moves towards the policy at a time.
        ema_every: Updates between two such moves.
    """

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=3, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    gradient_clip: float | None = Field(default=5.0, gt=0)
    eta: float = Field(default=1.0, ge=0)
    ema_rate: float = Field(default=0.005, gt=0, le=1)
    ema_every: int = Field(default=5, ge=1)


class CriticConfig(StrictModel):
    """The twin critics and how they learn; no part of Diffusion-BC.

    Attributes:
        width: Units of a hidden layer.
        depth: Number of hidden layers.
        layer_norm: Normalise hidden layers, against runaway values on small data.
        learning_rate: Adam's step size at the start.
        gradient_clip: Largest norm of both critics' gradient; null for no limit.
        discount: Weight of the value of the next observation, gamma.
        tau: How far the target critics move towards the critics in an update.
        max_q_samples: Next actions sampled for a target, the best of which counts: 1 is the
            plain backup, more is the paper's max-Q backup (10 there).
    """

    width: int = Field(default=256, ge=1)
    depth: int = Field(default=3, ge=1)
    layer_norm: bool = False
    learning_rate: float = Field(default=3e-4, gt=0)
    gradient_clip: float | None = Field(default=5.0, gt=0)
    discount: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=0.005, gt=0, le=1)
    max_q_samples: int = Field(default=1, ge=1)


class SelectionConfig(StrictModel):
    """How the trained policy chooses an action; an exported bundle takes these as its defaults.

    Attributes:
        num_candidates: Actions sampled for a decision, K.
        rule: ``softmax`` draws a candidate by its value, ``greedy`` takes the best, ``first``
            takes the first; Diffusion-BC has no values and takes the first.
        temperature: Of ``softmax``, in standard deviations of the value over the candidates.
        weights: The averaged policy (``ema``) or the one of the last update (``online``).
    """

    num_candidates: int = Field(default=50, ge=1)
    rule: Literal["softmax", "greedy", "first"] = "softmax"
    temperature: float = Field(default=1.0, gt=0)
    weights: Literal["ema", "online"] = "ema"


class TrainConfig(StrictModel):
    """Everything that decides what a training run computes."""

    agent: AgentName = "diffusion_ql"
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    policy: PolicyConfig = PolicyConfig()
    critic: CriticConfig = CriticConfig()
    selection: SelectionConfig = SelectionConfig()

    def to_yaml(self) -> str:
        """Return the resolved configuration as a yaml document."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text

    def hash(self) -> str:
        """SHA-256 of the configuration's meaning: comments and key order do not change it."""
        document = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration file and apply ``section.key=value`` overrides to it.

    Args:
        path: The yaml file.
        overrides: As on the command line; the value is read as yaml.

    Raises:
        ConfigError: Naming the file or the override, the key, its value and the rule it breaks.
    """
    document = read_yaml(path, ConfigError)
    config = parse(document, TrainConfig, str(path), ConfigError)
    for override in overrides:
        _apply(document, override)
        config = parse(document, TrainConfig, f"--set {override}", ConfigError)
    return config


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one dotted key of ``document`` in place."""
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not all([*sections, last]):
        raise ConfigError(f"--set {override}: must have the form section.key=value")
    for section in sections:
        if document.get(section) is None:
            document[section] = {}
        document = document[section]
        if not isinstance(document, dict):
            raise ConfigError(f"--set {override}: '{section}' is a value and has no keys")
    try:
        document[last] = yaml.safe_load(text)
    except yaml.YAMLError as cause:
        raise ConfigError(f"--set {override}: the value is not valid yaml") from cause
