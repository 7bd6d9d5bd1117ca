"""LeRobot datasets for tests, written from what the format says and not by what reads it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

RATE_HZ = 20
TASK = "Push the block."


@dataclass
class Recorded:
    """Episodes of random numbers.

    Attributes:
        lengths: Frames of each episode.
        version: ``v2.0``, ``v2.1`` or ``v3.0``.
        columns: By feature, as many rows as there are frames.
        names: Of the features' numbers, as info.json has them.
        features: Further ones that are in info.json only.
        success: What the meta file of the episodes says, if anything.
        tasks: Of each episode.
    """

    lengths: Sequence[int] = (5, 3, 4)
    version: str = "v2.1"
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    success: Sequence[bool] | None = None
    tasks: Sequence[str] = ()

    def __post_init__(self) -> None:
        rng, count = np.random.default_rng(0), sum(self.lengths)
        if not self.columns:
            self.columns = {
                "observation.state": rng.normal(size=(count, 3)).astype(np.float32),
                "action": rng.uniform(-1.0, 1.0, size=(count, 2)).astype(np.float32),
            }
        self.tasks = self.tasks or [TASK] * len(self.lengths)
        steps = np.concatenate([np.arange(length) for length in self.lengths])
        self.indices = {
            "timestamp": (steps / RATE_HZ).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.repeat(np.arange(len(self.lengths)), self.lengths),
            "index": np.arange(count),
            "task_index": np.zeros(count, np.int64),
        }

    def spans(self) -> list[slice]:
        """The rows of each episode."""
        stops = np.cumsum(self.lengths).tolist()
        return [slice(stop - n, stop) for stop, n in zip(stops, self.lengths, strict=True)]

    def write(self, folder: Path) -> Path:
        """Write the dataset and return its folder."""
        (folder / "meta").mkdir(parents=True)
        (folder / "meta/info.json").write_text(json.dumps(self._info()))
        episodes = self._episodes()
        if self.version == "v3.0":
            write_table(folder / "meta/episodes/chunk-000/file-000.parquet", episodes)
            tasks = [{"task_index": 0, "__index_level_0__": TASK}]
            write_table(folder / "meta/tasks.parquet", tasks)
            # Two files, the first with all episodes but the last.
            cut = sum(self.lengths[:-1])
            self.write_data(folder / "data/chunk-000/file-000.parquet", slice(0, cut))
            self.write_data(folder / "data/chunk-000/file-001.parquet", slice(cut, None))
            return folder
        (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, episodes)) + "\n")
        task = {"task_index": 0, "task": TASK}
        (folder / "meta/tasks.jsonl").write_text(json.dumps(task) + "\n")
        for index, span in enumerate(self.spans()):
            self.write_data(folder / f"data/chunk-000/episode_{index:06d}.parquet", span)
        return folder

    def write_data(self, path: Path, rows: slice) -> None:
        """Write some rows as one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {name: arrow(each[rows]) for name, each in (self.columns | self.indices).items()}
        pa.parquet.write_table(pa.table(columns), path)

    def _info(self) -> dict[str, Any]:
        about = {
            name: {
                "dtype": str(each.dtype),
                "shape": list(each.shape[1:]) or [1],
                "names": self.names.get(name),
            }
            for name, each in (self.columns | self.indices).items()
        }
        return {
            "codebase_version": self.version,
            "robot_type": "pusher",
            "fps": RATE_HZ,
            "total_episodes": len(self.lengths),
            "total_frames": sum(self.lengths),
            "features": about | self.features,
        }

    def _episodes(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [
            {"episode_index": index, "tasks": [task], "length": length}
            for index, (length, task) in enumerate(zip(self.lengths, self.tasks, strict=True))
        ]
        for index, success in enumerate(self.success or ()):
            rows[index]["success"] = success
        return rows


def arrow(column: NDArray[Any]) -> pa.Array:
    """A column as LeRobot has it: numbers, or lists of a fixed size, or lists of lists."""
    flat = pa.array(column.reshape(-1))
    for size in reversed(column.shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
