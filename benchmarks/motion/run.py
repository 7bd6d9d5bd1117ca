"""What chunks, a slow policy and a late robot do to success and smoothness; JSON lines.

    python -m benchmarks.motion.run --agents DIR           # prints lines; goes on where it stopped
    python -m benchmarks.motion.run --agents DIR --keep    # and writes them to benchmarks/results

Two robots over topics: the demo's arm, and Gymnasium's HalfCheetah, which somebody else's trained
actor of DIR demonstrates. Each is recorded once, by the bridge in lockstep; policies learn from
conversions of that bag, and drive in real time, faster than the clock. A decision is stalled by
whole ticks in the policy node. Where commands are late, a policy that knows nothing of it drives
beside one that was trained with ``delay_s`` and sees its last command.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.machine import RESULTS, Line, keep, machine, show
from benchmarks.motion.actor_node import ACTOR_VARIABLE
from benchmarks.motion.stalled_node import (
    COMMANDS_VARIABLE,
    FIRST,
    FLAGS,
    NEW,
    RUNNING,
    STALL_VARIABLE,
)
from benchmarks.motion.table import table
from dql_core.config import load_config
from dql_core.errors import ContractError, SimulationError, one_line
from dql_core.export.bundle import export_bundle
from dql_core.strict_yaml import read_yaml
from dql_core.training.loop import train
from dql_ros.cli.closed_loop_report import summarize
from dql_ros.config_files import installed_config
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.closed_loop import DRIVER, demonstrator, run_closed_loop
from dql_ros.processes import NodeCommand
from dql_ros.sim.episodes import BUNDLED_ENVIRONMENT

HORIZONS, STALLS, SEEDS = (1, 5, 10), (0, 1, 3), (0, 1, 2)
DEMONSTRATED_SEED, DRIVE_SEED = 0, 50_000
# Where commands are late: trained as if they were not, or for it.
UNAWARE, AWARE = "unaware", "aware"
# So long a state counts, for chunks that a slow policy decides.
MAX_AGE_S = 1.0


@dataclass(frozen=True)
class Robot:
    """A robot and how it is taught.

    Attributes:
        name: Of its contract.
        env: Its simulation.
        demonstrations: Recorded episodes.
        steps: Of each at most, and of those that are driven; 0 for the environment's limit.
        episodes: Driven with each policy.
        training: Name of its training configuration in ``config``.
        settings: Further training settings.
        latency_ms: By how much commands are late: with what inference adds, to the middle of a
            period, so that all of them are late by as many.
        delay_s: How long after its tick such a command takes effect: the simulation steps once a
            period, with what has come by the end of it.
        pace: Simulated seconds a second.
    """

    name: str
    env: str
    demonstrations: int
    steps: int
    episodes: int
    training: str
    settings: tuple[str, ...]
    latency_ms: float
    delay_s: float
    pace: float


ROBOTS = (
    Robot(
        "scara",
        BUNDLED_ENVIRONMENT,
        300,
        0,
        100,
        "scara.yaml",
        ("run.steps=5000",),
        120.0,
        0.1,
        4.0,
    ),
    Robot(
        "half_cheetah",
        "HalfCheetah-v5",
        160,
        250,
        10,
        "imitate.yaml",
        (
            "run.steps=15000",
            "policy.width=256",
            "selection.rule=mode",
            "selection.num_candidates=20",
        ),
        60.0,
        0.05,
        2.0,
    ),
)


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        robot: Name of the robot.
        seed: Of the training.
        horizon: Actions of a chunk, H.
        stall: Ticks by which a decision takes longer.
        late: Whether commands are late, and what the policy knows of it; empty if they are not.
    """

    robot: str
    seed: int
    horizon: int
    stall: int = 0
    late: str = ""


def cases(robot: Robot, seed: int) -> Iterator[Case]:
    """Yield all that is measured of a robot with one seed."""
    for horizon, stall in product(HORIZONS, STALLS):
        yield Case(robot.name, seed, horizon, stall)
    for late in (UNAWARE, AWARE):
        yield Case(robot.name, seed, 1, late=late)


class Bench:
    """The folder of recordings, datasets, trainings and bundles, which are made once.

    Args:
        out: The folder.
        agents: Folder of the actors.
    """

    def __init__(self, out: Path, agents: Path) -> None:
        self._out, self._agents = out, agents

    def measure(self, robot: Robot, case: Case) -> Line:
        """Drive, and return how that went; a refusal is a result, too."""
        is_aware = case.late == AWARE
        bundle = self._bundle(robot, case.horizon, case.seed, is_aware=is_aware)
        contract = self._contract(robot, is_aware=is_aware)
        period_s = load_contract(contract).period_ns / 1e9
        commands = self._out / "commands.npy"
        commands.unlink(missing_ok=True)
        os.environ[COMMANDS_VARIABLE] = str(commands)
        os.environ[STALL_VARIABLE] = str(case.stall * period_s / robot.pace)
        parameters = {
            "policy": str(bundle.resolve()),
            "seed": case.seed,
            "real_time_factor": robot.pace,
            "when_too_slow": "warn",
        }
        faults = {"command_latency_ms": robot.latency_ms} if case.late else {}
        try:
            results = run_closed_loop(
                contract,
                NodeCommand("benchmarks.motion.stalled_node", DRIVER, parameters),
                episodes=robot.episodes,
                env=robot.env,
                seed=DRIVE_SEED,
                real_time=True,
                max_episode_steps=robot.steps,
                bridge_parameters={"real_time_factor": robot.pace, **faults},
            )
        except SimulationError as error:
            return {**asdict(case), "refused": one_line(error)}
        return {
            **asdict(case),
            **summarize(results).to_json(),
            **motion(np.load(commands, allow_pickle=False), period_s),
        }

    def _bundle(self, robot: Robot, horizon: int, seed: int, *, is_aware: bool) -> Path:
        kind = AWARE if is_aware else UNAWARE
        run = self._out / "runs" / f"{robot.name}-{kind}-h{horizon}-{seed}"
        bundle = run.with_name(f"{run.name}-bundle")
        if bundle.exists():
            return bundle
        dataset = self._dataset(robot, is_aware=is_aware)
        settings = [f"policy.horizon={horizon}", f"run.seed={seed}", f"data.dataset={dataset}"]
        settings += ["data.previous_action_dropout=0.5"] if is_aware else []
        path = installed_config(f"train/{robot.training}")
        if not run.exists():
            train(load_config(path, (*robot.settings, *settings, "run.num_threads=1")), run)
        export_bundle(run, bundle)
        return bundle

    def _dataset(self, robot: Robot, *, is_aware: bool) -> Path:
        dataset = self._out / f"{robot.name}-{AWARE if is_aware else UNAWARE}-data"
        if not dataset.exists():
            contract = load_contract(self._contract(robot, is_aware=is_aware))
            convert(Source(contract, [self._bag(robot)]), dataset)
        return dataset

    def _bag(self, robot: Robot) -> Path:
        bag = self._out / f"{robot.name}-bag"
        if bag.exists():
            return bag
        os.environ[ACTOR_VARIABLE] = str((self._agents / "halfcheetah-tqc.npz").resolve())
        parameters = {"seed": DEMONSTRATED_SEED}
        driver = NodeCommand("benchmarks.motion.actor_node", DRIVER, parameters)
        run_closed_loop(
            self._contract(robot, is_aware=False),
            demonstrator(seed=DEMONSTRATED_SEED) if robot.name == "scara" else driver,
            episodes=robot.demonstrations,
            env=robot.env,
            seed=DEMONSTRATED_SEED,
            max_episode_steps=robot.steps,
            record=bag,
        )
        return bag

    def _contract(self, robot: Robot, *, is_aware: bool) -> Path:
        """Return the robot's contract; that of one whose commands are late has both keys."""
        source = installed_config(f"contracts/{robot.name}.yaml")
        document: dict[str, Any] = dict(read_yaml(source, ContractError))
        document["observation"][0]["max_age_s"] = MAX_AGE_S
        if is_aware:
            document["action"][0]["delay_s"] = robot.delay_s
            document["previous_action"] = 1
        path = self._out / f"{robot.name}-{AWARE if is_aware else UNAWARE}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path


def motion(rows: NDArray[np.float64], period_s: float) -> Line:
    """Say how smooth commands were.

    Args:
        rows: Of each tick what `stalled_node` took down, shape (T, 2 + A).
        period_s: From one to the next.

    Returns:
        The share of ticks at which the policy acted; of these, within episodes, the mean absolute
        second difference (``jerk``) and the mean step, where a decision came in (``seam_step``)
        and where none did (``step_within``); decisions a second.
    """
    commands = rows[:, FLAGS:]
    running, new = rows[:, RUNNING] > 0, rows[:, NEW] > 0
    steps = np.abs(np.diff(commands, axis=0)).mean(axis=1)
    both = running[1:] & running[:-1] & (rows[1:, FIRST] == 0)
    seconds = np.abs(np.diff(commands, n=2, axis=0)).mean(axis=1)[both[1:] & both[:-1]]
    return {
        "running": float(running.mean()),
        "jerk": _mean(seconds),
        "seam_step": _mean(steps[both & new[1:]]),
        "step_within": _mean(steps[both & ~new[1:]]),
        "decisions_per_s": float(new.sum() / (len(rows) * period_s)),
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def known_lines(out: Path) -> dict[Case, Line]:
    """Return what was measured before, in this folder or for the committed results."""
    found: dict[Case, Line] = {}
    for path in (RESULTS / "motion.jsonl", out / "rows.jsonl"):
        for text in path.read_text().splitlines() if path.exists() else ():
            line = json.loads(text)
            found[Case(**{key: line[key] for key in Case.__dataclass_fields__})] = line
    return found


def not_run(lines: Mapping[Case, Line]) -> list[str]:
    """Name the robots and seeds of which anything is missing."""
    return [
        f"{robot.name} with seed {seed}"
        for robot, seed in product(ROBOTS, SEEDS)
        if any(case not in lines for case in cases(robot, seed))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, a seed of both robots after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=Path, required=True, help="folder of trained actors")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=Path("runs/motion"))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    options.out.mkdir(parents=True, exist_ok=True)
    bench, lines = Bench(options.out, options.agents), known_lines(options.out)
    for seed, robot in product(options.seeds, ROBOTS):
        for case in cases(robot, seed):
            if case not in lines:
                lines[case] = show(bench.measure(robot, case) | machine())
                with (options.out / "rows.jsonl").open("a") as file:
                    file.write(f"{json.dumps(lines[case])}\n")
    if options.keep:
        keep("motion", list(lines.values()), table(list(lines.values()), not_run(lines)))


if __name__ == "__main__":
    main()
