"""Policies with random weights in all their forms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dql_core.algo.policy_graph import PolicyGraph, policy_graph
from dql_core.algo.registry import make_agent
from dql_core.config import TrainConfig
from dql_core.export.bundle import make_bundle
from dql_core.export.c.folder import CPolicy, write_c
from dql_core.normalize import Normalizer
from dql_core.runtime.manifest import GRAPH_FILE, Manifest
from dql_core.runtime.mode import ModeSeeker
from dql_core.runtime.onnx_backend import OnnxGraph
from dql_core.runtime.policy import Choice, Decision, Noise, draw_noise
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.checkpoint import Checkpoint, save_checkpoint

SPEC = PolicySpec(
    robot="Tiny arm",
    rate_hz=20.0,
    observation=tuple(FieldSpec(f"observation[{index}]") for index in range(3)),
    action=(FieldSpec("torque", "N m", -2.0, 1.0, 4.0), FieldSpec("grip", "", 0.0, 0.1)),
)
NETWORK = {"width": 16, "depth": 2}


@dataclass(frozen=True)
class Made:
    """A policy with random weights in all its forms."""

    graph: PolicyGraph
    manifest: Manifest
    contents: dict[str, bytes]
    choice: Choice
    c: CPolicy

    def in_onnx_runtime(self, observation: NDArray[np.float32], noise: Noise) -> Decision:
        """Decide as a node does, but for given noise."""
        onnx = OnnxGraph(self.contents[GRAPH_FILE])
        seek = ModeSeeker.of(
            self.choice,
            SPEC,
            self.manifest.temperature,
            raw_temperature=self.manifest.temperature_scale == "raw",
        )
        with np.errstate(all="ignore"):
            decision = onnx(self.manifest.observation_normalizer.bounded(observation), noise)
            return decision if seek is None else seek(decision)


def make(
    folder: Path, *, spec: PolicySpec = SPEC, standardised: bool = True, **sections: Any
) -> Made:
    """Make a policy, as `dql export --c` does of a run."""
    selection = {"rule": "softmax", "num_candidates": 6} | sections.pop("selection", {})
    config = TrainConfig.model_validate(
        {
            "policy": NETWORK | sections.pop("policy", {}),
            "critic": NETWORK | sections.pop("critic", {}),
            "selection": selection,
            **sections,
        }
    )
    torch.manual_seed(0)
    agent = make_agent(config, spec, torch.Generator())
    rows = np.random.default_rng(0).normal([0.5, 0.0, 30.0], [0.1, 2.0, 1.0], (50, 3))
    normalizer = Normalizer.fit(rows.astype("f4"), spec)
    if not standardised:
        bounds = [field.low for field in spec.action], [field.high for field in spec.action]
        normalizer = Normalizer.for_actions_only(3, *bounds)
    checkpoint = Checkpoint(
        spec=spec, config=config, normalizer=normalizer, agent=agent, batches=torch.Generator()
    )
    save_checkpoint(folder / "run", checkpoint)
    manifest, contents = make_bundle(folder / "run")
    choice = Choice(manifest.num_candidates, manifest.selection)
    graph = policy_graph(agent, config, normalizer)
    return Made(graph, manifest, contents, choice, write_c(manifest, contents, choice))


def noises(made: Made, rng: np.random.Generator) -> Noise:
    """Draw the noise of a decision."""
    shape = made.graph.noise_shape(made.choice.num_candidates)
    return draw_noise(rng, shape, made.choice.selection)
