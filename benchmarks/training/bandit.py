"""The paper's bandit: where do the agents of `examples/bandit.py` act, for each best corner?

Prints one JSON line; the results are in results/bandit.md, with the command that made them. It
takes a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dql_core.config import AgentName, TrainConfig
from examples import bandit

RESULTS = Path(__file__).parents[1] / "results" / "bandit.md"
SAMPLES = 10_000
BC, TD3, CHAIN = "Diffusion-BC", "TD3+BC", "Diffusion-QL, chain"


@dataclass(frozen=True)
class Variant:
    """One way to learn.

    Attributes:
        agent: Its name in a configuration.
        steps: Number of updates.
        changes: What differs from the example's settings, as section, key and value.
    """

    agent: AgentName
    steps: int
    changes: tuple[tuple[str, str, Any], ...] = ()

    def config(self, seed: int) -> TrainConfig:
        """The whole configuration."""
        document = bandit.settings(self.agent, self.steps).model_dump()
        for section, key, value in (*self.changes, ("run", "seed", seed)):
            document[section][key] = value
        return TrainConfig.model_validate(document)


ONE_STEP = ("policy", "policy_gradient", "one_step")

X0 = (("diffusion", "prediction", "x0"), ("diffusion", "loss", "prediction"))

PLAIN = ("critic", "layer_norm", False)

VARIANTS = {
    BC: Variant("diffusion_bc", 10_000),
    TD3: Variant("td3_bc", 2000),
    CHAIN: Variant("diffusion_ql", 1500),
    "Diffusion-QL, one_step, x0": Variant("diffusion_ql", 2500, (ONE_STEP, *X0)),
}

# What shows a limit rather than a result: one seed and one best corner.
LIMITS = {
    "TD3+BC, alpha 40": Variant("td3_bc", 2000, (("td3", "alpha", 40.0),)),
    "TD3+BC, no layer norm": Variant("td3_bc", 2000, (PLAIN,)),
    "TD3+BC, no layer norm, alpha 40": Variant("td3_bc", 2000, (PLAIN, ("td3", "alpha", 40.0))),
    "Diffusion-QL, chain, no layer norm": Variant("diffusion_ql", 1500, (PLAIN,)),
    "Diffusion-QL, one_step": Variant("diffusion_ql", 2500, (ONE_STEP,)),
}


@dataclass(frozen=True)
class Outcome:
    """Where the actions of one trained policy are.

    Attributes:
        variant: How it learned.
        seed: Of data and training.
        best: Index of the best corner.
        share: Share of the actions near each corner.
        spread: Smallest and largest standard deviation over corners and axes, of the actions
            near a corner; zero where fewer than 1 % are.
        mean: Mean action.
    """

    variant: str
    seed: int
    best: int
    share: tuple[float, ...]
    spread: tuple[float, float]
    mean: tuple[float, ...]


def main() -> None:
    """Run all variants, print the figures and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    outcomes = [
        measure(name, variant, seed, best)
        for name, variant in VARIANTS.items()
        for seed in seeds
        # Imitation knows no best corner.
        for best in ((3,) if name == BC else range(4))
    ]
    outcomes += [measure(name, variant, seeds[0], 3) for name, variant in LIMITS.items()]
    line = {
        "benchmark": "bandit",
        "meets_the_criteria": meets_the_criteria(outcomes),
        "outcomes": [vars(outcome) for outcome in outcomes],
        "samples": SAMPLES,
        "cpu_minutes": round(time.process_time() / 60, 1),
        "commit": commit(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(json.dumps(line))
    RESULTS.write_text(report(outcomes, line, seeds))


def measure(name: str, variant: Variant, seed: int, best: int) -> Outcome:
    """Train once and look where the policy acts."""
    agent = bandit.train(variant.config(seed), bandit.record(best, seed))
    actions = bandit.act(agent, SAMPLES)
    distance = np.linalg.norm(actions[:, None] - bandit.CORNERS, axis=-1)
    groups = [actions[own] for own in (distance < bandit.NEAR).T if own.mean() >= 0.01]
    spreads = np.array([group.std(axis=0) for group in groups] or [0.0])
    return Outcome(
        name,
        seed,
        best,
        tuple(bandit.near(actions).tolist()),
        (float(spreads.min()), float(spreads.max())),
        tuple(actions.mean(axis=0).tolist()),
    )


def meets_the_criteria(outcomes: list[Outcome]) -> bool:
    """Whether BC keeps all four corners and Diffusion-QL (chain) takes the best one, always."""
    kept = all(
        sum(each.share) >= 0.97 and min(each.share) >= 0.2 and max(each.share) <= 0.3
        for each in outcomes
        if each.variant == BC
    )
    taken = all(each.share[each.best] >= 0.95 for each in outcomes if each.variant == CHAIN)
    return kept and taken


def report(outcomes: list[Outcome], line: dict[str, Any], seeds: list[int]) -> str:
    """The results as Markdown."""
    corners = [f"({x:g}, {y:g})" for x, y in bandit.CORNERS]
    rows = [
        f"| {o.variant} | {o.seed} | {'' if o.variant == BC else corners[o.best]} | "
        f"{' | '.join(f'{share:.1%}' for share in o.share)} | {sum(o.share):.1%} | "
        f"{o.spread[0]:.3f} to {o.spread[1]:.3f} | ({o.mean[0]:.2f}, {o.mean[1]:.2f}) |"
        for o in outcomes
    ]
    verdict = "are" if line["meets_the_criteria"] else "are not"
    names = " ".join(str(seed) for seed in seeds)
    return "\n".join(
        [
            "# The paper's two-dimensional bandit",
            "",
            f"    .venv/bin/python -m benchmarks.training.bandit --seeds {names}",
            "",
            f"Commit {line['commit']}, Python {line['python']}, torch {line['torch']}, one thread "
            f"of {line['cpus']} cores, {line['cpu_minutes']} minutes of computing. {SAMPLES:,} "
            "actions of each policy, drawn without ranking by the critics.",
            "",
            "Criteria: each corner holds 20 % to 30 % of Diffusion-BC's actions and at least 97 % "
            "are near one; at least 95 % of the actions of Diffusion-QL (chain) are near the best "
            f"corner, whichever it is. They {verdict} met on every seed. *Near* is within "
            f"{bandit.NEAR:g}; the recorded actions have a spread of 0.05 on each axis, and 100 % "
            "of them are near a corner.",
            "",
            f"| policy | seed | best corner | {' | '.join(f'near {c}' for c in corners)} "
            "| near any | spread | mean |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def commit() -> str:
    """The commit that is checked out, with a mark if files differ from it."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
