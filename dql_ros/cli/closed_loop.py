"""`dql closed-loop`: drive a simulated robot over ROS 2 topics."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from dql_core.cli.console import evaluation_table, facts_table, new_folder
from dql_core.cli.terminal import TaskText, Terminal
from dql_core.errors import ConfigError
from dql_core.extras import needing
from dql_core.files import atomic_directory, write_text
from dql_core.process import INCOMPLETE, INTERRUPTED
from dql_ros.contract import Contract, contract_path, load_contract
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.processes import NodeCommand
from dql_ros.sim.faults import FAULTS_HELP, parse_faults
from dql_ros.sim.options import MODEL_EPISODE_STEPS, Operator

with needing("sim", __name__):
    from dql_ros.cli.closed_loop_report import ClosedLoop, draw_closed_loop
    from dql_ros.nodes.closed_loop import (
        BRIDGE,
        DRIVER,
        demonstrator,
        policy_driver,
        run_closed_loop,
    )
    from dql_ros.sim.episodes import BUNDLED_ENVIRONMENT
    from dql_ros.sim.result import EpisodeResult

FIGURES, PICTURE = "closed_loop.json", "closed_loop.png"
_LINE_PERIOD_S = 10.0


def closed_loop(
    contract: Annotated[
        Path,
        typer.Option(
            "--contract",
            help="Robot contract (yaml) that it was trained with, or a tighter copy: its "
            "path, or the name of one of this package's.",
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Folder of the policy bundle; none where the operator drives."),
    ] = None,
    operator: Annotated[
        Operator,
        typer.Option(
            "--operator",
            help="The scripted operator of the simulated arm: drives in a policy's place, or "
            "watches and takes over where the policy goes wrong, by the contract's takeover.",
        ),
    ] = "none",
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Number of episodes.")] = 20,
    real_time: Annotated[
        bool,
        typer.Option(
            "--real-time/--lockstep",
            help="Let the simulation run with the clock, as a robot would, or wait for each "
            "command.",
        ),
    ] = False,
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            help="Gymnasium id of the simulated robot, whose observation and action vectors must "
            "be the contract's; module:id imports a module that registers it. Or an MJCF file "
            "(.xml), which is stepped through the contract: its joints, sites, sensors and "
            "actuators by name, its rewards, ends and success by the contract's functions. "
            "By default the simulated arm of the demo.",
        ),
    ] = None,
    max_episode_steps: Annotated[
        int | None,
        typer.Option(
            "--max-episode-steps",
            min=1,
            help="Truncate episodes after so many steps. By default after the environment's own "
            f"limit; with an MJCF file, which has none, after {MODEL_EPISODE_STEPS}.",
        ),
    ] = None,
    reset_noise_scale: Annotated[
        float,
        typer.Option(
            "--reset-noise-scale",
            min=0.0,
            help="With an MJCF file: begin each hinge and slide joint up to so many rad or m from "
            "its start, drawn by the episode's seed.",
        ),
    ] = 0.0,
    faults: Annotated[str, typer.Option("--faults", help=FAULTS_HELP)] = "",
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            help="Episode i starts from env.reset(seed=SEED + i).",
        ),
    ] = 0,
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates", min=1, help="Actions sampled to choose from; default: the bundle's."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help=f"Folder for the figures ({FIGURES}) and their picture ({PICTURE}). Must be "
            "new or empty. By default runs/closed_loop/TIME.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="Record all topics into this folder (rosbag2, MCAP)."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(
            "--video", help="Film the simulated robot into this file (.mp4); needs OpenGL."
        ),
    ] = None,
) -> None:
    """Drive a simulated robot over ROS 2 topics; show how often it succeeds, and the timing.

    Simulation bridge and policy node run as two processes, on a ROS domain of their own on the
    loopback interface, and are ended in any case. In lockstep the simulation waits for each
    command: a run is reproducible, as fast as the machine, and with equal seeds its result is
    that of 'dql evaluate'. In real time the policy meets the deadlines of the robot or does not.
    An episode in which MuJoCo loses the physics ends as failed, with the reason.

    With --operator watches the figures are those of policy and operator together.

    Exits with 0 if all episodes were driven to their ends, whether they succeeded or not; 2 on a
    mistake that it names, or if a process failed; 3 if an episode failed; and 130 after Ctrl-C.

    Example: dql closed-loop runs/demo/bundles/diffusion_ql --contract
    config/contracts/scara.yaml
    """
    injected = parse_faults(faults)
    _require_one_driver(bundle, operator, candidates)
    folder = out or new_folder("closed_loop")
    noise, log, where = reset_noise_scale, DiagnosticsLog(), env or BUNDLED_ENVIRONMENT
    run = ClosedLoop(bundle, where, seed, real_time, injected, [], log, operator, noise)
    console = Terminal()
    try:
        with atomic_directory(folder, error=ConfigError) as unfinished:
            options = {"max_episode_steps": max_episode_steps or 0, "record": record}
            _drive(console, run, contract, episodes, candidates, video, **options)
            write_text(unfinished / FIGURES, json.dumps(run.to_json(), indent=2) + "\n")
            draw_closed_loop(run, unfinished / PICTURE)
    except KeyboardInterrupt:
        done = len(run.results)
        console.print(f"interrupted after {done} of {episodes} episodes; every process is ended")
        raise typer.Exit(INTERRUPTED) from None
    console.print(evaluation_table(f"{run.driver} over topics", run.outcome))
    console.print(facts_table("the policy node", run.policy_facts()))
    console.print(facts_table("the simulation", run.simulation_facts()))
    console.print(f"figures and picture: {folder}", soft_wrap=True, highlight=False)
    if run.outcome.failures:
        raise typer.Exit(INCOMPLETE)


def _require_one_driver(bundle: Path | None, operator: Operator, candidates: int | None) -> None:
    """See that either a policy drives or the operator does.

    Raises:
        ConfigError: If both are to, or neither, or the operator is to choose among candidates.
    """
    if bundle is None and operator != "drives":
        raise ConfigError("nobody drives: name a policy bundle, or give --operator drives")
    if bundle is not None and operator == "drives":
        raise ConfigError(
            f"{bundle}: with --operator drives no policy does: leave the bundle out, or give "
            f"--operator watches"
        )
    if bundle is None and candidates is not None:
        raise ConfigError("--candidates is for a policy, and the operator drives: leave it out")


def _drive(
    console: Terminal,
    run: ClosedLoop,
    contract: Path,
    episodes: int,
    candidates: int | None,
    video: Path | None,
    **options: Any,
) -> None:
    """Fill ``run``, showing how far it is; ``options`` are those of `run_closed_loop`."""
    simulated: dict[str, Any] = {"reset_noise_scale": run.reset_noise_scale, **run.faults}
    if video is not None:
        simulated["video"] = str(video.resolve())
    contract = contract_path(contract)
    if run.bundle is not None:
        for remark in undelayed(load_contract(contract), run.faults, real_time=run.real_time):
            console.print(remark, soft_wrap=True, highlight=False)
    with RunProgress(console, run, episodes) as progress:
        run_closed_loop(
            contract,
            _driver(run, candidates),
            episodes=episodes,
            env=run.env,
            seed=run.seed,
            real_time=run.real_time,
            watched=run.operator == "watches",
            bridge_parameters=simulated,
            on_episode=progress.note_episode,
            on_report=progress.note_report,
            **options,
        )


def undelayed(
    contract: Contract, faults: Mapping[str, float], *, real_time: bool
) -> Iterator[str]:
    """Yield of which commands the simulated robot is quicker than the policy has learned.

    Also of which it cannot be as late as that: it steps once a control period.

    Args:
        contract: Has each stream's ``delay_s``.
        faults: The bridge's parameters, with what delays commands.
        real_time: A decision takes time, up to a control period.
    """
    kinds = ("latency_ms", "latency_spread_ms", "jitter_ms")
    latest_s = sum(faults.get(f"command_{kind}", 0.0) for kind in kinds) / 1000
    latest_s += contract.period_ns / 1e9 if real_time else 0.0
    for stream in contract.action:
        if stream.delay_s > latest_s:
            yield (
                f"'{stream.topic}' takes effect after {stream.delay_s:g} s (delay_s), but in this "
                f"simulation after at most {latest_s:g} s: give --faults command_latency_ms="
                f"{stream.delay_s * 1000:g}, or the policy drives another robot than it learned"
            )
        elif stream.delay_ns % contract.period_ns:
            yield (
                f"'{stream.topic}' takes effect after {stream.delay_s:g} s (delay_s), but in this "
                f"simulation after whole control periods of {contract.period_ns / 1e9:g} s: the "
                f"robot is another one than the policy learned, by a part of a period"
            )


def _driver(run: ClosedLoop, candidates: int | None) -> NodeCommand:
    """Return the command for the node that drives."""
    if run.bundle is None:
        return demonstrator(seed=run.seed)
    return policy_driver(run.bundle, seed=run.seed, num_candidates=candidates)


class RunProgress(Progress):
    """Fills a run with what comes of it, and shows how far it is: a bar, or a line now and then.

    Args:
        console: Where; without a terminal a line is printed every ten seconds.
        run: What to fill.
        episodes: How many episodes it is to have.
    """

    def __init__(self, console: Terminal, run: ClosedLoop, episodes: int) -> None:
        columns = TaskText(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        super().__init__(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._run, self._episodes = run, episodes
        self._state = self._steps = ""
        self._task = self.add_task("starting", total=episodes)
        self._shown_s = time.monotonic()

    def note_episode(self, result: EpisodeResult) -> None:
        """Take in the result of an episode."""
        self._run.results.append(result)
        self.advance(self._task)
        self._show()

    def note_report(self, report: Report) -> None:
        """Take in what a node reports."""
        self._run.log.reports.append(report)
        if report.name.startswith(DRIVER):
            self._state = report.values.get("state", report.message)
        elif report.name.startswith(BRIDGE):
            self._steps = report.values.get("steps", "")
        self._show()

    def _show(self) -> None:
        results = self._run.results
        text = self._state or "starting"
        if results:
            returns = [each.return_ for each in results]
            mean = sum(returns) / len(returns)
            text = f"mean return {mean:.2f}" if any(returns) else "no reward yet"
        if self._steps:
            text += f", {self._steps} steps"
        self.update(self._task, description=text)
        if self.disable and time.monotonic() - self._shown_s > _LINE_PERIOD_S:
            self._shown_s = time.monotonic()
            self.console.print(f"{len(results)} of {self._episodes} episodes, {text}")
