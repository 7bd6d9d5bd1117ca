"""The trials of a sweep, proposed by Optuna's sampler and run by Ray Tune.

Nothing that Ray keeps is read again: what is known of earlier trials is in their run folders.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dql_core.config import TrainConfig, changed_config
from dql_core.errors import CheckpointError, ConfigError, DqlError, OutputError, one_line
from dql_core.extras import MissingExtraError
from dql_core.process import Interruption
from dql_core.ray_cluster import Surroundings, added_to_environment, connected
from dql_core.training.loop import train
from dql_core.training.run_files import CONFIG_FILE
from dql_core.training.run_folder import InUseError
from dql_core.training.sweep.space import Parameters, Range, Space, assignments, invalid, steps_of
from dql_core.training.sweep.trials import (
    Trial,
    is_maximised,
    note_end,
    read_trials,
    trial_files,
    trial_folder,
)

# How often a trial may be begun again, elsewhere or after its process died.
RETRIES = 3
# How long a run waits for a process that still trains it, as one whose sweep was killed.
PATIENCE_S = 60.0
# Trials are compared after this share of their updates, then after so many times as many; of so
# many one goes on.
FIRST_LOOK, KEPT_OF = 1 / 4, 3
# Draws of the sampler among which there is to be a configuration that was not tried yet.
MOST_DRAWS = 100
# With fewer trials nothing is said of how much a key matters.
FEWEST_FOR_IMPORTANCE = 10
WORK_FOLDER = ".ray"
VALUE, STEP = "value", "step"
# Read by Ray Tune: it writes no logs, leaves signals and error messages to us, and lets a trial
# end without a value.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Sweep:
    """What is to be searched, and how.

    Attributes:
        base: The configuration that the trials change.
        space: What they may change.
        out: Folder of the trials.
        trials: How many there are to be, those that are done included.
        at_once: How many run at a time; ``None`` for as many as there are processors.
        prune: Whether trials that are worse than most end early.
        seed: Of the sampler.
        ray: Address of the cluster, see `connected`.
    """

    base: TrainConfig
    space: Space
    out: Path
    trials: int
    at_once: int | None = None
    prune: bool = True
    seed: int = 0
    ray: str = "local"

    @property
    def mode(self) -> str:
        """Whether the largest value is the best or the smallest, in Ray's words."""
        return "max" if is_maximised(self.base) else "min"

    def known(self) -> list[Trial]:
        """Return the trials that there are, see `read_trials`.

        Raises:
            CheckpointError: If the files of one are damaged, or it is none of this space.
        """
        trials = read_trials(self.out, self.base)
        for trial in trials:
            if not self.space.holds(trial.parameters):
                raise CheckpointError(
                    f"{trial.folder}: {' '.join(assignments(trial.parameters))} is not in the "
                    f"space of this sweep: was that edited? change it back, or begin a new sweep"
                )
        return trials

    def read(self, trial: Any) -> Trial:
        """Return what a trial of Ray's came to."""
        return Trial.read(trial_folder(self.out, trial.config), self.base)


def require_libraries() -> None:
    """Refuse to begin without Ray Tune and Optuna.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    for module in ("optuna", "ray", "pandas"):  # the last is a part of ray[tune]
        if find_spec(module) is None:
            raise MissingExtraError(module, "sweep")


def run_trials(sweep: Sweep, shown: Callable[[Trial], None]) -> bool:
    """Run the trials that are missing; those that were begun go on.

    Args:
        sweep: What and how.
        shown: Called with each trial that has ended.

    Returns:
        Whether all were run; false after Ctrl-C.

    Raises:
        CheckpointError: If the files of a trial are damaged.
        ConfigError: If no cluster answers, or it has no GPU for what is to use one.
    """
    known = sweep.known()
    missing = sweep.trials - sum(trial.ended for trial in known)
    if missing <= 0:
        return True
    with (
        Interruption() as interruption,
        connected(sweep.ray, sweep.at_once) as ray,
        added_to_environment(TUNE_ENVIRONMENT),
        _silent("ray"),
        _work_folder(sweep.out) as work,
    ):
        tune = import_module("ray.tune")
        gpus = int(sweep.base.run.device.startswith("cuda"))
        room = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        if gpus and not room:
            raise ConfigError(
                f"run.device is {sweep.base.run.device}, and the Ray cluster has no GPU: set it "
                f"to cpu, or use another cluster"
            )
        tuner = tune.Tuner(
            tune.with_resources(_trainable(sweep), {"cpu": 1, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                num_samples=missing,
                max_concurrent_trials=sweep.at_once or max(room, 1),
                search_alg=_searcher(sweep, known, missing, shown),
                scheduler=_scheduler(sweep, known),
                reuse_actors=True,  # a process takes seconds to import torch
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(work),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                callbacks=[_watcher(tune, sweep, shown, interruption), _wordless()],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            return False
    return True


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """Yield where Ray may write what nobody reads; what an earlier one left is removed."""
    folder = out.absolute() / WORK_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Let a library say nothing by itself: what concerns the user is said by us."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _trainable(sweep: Sweep) -> Callable[[dict[str, Any]], None]:
    """Return what runs a trial on a machine of the cluster."""
    base, out, surroundings = sweep.base, sweep.out.absolute(), Surroundings.here()

    def run_trial(parameters: dict[str, Any]) -> None:
        # How long Ray waits for this thread, once told to end, before the process's next trial.
        os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "60"
        if refusal := surroundings.enter():
            raise RuntimeError(refusal)
        run_there(base, out, parameters, import_module("ray.tune").report)

    return run_trial


def run_there(
    base: TrainConfig,
    out: Path,
    parameters: Parameters,
    tell: Callable[[dict[str, float]], None],
) -> None:
    """Run a trial, or go on with one that was begun; what is wrong with it is noted in its folder.

    Args:
        base: The configuration that it changes.
        out: Folder of the trials.
        parameters: Its values.
        tell: Told the best value so far and the step, of each checkpoint that was measured, also
            of those before: it may end this thread.

    Raises:
        RuntimeError: If something went wrong that may go well elsewhere or later.
    """
    folder, told = trial_folder(out, parameters), 0

    def report() -> None:
        nonlocal told
        for step, value in Trial.read(folder, base).history:
            if step > told:
                told = step
                tell({VALUE: value, STEP: step})

    begun = (folder / CONFIG_FILE).is_file()
    try:
        if begun:
            report()
        run = base.run.model_copy(update={"num_threads": 1})
        alone = base.model_copy(update={"run": run})
        config = changed_config(alone, assignments(parameters))
        _train_when_free(config, folder, parameters, report)
        report()
    except (OutputError, InUseError) as cause:
        raise RuntimeError(str(cause)) from cause
    except DqlError as cause:
        note_end(folder, parameters, failure=one_line(cause))


def _train_when_free(
    config: TrainConfig, folder: Path, parameters: Parameters, measured: Callable[[], None]
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        begun = (folder / CONFIG_FILE).is_file()
        files = trial_files(parameters)
        try:
            train(config, folder, resume=begun, files=files, measured=measured)
        except InUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return


class _Unkept:
    """What Ray Tune would write down as a pickle, which nobody reads: nothing of it."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()


def _searcher(
    sweep: Sweep, known: Sequence[Trial], missing: int, shown: Callable[[Trial], None]
) -> Any:
    """Return Optuna's sampler: it knows the trials that have ended, and begins with the others."""
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ended = [trial for trial in known if trial.ended]
    searcher = _proposals(sweep, {trial.folder for trial in ended}, missing, shown)(
        space=_distributions(optuna, sweep.space),
        metric=VALUE,
        mode=sweep.mode,
        points_to_evaluate=_first(sweep, known) or None,
        sampler=optuna.samplers.TPESampler(seed=sweep.seed + len(ended)),
    )
    for trial in ended:
        value = None if trial.best is None else trial.best.value
        searcher.add_evaluated_point(dict(trial.parameters), value, pruned=value is None)
    return searcher


def _proposals(
    sweep: Sweep, taken: set[Path], missing: int, shown: Callable[[Trial], None]
) -> Any:
    """Return Ray's class of Optuna's samplers, which proposes ``missing`` trials, none twice.

    What breaks a rule is noted as a trial that failed, and not run.
    """
    tune_search = import_module("ray.tune.search")
    base = import_module("ray.tune.search.optuna").OptunaSearch

    class Proposals(_Unkept, base):  # type: ignore[misc,valid-type]  # known at run time only
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._left, self._draws = missing, 0
            self._names: dict[str, str] = {}

        def suggest(self, trial_id: str) -> Any:
            repeated = 0
            while self._left and repeated < MOST_DRAWS:
                self._draws += 1
                name = f"{trial_id}.{self._draws}"
                parameters = super().suggest(name)
                folder = trial_folder(sweep.out, parameters)
                if folder in taken:
                    super().on_trial_complete(name, error=True)
                    repeated += 1
                    continue
                taken.add(folder)
                self._left -= 1
                if not (reason := invalid(sweep.base, parameters)):
                    self._names[trial_id] = name
                    return parameters
                super().on_trial_complete(name)
                note_end(folder, parameters, failure=reason)
                shown(Trial.read(folder, sweep.base))
            return tune_search.Searcher.FINISHED

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Leave out what is on the way: the best value so far is told at the end."""

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            super().on_trial_complete(self._names[trial_id], result, error)

        def save(self, checkpoint_path: str) -> None:
            """Keep nothing: nobody reads it."""

    return Proposals


def _first(sweep: Sweep, known: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return what is tried first: trials that were begun; all, of a space with no more."""
    begun = [dict(trial.parameters) for trial in known if not trial.ended]
    every = sweep.space.configurations(sweep.trials)
    if every is None:
        return begun
    folders = {trial.folder for trial in known}
    return begun + [each for each in every if trial_folder(sweep.out, each) not in folders]


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    kinds = optuna.distributions

    def of(values: Any) -> Any:
        if not isinstance(values, Range):
            return kinds.CategoricalDistribution(values)
        if values.is_integer:
            return kinds.IntDistribution(
                values.low, values.high, log=values.log, step=values.step or 1
            )
        return kinds.FloatDistribution(values.low, values.high, log=values.log, step=values.step)

    return {key: of(values) for key, values in space.keys.items()}


def _scheduler(sweep: Sweep, known: Sequence[Trial]) -> Any:
    """Return what ends trials early, by asynchronous successive halving (arXiv 1810.05934)."""
    schedulers = import_module("ray.tune.schedulers")
    if not sweep.prune:
        return schedulers.FIFOScheduler()
    steps = sweep.space.most_steps(sweep.base)
    base = schedulers.ASHAScheduler

    class Pruning(_Unkept, base):  # type: ignore[misc,valid-type]  # known at run time only
        """Notes which trials it ends."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> Any:
            action = super().on_trial_result(tune_controller, trial, result)
            is_over = result[STEP] >= steps_of(sweep.base, trial.config)
            if action == base.STOP and not is_over:
                note_end(trial_folder(sweep.out, trial.config), trial.config, pruned=True)
            return action

        def compare_with(self, trial: Trial) -> None:
            """Compare others with one that ended in an earlier process."""
            earlier = SimpleNamespace(trial_id=trial.folder.name)
            self.on_trial_add(None, earlier)
            for step, value in trial.history:
                super().on_trial_result(None, earlier, {STEP: step, VALUE: value})

    scheduler = Pruning(
        time_attr=STEP,
        metric=VALUE,
        mode=sweep.mode,
        max_t=steps,
        grace_period=max(1, round(FIRST_LOOK * steps)),
        reduction_factor=KEPT_OF,
        stop_last_trials=False,
    )
    for trial in known:
        if trial.ended:
            scheduler.compare_with(trial)
    return scheduler


def _watcher(
    tune: Any, sweep: Sweep, shown: Callable[[Trial], None], interruption: Interruption
) -> Any:
    """Return Ray's callback that shows each trial that has ended, and hears Ctrl-C."""

    class Watcher(_Unkept, tune.Callback):  # type: ignore[misc]  # known at run time only
        def on_step_end(self, iteration: int, trials: Any, **_: Any) -> None:
            if interruption.requested:
                raise KeyboardInterrupt

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            shown(sweep.read(trial))

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            folder = trial_folder(sweep.out, trial.config)
            reason = f"begun {RETRIES + 1} times, at last: {_last_words(trial)}"
            note_end(folder, trial.config, failure=reason)
            shown(Trial.read(folder, sweep.base))

    return Watcher()


def _wordless() -> Any:
    """Return what takes the place of Ray's callback that tells of trials without a result."""
    progress = import_module("ray.tune.progress_reporter")

    class Wordless(_Unkept, progress.TrialProgressCallback):  # type: ignore[misc,name-defined]
        def _print(self, msg: str) -> None:
            """Print nothing."""

    return Wordless()


def _last_words(trial: Any) -> str:
    """Return the last line of what Ray wrote down of a trial's error."""
    with suppress(OSError, TypeError):
        lines = Path(trial.error_file).read_text().strip().splitlines()
        if lines:
            return lines[-1].strip()
    return "no message"


def importance(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, float]:
    """Return how much each key matters among the trials, from 0 to 1, by PED-ANOVA.

    Watanabe, Bansal, Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces (arXiv 2304.10255).

    Args:
        sweep: Whose they are.
        trials: Those that have a value count.

    Returns:
        By key, the most important first; empty where there are too few trials to tell.
    """
    measured = [trial for trial in trials if trial.best is not None]
    if len(measured) < FEWEST_FOR_IMPORTANCE:
        return {}
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=f"{sweep.mode}imize")
    distributions = _distributions(optuna, sweep.space)
    for trial in measured:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial.parameters),
                distributions=distributions,
                value=trial.best and trial.best.value,
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # all values are alike
        return {}
    return {key: float(value) for key, value in found.items()}
