"""Demonstrations of robomimic."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.data.importers.importing import ImportResult, import_file
from dql_core.errors import DatasetError

LENGTHS = {"demo_0": 4, "demo_2": 3, "demo_10": 5}
Edit = Callable[[h5py.File], None]


def demos(path: Path, *edits: Edit) -> Path:
    """Write three demonstrations, the last step of each done, with next_obs."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, length in LENGTHS.items():
            demo = file.create_group(f"data/{name}")
            demo.attrs["num_samples"] = length
            demo["actions"] = rng.uniform(-1, 1, size=(length, 2))
            demo["rewards"] = np.eye(length)[-1]
            demo["dones"] = np.eye(length, dtype=np.int64)[-1]
            demo["states"] = rng.normal(size=(length, 9))
            for part, width in (("eef_pos", 3), ("gripper", 2)):
                walk = rng.normal(size=(length + 1, width))
                demo[f"obs/{part}"], demo[f"next_obs/{part}"] = walk[:-1], walk[1:]
            demo["obs/agentview_image"] = np.zeros((length, 8, 8, 3), np.uint8)
        for edit in edits:
            edit(file)
    return path


def imported(path: Path, **options: Any) -> ImportResult:
    return import_file(path, "robomimic", path.parent / "out", **options)


def observed(path: Path, demo: str, *parts: str) -> NDArray[np.float32]:
    """All observations of a demonstration with what followed the last one."""
    with h5py.File(path, "r") as file:
        columns = [
            np.concatenate(
                [file[f"data/{demo}/obs/{part}"], file[f"data/{demo}/next_obs/{part}"][-1:]]
            )
            for part in parts
        ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def each(name: str, change: Callable[[h5py.Group], None]) -> Edit:
    def edit(file: h5py.File) -> None:
        for demo in file["data"].values():
            change(demo)

    edit.__name__ = name
    return edit


def drop(*names: str) -> Edit:
    def change(demo: h5py.Group) -> None:
        for name in names:
            del demo[name]

    return each("drop", change)


def test_demonstrations_come_by_their_number_with_all_rows_of_floats(tmp_path: Path) -> None:
    path = demos(tmp_path / "low_dim.hdf5")
    result = imported(path)
    assert [len(episode) for episode in result.episodes] == [4, 3, 5]
    for episode, name in zip(result.episodes, LENGTHS, strict=True):
        np.testing.assert_array_equal(
            episode.observations, observed(path, name, "eef_pos", "gripper")
        )
        assert episode.terminated
        assert episode.rewards.tolist() == [0.0] * (len(episode) - 1) + [1.0]
    assert result.spec.robot == "low_dim"
    assert [field.name for field in result.spec.observation][2:4] == [
        "observation.eef_pos[2]",
        "observation.gripper[0]",
    ]
    assert "all 3 demonstrations end with a done: terminated" in result.notes[0]
    assert result.notes[1] == "left out of 'obs': agentview_image"


def test_what_is_observed_can_be_chosen(tmp_path: Path) -> None:
    path = demos(tmp_path / "set.hdf5")
    result = imported(path, observations=["gripper"])
    np.testing.assert_array_equal(
        result.episodes[0].observations, observed(path, "demo_0", "gripper")
    )
    with pytest.raises(DatasetError, match=r"holds no 'obs/griper' \(did you mean 'gripper'\?\)"):
        import_file(path, "robomimic", tmp_path / "no", observations=["griper"])


def test_without_a_done_a_demonstration_is_truncated(tmp_path: Path) -> None:
    def not_done(file: h5py.File) -> None:
        file["data/demo_2/dones"][:] = 0

    path = demos(tmp_path / "set.hdf5", not_done)
    result = imported(path)
    assert [episode.terminated for episode in result.episodes] == [True, False, True]
    assert [len(episode) for episode in result.episodes] == [4, 3, 5]
    path = demos(tmp_path / "less.hdf5", not_done, drop("next_obs"))
    result = import_file(path, "robomimic", tmp_path / "less")
    assert [len(episode) for episode in result.episodes] == [4, 2, 5]


@pytest.mark.parametrize("demo", ["demo_0", "demo_2"])
def test_what_followed_in_some_demonstrations_only_is_not_used(tmp_path: Path, demo: str) -> None:
    def edit(file: h5py.File) -> None:
        del file[f"data/{demo}/next_obs"]
        file["data/demo_10/dones"][:] = 0

    result = imported(demos(tmp_path / "set.hdf5", edit))
    assert [len(episode) for episode in result.episodes] == [4, 3, 4]
    assert result.notes[0] == (
        "1 demonstration of 3 without next_obs: those of the others are not used"
    )


def test_after_the_first_done_nothing_counts(tmp_path: Path) -> None:
    def early(file: h5py.File) -> None:
        file["data/demo_10/dones"][2] = 1

    result = imported(demos(tmp_path / "set.hdf5", early))
    assert [len(episode) for episode in result.episodes] == [4, 3, 3]
    assert "2 of 12 rows are left out: they go on after their episode had" in result.notes[2]


def test_a_time_limit_makes_truncations_of_dones(tmp_path: Path) -> None:
    result = imported(demos(tmp_path / "set.hdf5"), time_limit=5)
    assert [episode.terminated for episode in result.episodes] == [True, True, False]
    assert [len(episode) for episode in result.episodes] == [4, 3, 5]


def rename(file: h5py.File) -> None:
    file.move("data", "demos")


def shorter(file: h5py.File) -> None:
    del file["data/demo_2/rewards"]
    file["data/demo_2/rewards"] = np.zeros(2)


def wider(name: str) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[f"data/demo_2/{name}"]
        file[f"data/demo_2/{name}"] = np.zeros((3, 7))

    return edit


def in_two(name: str) -> Edit:
    def change(demo: h5py.Group) -> None:
        count = len(demo["actions"])
        del demo[name]
        demo[name] = np.zeros((count, 2))

    return each("in_two", change)


def wide_next(demo: h5py.Group) -> None:
    demo.move("next_obs/gripper", "other")
    demo["next_obs/gripper"] = np.zeros((len(demo["actions"]), 7))


def linked(file: h5py.File) -> None:
    del file["data/demo_2"]
    file["data/demo_2"] = h5py.ExternalLink("other.hdf5", "/data/demo_0")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (rename, "holds no 'data/demo_0'; is --format right"),
        (drop("obs"), "'data/demo_0/obs' is missing: the file has states only"),
        (drop("obs/eef_pos", "obs/gripper"), "'obs' has no rows of floats, but agentview_image"),
        (drop("dones"), "'data/demo_0/dones' is missing"),
        (shorter, "'demo_2/rewards' has 2 rows where 3 are needed"),
        (linked, "is a link, which can lead anywhere"),
        (wider("actions"), r"'demo_2/actions' has rows of shape \(7,\), and 'demo_0/actions' of"),
        (wider("obs/gripper"), r"'demo_2/obs/gripper' has rows of shape \(7,\), and"),
        (in_two("rewards"), "'rewards' has 2 numbers in each row, and one is needed"),
        (in_two("dones"), "'dones' has 2 numbers in each row, and one is needed"),
        (each("wide_next", wide_next), r"'next_obs' has the shape \(12, 10\), and as flat rows"),
    ],
)
def test_what_is_of_another_kind_is_refused(tmp_path: Path, edit: Edit, words: str) -> None:
    with pytest.raises(DatasetError, match=words) as caught:
        imported(demos(tmp_path / "set.hdf5", edit))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
