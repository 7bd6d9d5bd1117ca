"""What the command line says of a training's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dql_core.config import TrainConfig, changed_config, load_config, stated_config
from dql_core.data_config import DataConfig, InitConfig
from dql_core.errors import ConfigError
from dql_core.extras import needing

with needing("train", __name__):
    from dql_core.training.initial import config_of


@dataclass(frozen=True)
class Request:
    """What the command line says of the configuration.

    Attributes:
        config: Configuration file.
        datasets: Folders or Minari ids, instead of the file's.
        eval_env: Gymnasium id, instead of the file's.
        overrides: ``section.key=value`` each.
        init_from: Run to begin with, instead of the file's.
    """

    config: Path | None = None
    datasets: tuple[str, ...] = ()
    eval_env: str | None = None
    overrides: tuple[str, ...] = ()
    init_from: Path | None = None


def settings(request: Request) -> TrainConfig:
    """Return the configuration of a new run; without a file, what the command line states.

    Where that names a run to begin with, the rest is as it was there.

    Raises:
        CheckpointError: If there is no such run.
        ConfigError: If it is wrong, or neither a file nor a dataset is named.
    """
    if request.config is not None:
        config = load_config(request.config, request.overrides)
    elif request.init_from is not None:
        if any(each.startswith("preset=") for each in request.overrides):
            raise ConfigError(
                f"--set preset: {request.init_from} has settled its keys: set them one by one, or "
                f"give a CONFIG"
            )
        config = changed_config(_but_for_data(config_of(request.init_from)), request.overrides)
    else:
        config = stated_config(request.overrides)
    sources = [_found_again(source) for source in request.datasets or config.data.datasets]
    if request.config is None and not sources:
        raise ConfigError(
            "name a dataset: --dataset DIR; or a configuration, or a run to resume: --resume RUN"
        )
    data = config.data.model_copy(update={"dataset": _one_or_several(sources)})
    config = config.model_copy(update={"data": data})
    if begins_with := str(request.init_from or config.init.run):
        init = config.init.model_copy(update={"run": _found_again(begins_with)})
        config = config.model_copy(update={"init": init})
    if request.eval_env is None:
        return config
    evaluation = config.evaluation.model_copy(update={"env": request.eval_env})
    return config.model_copy(update={"evaluation": evaluation})


def _but_for_data(config: TrainConfig) -> TrainConfig:
    """Return the settings of another run, without what they were for.

    It may be somebody else's: its environment, which may name code, is left out as well.
    """
    usual = DataConfig()
    data = {name: getattr(usual, name) for name in ("dataset", "ratio", "weights")}
    parts = {"data": config.data.model_copy(update=data), "init": InitConfig()}
    evaluation = config.evaluation.model_copy(update={"env": ""})
    return config.model_copy(update={**parts, "evaluation": evaluation})


def _found_again(source: str) -> str:
    """Name a dataset or run so that the run finds it again from any other folder."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


def _one_or_several(sources: Sequence[str]) -> str | tuple[str, ...]:
    return tuple(sources) if len(sources) > 1 else "".join(sources)
