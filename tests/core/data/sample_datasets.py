"""The datasets in ../shared/data/offline, how each is imported, and what becomes of it.

`tests.ros.bag.sample_bags` writes their table under that of the bags.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dql_core.data.importers.formats import FileFormat
from dql_core.data.importers.importing import import_file
from dql_core.errors import DqlError

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "offline"
INTRODUCTION = """
## Other people's datasets

Likewise those in `../shared/data/offline` (`tests/core/data/sample_datasets.py`), by `dql import`.
A note is what the command says of the data; that bounds are the extremes of the data, as without
`--low`, `--high` and `--env`, is left out here.

"""


@dataclass(frozen=True)
class SampleDataset:
    """One dataset.

    Attributes:
        name: Its path in the folder.
        kind: What it is a sample of.
        file_format: As of `dql import`.
        options: As of `import_file`.
    """

    name: str
    kind: str
    file_format: FileFormat
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def typed(self) -> str:
        """The options as they are typed."""
        words = [f"--format {self.file_format}"]
        for key, value in self.options.items():
            text = ",".join(value) if isinstance(value, list) else value
            words.append(f"--{key.replace('_id', '').replace('_', '-')} {text}")
        return f"`{' '.join(words)}`"


SAMPLES = (
    SampleDataset("lerobot_g1", "LeRobot v2.1: a Unitree G1 with hands, videos away", "lerobot"),
    SampleDataset("pusht_human.zarr.zip", "Diffusion Policy: people push a T", "zarr"),
    SampleDataset(
        "pusht_human.zarr.zip",
        "the same, with the block's corners",
        "zarr",
        {"observations": ["state", "keypoint"]},
    ),
    SampleDataset(
        "pendulum_random_v1.1.0.h5",
        "d3rlpy 1.x: random actions",
        "d3rlpy",
        {"env_id": "Pendulum-v1"},
    ),
    SampleDataset(
        "pendulum_final.npz",
        "imitation: an expert, whose time limits are called terminal",
        "npz",
        {"time_limit": 200, "env_id": "Pendulum-v1"},
    ),
    SampleDataset("cartpole_final.npz", "imitation: discrete actions", "npz"),
)


def table() -> str:
    """Import all datasets and describe the results."""
    head = "| dataset | what it is | options | result | notes |\n| --- | --- | --- | --- | --- |\n"
    return f"{INTRODUCTION}{head}{''.join(map(_row, SAMPLES))}"


def _row(sample: SampleDataset) -> str:
    result, notes = _outcome(sample)
    cells = (f"`{sample.name}`", sample.kind, sample.typed, result, notes)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _outcome(sample: SampleDataset) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = import_file(
                FOLDER / sample.name, sample.file_format, Path(folder) / "out", **sample.options
            )
        except DqlError as error:
            return f"refused: {error}".replace(f"{FOLDER}/", ""), ""
    terminated = sum(episode.terminated for episode in found.episodes)
    result = (
        f"{len(found.episodes)} episodes ({terminated} terminated), "
        f"{sum(map(len, found.episodes))} transitions, {len(found.spec.observation)} observed and "
        f"{len(found.spec.action)} commanded numbers"
    )
    return result, "; ".join(note for note in found.notes if "extremes of the data" not in note)
