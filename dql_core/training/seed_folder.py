"""The folder of several runs that differ by their seeds only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dql_core.atomic import write_text
from dql_core.config import TrainConfig
from dql_core.documents import file_within, read_json
from dql_core.errors import CheckpointError, ConfigError
from dql_core.strict_yaml import parse
from dql_core.training.run_folder import require_free
from dql_core.training.saved_config import CONFIG_FILE
from dql_core.training.seed_child import SeedRun

SEEDS_FILE = "seeds.json"
SUMMARY_FILE = "summary.json"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds from the command line, such as ``0,1,2``.

    Raises:
        ConfigError: If one is no number, or is there twice.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text}: must be different numbers of at least 0, as in 0,1,2")
    return seeds


def create_seed_folder(folder: Path, config: TrainConfig, seeds: Sequence[int]) -> None:
    """Make ``folder`` and note in it what is to be run there.

    Raises:
        ConfigError: If it already holds something.
    """
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"seeds": list(seeds), "config": config.model_dump(mode="json")}
    write_text(folder / SEEDS_FILE, json.dumps(document, indent=2) + "\n")


def is_seed_folder(folder: Path) -> bool:
    """Return whether ``folder`` holds several runs instead of one."""
    return (folder / SEEDS_FILE).is_file()


def read_seed_folder(folder: Path) -> tuple[TrainConfig, tuple[int, ...]]:
    """Return what `create_seed_folder` noted.

    Raises:
        CheckpointError: If that is damaged.
    """
    path = folder / SEEDS_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: does not hold runs of several seeds (no {SEEDS_FILE})")
    document = read_json(file_within(folder, SEEDS_FILE, CheckpointError), CheckpointError)
    seeds, config = document.get("seeds"), document.get("config")
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise CheckpointError(f"{path}: damaged: 'seeds' is {seeds!r:.80}")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: damaged: 'config' is {config!r:.80}")
    return parse(config, TrainConfig, str(path), CheckpointError), tuple(seeds)


def seed_runs(folder: Path, config: TrainConfig, seeds: Sequence[int]) -> list[SeedRun]:
    """Return the runs of ``folder``, each on one thread; those that were begun go on.

    Raises:
        CheckpointError: If one is a link to somewhere else.
    """
    runs = []
    for seed in seeds:
        out = folder / f"seed-{seed}"
        own = config.run.model_copy(update={"seed": seed, "num_threads": 1})
        if out.is_symlink():
            raise CheckpointError(f"{out}: is a link; put the folder of the run in its place")
        begun = (out / CONFIG_FILE).is_file()
        runs.append(SeedRun(config.model_copy(update={"run": own}), out, resume=begun))
    return runs
