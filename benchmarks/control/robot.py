"""The robot that the control path is measured with: an arm of seven joints, and its policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dql_ros.processes import NodeCommand

JOINTS = tuple(f"joint{number}" for number in range(1, 8))
STATE_TOPIC, COMMAND_TOPIC = "joint_states", "velocity_controller/commands"
STATE_HZ = 500.0
START_TIMEOUT_S = 60.0
POLICY_NODE = "dql_ros.nodes.policy_node"
WIDTH, DEPTH, NUM_CANDIDATES = 256, 3, 50
SCARA = Path(__file__).parents[2] / "config" / "contracts" / "scara.yaml"
REACHER = SCARA.with_name("reacher.yaml")
_CONTRACT = """
robot: arm
rate_hz: {rate_hz}
observation:
  - topic: {state}
    type: sensor_msgs/msg/JointState
    stamp: header
    max_age_s: 0.1
    fields:
      - {{path: position, joints: [{joints}], unit: rad}}
      - {{path: velocity, joints: [{joints}], unit: rad/s}}
action:
  - topic: {command}
    type: std_msgs/msg/Float64MultiArray
    fields:
      - {{path: data, slice: "0:7", names: [{joints}], unit: rad/s, low: -2.0, high: 2.0}}
on_fault: {{command: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]}}
"""


def write_arm(folder: Path, rate_hz: float) -> Path:
    """Write the arm's contract for a control rate and return its path."""
    path = folder / f"arm_{rate_hz:g}_hz.yaml"
    names = ", ".join(JOINTS)
    path.write_text(
        _CONTRACT.format(rate_hz=rate_hz, state=STATE_TOPIC, command=COMMAND_TOPIC, joints=names)
    )
    return path


def export_untrained(contract: Path, folder: Path, horizon: int = 1) -> Path:
    """Export a policy of the paper's size with random weights for a contract; return its folder.

    It computes exactly what a trained one would: 3 x 256 wide, N = 5, K = 50, chunks of H actions.
    """
    import torch  # noqa: PLC0415 - only this needs it, and takes seconds

    from dql_core.algo.registry import make_agent  # noqa: PLC0415
    from dql_core.config import TrainConfig  # noqa: PLC0415
    from dql_core.export.bundle import export_bundle  # noqa: PLC0415
    from dql_core.normalize import Normalizer  # noqa: PLC0415
    from dql_core.training.checkpoint import Checkpoint, save_checkpoint  # noqa: PLC0415
    from dql_ros.contract import load_contract  # noqa: PLC0415

    torch.manual_seed(0)
    spec = load_contract(contract).policy_spec()
    network = {"width": WIDTH, "depth": DEPTH}
    config = TrainConfig.model_validate(
        {
            "agent": "diffusion_ql",
            "policy": {**network, "horizon": horizon},
            "critic": network,
        }
    )
    seen = np.random.default_rng(0).normal(size=(1000, len(spec.observation))).astype(np.float32)
    normalizer = Normalizer.fit(seen, spec)
    agent = make_agent(config, spec, torch.Generator())
    checkpoint = Checkpoint(spec, config, normalizer, agent, torch.Generator())
    run, bundle = folder / f"{contract.stem}_run", folder / f"{contract.stem}_bundle"
    save_checkpoint(run, checkpoint)
    export_bundle(run, bundle, num_candidates=NUM_CANDIDATES)
    return bundle


def policy_command(
    contract: Path, bundle: Path, module: str = POLICY_NODE, **parameters: Any
) -> NodeCommand:
    """How the policy node is started, or a module that does more beside.

    Args:
        contract: The robot's contract.
        bundle: The policy.
        module: What is started.
        parameters: More of the node's parameters.
    """
    own = {
        "contract": str(contract),
        "policy": str(bundle),
        "device": "cpu",
        "autostart": True,
        "activation_timeout_s": START_TIMEOUT_S,
        "when_too_slow": "warn",
        "seed": 0,
    }
    return NodeCommand(module, "policy", own | parameters)
