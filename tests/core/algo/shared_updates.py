"""Started by torchrun: the same updates alone and shared among all processes must be the same."""

import sys
from typing import Any

import torch

from dql_core.algo.agent import Agent, measured
from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.ranks import joined
from dql_core.algo.td3_bc import TD3BC
from tests.core.algo.naive import A, O, make_batch, make_config

UPDATES = 6
CASES: dict[str, tuple[Any, dict[str, dict[str, Any]]]] = {
    "paper": (DiffusionQL, {}),
    "default": (
        DiffusionQL,
        {
            "policy": {"max_imitation_ratio": 1.01, "gradient_clip": 0.1},
            "critic": {"layer_norm": True, "max_q_samples": 3, "gradient_clip": 0.1},
        },
    ),
    "expectile": (DiffusionQL, {"critic": {"kind": "expectile", "num_critics": 3}}),
    "lower bound": (DiffusionQL, {"critic": {"lower_bound": 1.0, "dueling": True}}),
    "one step": (DiffusionQL, {"policy": {"policy_gradient": "one_step"}}),
    "mean flow": (DiffusionQL, {"policy": {"kind": "mean_flow"}}),
    "imitation": (DiffusionBC, {"policy": {"eta": 0.0}}),
    "td3+bc": (TD3BC, {}),
}


def learn(kind: Any, sections: dict[str, dict[str, Any]]) -> tuple[Agent, list[dict[str, Any]]]:
    torch.manual_seed(0)
    agent = kind(make_config(**sections), O, A, torch.Generator().manual_seed(1))
    if agent.critics:
        agent.critics.bound_targets(-1.0, 1.0)
    losses = [measured(agent.update(make_batch(seed))) for seed in range(UPDATES)]
    return agent, losses


def require_same(shared: Agent, alone: Agent) -> None:
    for name, module in alone.modules.items():
        mine = shared.modules[name].state_dict()
        for key, value in module.state_dict().items():
            torch.testing.assert_close(mine[key], value, atol=1e-6, rtol=1e-5, msg=f"{name}.{key}")


def main() -> None:
    torch.set_num_threads(1)
    alone = {name: learn(*case) for name, case in CASES.items()}
    with joined("cpu") as ranks:
        assert ranks.size == int(sys.argv[1])
        for name, case in CASES.items():
            agent, losses = learn(*case)
            for mine, expected in zip(losses, alone[name][1], strict=True):
                torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4, msg=name)
            require_same(agent, alone[name][0])
            if ranks.rank == 0:
                sys.stdout.write(f"{name} is the same\n")


if __name__ == "__main__":
    main()
