"""The whole demo: record, convert, train, export, judge, drive, show."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.cli.judgement import write_judgement
from dql_core.data.dataset import Episode, load_dataset
from dql_core.export.bundle import export_bundle
from dql_core.files import replacing_directory
from dql_core.training.run_files import METRICS_FILE, read_records
from dql_ros.config_files import installed_config
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.demo.figures import LearningCurve, draw_learning_curves, draw_paths
from dql_ros.demo.film import make_video
from dql_ros.demo.judging import Foreseen, foreseen, judge_bundles, look_at_shadow
from dql_ros.demo.progress import DemoProgress
from dql_ros.demo.results import CURVES_FILE, FILM_FILE, PATHS_FILE, write_results
from dql_ros.demo.rollouts import Rollouts, require_same_episodes
from dql_ros.demo.training import (
    CONFIGS,
    CURVE_FILE,
    configured_training,
    run_trainings,
)
from dql_ros.nodes.closed_loop import demonstrator, policy_driver, run_closed_loop
from dql_ros.processes import NodeCommand
from dql_ros.sim.result import EpisodeResult

STAGES = ("record", "convert", "train", "export", "judge", "drive", "show")
LABELS = {
    "demonstrator": "demonstrator",
    "diffusion_bc": "Diffusion-BC",
    "diffusion_ql": "Diffusion-QL",
}
EPISODES_A_BAG = 100
FILM_EPISODES = 4
# Episodes begin with seeds of their own, so that no policy is tried on what it was trained on.
_SEEDS_A_RUN = 100_000
_JUDGE_SEED, _SHADOW_SEED, _DRIVE_SEED, _CURVE_SEED = 25_000, 40_000, 50_000, 75_000
# The policies are judged by so many demonstrations for each that they learned from.
JUDGED_BY, MIN_JUDGED_BY = 0.2, 10
SHADOW_EPISODES = 6


@dataclass(frozen=True)
class DemoSettings:
    """What to demonstrate.

    Attributes:
        out: Result folder; a previous result there is replaced when all is done.
        demonstrations: Episodes to record.
        episodes: Episodes that each trained policy drives.
        seed: Seeds everything.
        steps: Updates of each training; 0 for those of the configurations.
    """

    out: Path
    demonstrations: int = 500
    episodes: int = 50
    seed: int = 0
    steps: int = 0

    @property
    def first_seed(self) -> int:
        """Seed of the first demonstration."""
        return self.seed * _SEEDS_A_RUN

    @property
    def command(self) -> str:
        """The command that demonstrates this."""
        options = (
            f"--out {self.out} --episodes {self.episodes} "
            f"--demonstrations {self.demonstrations} --seed {self.seed}"
        )
        return f"dql demo {options}" + (f" --steps {self.steps}" if self.steps else "")


class Demo:
    """The stages, which share a folder and show their progress."""

    def __init__(self, settings: DemoSettings, root: Path, progress: DemoProgress) -> None:
        self._settings = settings
        self._root = root
        self._progress = progress
        self._contract = installed_config("contracts/scara.yaml")

    def run(self) -> list[Rollouts]:
        """Run all stages and return the demonstrator and the two trained policies."""
        results, bags = self.record()
        episodes = self.convert(bags, results)
        self.train()
        self.export()
        foreseen = self.judge()
        rollouts = [_rollouts("demonstrator", results, episodes), *self.drive()]
        self.show(rollouts, foreseen)
        return rollouts

    def record(self) -> tuple[list[EpisodeResult], list[Path]]:
        """Record demonstrations into bags of at most `EPISODES_A_BAG` episodes."""
        settings = self._settings
        results: list[EpisodeResult] = []
        bags: list[Path] = []
        with self._progress.stage("record") as stage:
            bar = stage.bar("demonstrations over ROS 2", settings.demonstrations)
            for first in range(0, settings.demonstrations, EPISODES_A_BAG):
                bags.append(self._root / "bags" / f"session_{len(bags)}")
                count = min(EPISODES_A_BAG, settings.demonstrations - first)
                seed = settings.first_seed + first
                results += self._record(demonstrator(seed=seed), count, seed, bags[-1], bar)
            succeeded = sum(bool(result.success) for result in results) / len(results)
            stage.text = (
                f"{len(results)} demonstrations over ROS 2 in {len(bags)} MCAP bags, "
                f"{succeeded:.0%} of them succeed"
            )
        return results, bags

    def convert(
        self, bags: Sequence[Path], results: Sequence[EpisodeResult]
    ) -> tuple[Episode, ...]:
        """Convert the demonstrations into the dataset to train on."""
        with self._progress.stage("convert") as stage:
            bar = stage.bar("bytes of bags", 0)
            out = self._root / "dataset"
            report, episodes = convert_bags(
                self._contract,
                bags,
                out,
                results,
                lambda done, total: bar(completed=done, total=total),
            )
            totals = report["totals"]
            stage.text = (
                f"{totals['episodes']} episodes, {totals['transitions']} transitions at "
                f"{report['rate_hz']:g} Hz to a Minari dataset"
            )
        return episodes

    def train(self) -> None:
        """Train both agents, each on a core."""
        settings = self._settings
        curve_seed = settings.first_seed + _CURVE_SEED
        trainings = [
            configured_training(
                key, self._root, settings.seed, curve_seed, settings.steps, settings.out
            )
            for key in CONFIGS
        ]
        with self._progress.stage("train") as stage:
            bars = {t.key: stage.bar(LABELS[t.key], t.amount) for t in trainings}
            run_trainings(trainings, lambda t: bars[t.key](completed=t.done()))
            stage.text = " and ".join(f"{LABELS[t.key]} {t.steps} updates" for t in trainings)

    def export(self) -> None:
        """Export both policies as bundles."""
        with self._progress.stage("export") as stage:
            bar = stage.bar("bundles", len(CONFIGS))
            errors = []
            for key in CONFIGS:
                run, dataset = self._root / "training" / key, str(self._root / "dataset")
                manifest = export_bundle(run, self._bundle(key), dataset=dataset)
                errors.append(manifest.parity.action_error)
                bar(advance=1)
            stage.text = (
                f"2 ONNX bundles, at most {max(errors):.0e} of the action range from the networks"
            )

    def judge(self) -> dict[str, Foreseen]:
        """Judge both policies by further demonstrations, and let them look on in shadow mode."""
        settings, folder = self._settings, self._root / "judge"
        count = max(MIN_JUDGED_BY, round(JUDGED_BY * settings.demonstrations))
        looking = min(SHADOW_EPISODES, settings.demonstrations)
        seed, shadow_seed = (settings.first_seed + each for each in (_JUDGE_SEED, _SHADOW_SEED))
        bundles = {key: self._bundle(key) for key in CONFIGS}
        with self._progress.stage("judge") as stage:
            bar = stage.bar("demonstrations to judge by", count)
            held_out, shadow = folder / "held_out", folder / "shadow"
            results = self._record(demonstrator(seed=seed), count, seed, held_out / "bag", bar)
            convert_bags(self._contract, [held_out / "bag"], held_out / "dataset", results)
            bar = stage.bar("policies in shadow mode", looking)
            driver = demonstrator(seed=shadow_seed)
            self._record(
                driver, looking, shadow_seed, shadow, bar, real_time=True, shadows=bundles
            )
            shadows = {
                key: look_at_shadow(self._contract, shadow, f"/{key}", settings.seed)
                for key in CONFIGS
            }
            bar = stage.bar("values", 100)
            judgement = judge_bundles(
                bundles,
                self._root / "dataset",
                load_dataset(held_out / "dataset"),
                settings.seed,
                lambda _stage, share: bar(completed=round(100 * share)),
            )
            write_judgement(folder, judgement.to_json())
            found = foreseen(judgement, shadows)
            stage.text = ", ".join(f"{LABELS[key]} {each.verdict}" for key, each in found.items())
            stage.text += f", by {count} demonstrations that neither learned from"
        return found

    def drive(self) -> list[Rollouts]:
        """Let both policies drive from the same starts."""
        episodes, seed = self._settings.episodes, self._settings.first_seed + _DRIVE_SEED
        rollouts = []
        with self._progress.stage("drive") as stage:
            for key in CONFIGS:
                bar = stage.bar(LABELS[key], episodes)
                folder = self._root / "closed_loop" / key
                driver = policy_driver(self._bundle(key), seed=seed)
                results = self._record(driver, episodes, seed, folder / "bag", bar)
                _, recorded = convert_bags(
                    self._contract, [folder / "bag"], folder / "dataset", results
                )
                rollouts.append(_rollouts(key, results, recorded))
            stage.text = f"{episodes} episodes each over ROS 2 in lockstep"
        return rollouts

    def show(self, rollouts: Sequence[Rollouts], foreseen: Mapping[str, Foreseen]) -> None:
        """Write table, figures, film and page."""
        root, progress = self._root, self._progress
        with progress.stage("show") as stage:
            draw_paths(rollouts, root / PATHS_FILE)
            draw_learning_curves(self._curves(), rollouts[0], root / CURVES_FILE)
            bar = stage.bar("video", FILM_EPISODES)
            films = {LABELS[key]: root / "closed_loop" / key / "dataset" for key in CONFIGS}
            no_film = make_video(root / FILM_FILE, films, FILM_EPISODES)
            bar(completed=FILM_EPISODES)
            stage.text = (
                f"figures and page, no video: {no_film}" if no_film else "figures, video and page"
            )
        command = self._settings.command
        write_results(root, rollouts, foreseen, progress.stages, command=command, no_film=no_film)

    def _record(
        self,
        driver: NodeCommand,
        episodes: int,
        seed: int,
        bag: Path,
        bar: Callable[..., None],
        **how: Any,
    ) -> list[EpisodeResult]:
        """Let a node drive the simulated robot, and record it."""
        bag.parent.mkdir(parents=True, exist_ok=True)
        return run_closed_loop(
            self._contract,
            driver,
            episodes=episodes,
            seed=seed,
            record=bag,
            on_episode=lambda _: bar(advance=1),
            **how,
        )

    def _bundle(self, key: str) -> Path:
        return self._root / "bundles" / key

    def _curves(self) -> list[LearningCurve]:
        runs = {key: self._root / "training" / key for key in CONFIGS}
        return [
            LearningCurve(
                key, LABELS[key], read_records(run / CURVE_FILE), read_records(run / METRICS_FILE)
            )
            for key, run in runs.items()
        ]


def run_demo(settings: DemoSettings, progress: DemoProgress) -> list[Rollouts]:
    """Run everything; the result folder appears whole or not at all.

    Returns:
        The demonstrator, Diffusion-BC and Diffusion-QL.

    Raises:
        DqlError: If a stage fails; processes are ended and nothing is left behind.
    """
    with replacing_directory(settings.out) as root, _without_graphics():
        return Demo(settings, root, progress).run()


def convert_bags(
    contract: Path,
    bags: Sequence[Path],
    out: Path,
    results: Sequence[EpisodeResult],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[dict[str, Any], tuple[Episode, ...]]:
    """Convert bags and check that the dataset has the episodes that were driven.

    Returns:
        The converter's report and the dataset's episodes.

    Raises:
        DqlError: If the bags do not fit the contract.
        SimulationError: If the recording has other episodes than ``results``.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    source = Source(
        load_contract(contract),
        bags,
        contract_name=contract.name,
        contract_text=contract.read_text(),
    )
    report = convert(source, out, progress=progress)
    episodes = load_dataset(str(out)).episodes
    require_same_episodes(results, episodes, out.name)
    return report, episodes


def _rollouts(key: str, results: Sequence[EpisodeResult], episodes: Sequence[Episode]) -> Rollouts:
    return Rollouts(key, LABELS[key], tuple(results), tuple(episodes))


@contextmanager
def _without_graphics() -> Iterator[None]:
    """Keep MuJoCo from loading an OpenGL driver, without which ``import mujoco`` can fail."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before
