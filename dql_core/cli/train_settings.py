"""From what `dql train` is asked for to the configuration that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dql_core.config import TrainConfig
from dql_core.config_file import load_config
from dql_core.errors import ConfigError
from dql_core.training.saved_config import require_equal, saved_config
from dql_core.training.seed_folder import parse_seeds, read_seed_folder


@dataclass(frozen=True)
class Request:
    """What the command line says of the configuration.

    Attributes:
        config: Configuration file.
        dataset: Folder or Minari id, instead of the file's.
        eval_env: Gymnasium id, instead of the file's.
        overrides: ``section.key=value`` each.
    """

    config: Path | None
    dataset: str | None
    eval_env: str | None
    overrides: tuple[str, ...]


def settings(request: Request) -> TrainConfig:
    """Return the configuration of a new run.

    Raises:
        ConfigError: If none is named or it is wrong.
    """
    if request.config is None:
        raise ConfigError("name a configuration, or a run to go on with: --resume RUN")
    config = load_config(request.config, request.overrides)
    source = request.dataset or config.data.dataset
    if Path(source).is_dir():
        # The run must find its data again from any other folder.
        source = str(Path(source).resolve()) if source else ""
    env = config.evaluation.env if request.eval_env is None else request.eval_env
    changes = {
        "data": config.data.model_copy(update={"dataset": source}),
        "evaluation": config.evaluation.model_copy(update={"env": env}),
    }
    return config.model_copy(update=changes)


def continued_settings(run: Path, request: Request) -> TrainConfig:
    """Return the configuration of a run that goes on.

    Raises:
        CheckpointError: If ``run`` is no run.
        ConfigError: If the command line says anything else than it said when the run began.
    """
    return _unchanged(run, saved_config(run), request)


def continued_seeds(
    folder: Path, request: Request, seeds: str | None
) -> tuple[TrainConfig, tuple[int, ...]]:
    """Return configuration and seeds of several runs that go on.

    Raises:
        CheckpointError: If ``folder`` does not hold several runs.
        ConfigError: If the command line says anything else than it said when they began.
    """
    began, began_seeds = read_seed_folder(folder)
    if seeds is not None and parse_seeds(seeds) != began_seeds:
        said = ",".join(map(str, began_seeds))
        raise ConfigError(f"{folder}: began with --seeds {said} and cannot go on with {seeds}")
    return _unchanged(folder, began, request), began_seeds


def _unchanged(folder: Path, began: TrainConfig, request: Request) -> TrainConfig:
    env = began.evaluation.env
    if request.config is not None:
        require_equal(folder, began, settings(request))
    elif request not in (Request(None, None, None, ()), Request(None, None, env, ())):
        raise ConfigError(
            "--resume goes on as the run began; leave --dataset, --eval-env and --set away, or "
            "name its CONFIG as well"
        )
    elif ":" in env and request.eval_env is None:
        # A run may be somebody else's, and only what the user says may name code.
        raise ConfigError(
            f"{folder}: was begun with the environment '{env}', for which the module "
            f"'{env.partition(':')[0]}' would be imported; if you trust it, say so again: "
            f"--eval-env {env}"
        )
    return began
