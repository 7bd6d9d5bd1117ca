"""What `dql dataset export --format lerobot` writes: as LeRobot has it, and back to the bit."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from dql_core.data import lerobot_writer
from dql_core.data.dataset import Episode, load_dataset, write_dataset
from dql_core.data.importers.importing import import_file
from dql_core.data.lerobot_writer import write_lerobot
from dql_core.data.metadata import NO_REWARDS_KEY, has_rewards
from dql_core.errors import ConfigError, DatasetError
from dql_core.spec import FieldSpec, PolicySpec

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "offline" / "lerobot_g1"
RATE_HZ = 12.5
SPEC = PolicySpec(
    robot="arm",
    rate_hz=RATE_HZ,
    observation=(FieldSpec("q.shoulder", "rad"), FieldSpec("q.elbow", "rad"), FieldSpec("x", "m")),
    action=(FieldSpec("v.shoulder", "rad/s", -1.0, 1.0, 4.0), FieldSpec("v.elbow", "", -2.0, 2.0)),
)
LENGTHS = (4, 1, 7)
# As LeRobot's `DEFAULT_FEATURES` of version 3.0.
INDICES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def made_episodes(width: int = 3, reward: type = np.float64) -> list[Episode]:
    rng = np.random.default_rng(0)
    return [
        Episode(
            observations=rng.normal(size=(length + 1, width)).astype(np.float32),
            actions=rng.uniform(-1.0, 1.0, size=(length, 2)).astype(np.float32),
            rewards=rng.normal(size=length).astype(reward),
            terminated=index == 0,
            truncated=index != 0,
        )
        for index, length in enumerate(LENGTHS)
    ]


@pytest.fixture(name="dataset")
def _dataset(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "set", made_episodes(), SPEC)
    return tmp_path / "set"


def assert_same(found: Path, expected: Path) -> None:
    """The episodes are the same to the bit."""
    one, other = load_dataset(found).episodes, load_dataset(expected).episodes
    assert len(one) == len(other) > 0
    for mine, its in zip(one, other, strict=True):
        for name in ("observations", "actions", "rewards"):
            arrays = getattr(mine, name), getattr(its, name)
            assert arrays[0].tobytes() == arrays[1].tobytes(), name
            assert arrays[0].dtype == arrays[1].dtype
        assert (mine.terminated, mine.truncated) == (its.terminated, its.truncated)


def test_what_is_written_is_read_again_to_the_bit(tmp_path: Path, dataset: Path) -> None:
    result = write_lerobot(dataset, tmp_path / "lerobot")
    assert (result.episodes, result.frames, result.rate_hz) == (3, 12, RATE_HZ)
    back = import_file(
        tmp_path / "lerobot", "lerobot", tmp_path / "back", low=[-1, -2], high=[1, 2]
    )
    assert_same(tmp_path / "back", dataset)
    assert (back.spec.robot, back.spec.rate_hz) == (SPEC.robot, SPEC.rate_hz)
    for kind in ("observation", "action"):
        mine, its = getattr(back.spec, kind), getattr(SPEC, kind)
        assert [(each.name, each.low, each.high) for each in mine] == [
            (each.name, each.low, each.high) for each in its
        ]
    assert back.notes == ("the task is: arm",)


def test_signs_of_zero_and_steps_that_are_none_are_kept(tmp_path: Path) -> None:
    episodes = made_episodes()
    episodes[2].observations[3:] = episodes[2].observations[3]
    episodes[2].observations[2, 0] = -0.0
    episodes[2].observations[-1] = 1e30  # farther than any step before
    write_dataset(tmp_path / "set", episodes, SPEC)
    write_lerobot(tmp_path / "set", tmp_path / "lerobot")
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "set")


def test_without_rewards_there_is_no_column_of_them(tmp_path: Path) -> None:
    episodes = [
        Episode(each.observations, each.actions, np.zeros(len(each)), False, True)
        for each in made_episodes()
    ]
    write_dataset(tmp_path / "set", episodes, SPEC, extra_metadata={NO_REWARDS_KEY: True})
    write_lerobot(tmp_path / "set", tmp_path / "lerobot")
    result = import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert not result.has_rewards
    assert not has_rewards(load_dataset(tmp_path / "back").metadata)
    assert_same(tmp_path / "back", tmp_path / "set")


def test_the_files_are_those_of_the_format(tmp_path: Path, dataset: Path) -> None:
    folder = tmp_path / "lerobot"
    write_lerobot(dataset, folder, task="Reach.")
    assert sorted(
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()
    ) == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
    ]
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 12, 1)
    assert info["splits"] == {"train": "0:3"}
    for name, dtype in INDICES.items():
        assert info["features"][name] == {"dtype": dtype, "shape": [1], "names": None}
    assert info["features"]["action"] == {
        "dtype": "float32",
        "shape": [2],
        "names": ["v.shoulder", "v.elbow"],
    }
    frames = pa.parquet.read_table(folder / info["data_path"].format(chunk_index=0, file_index=0))
    assert frames.column_names == list(info["features"])
    assert frames.schema.field("action").type == pa.list_(pa.field("element", pa.float32()), 2)
    assert frames["index"].to_pylist() == list(range(12))
    steps = [step for length in LENGTHS for step in range(length)]
    assert frames["frame_index"].to_pylist() == steps
    np.testing.assert_array_equal(frames["timestamp"], np.float32(np.array(steps) / RATE_HZ))
    is_last = [step == length - 1 for length in LENGTHS for step in range(length)]
    assert frames["next.done"].to_pylist() == is_last
    assert frames["next.truncated"].to_pylist() == [False] * 4 + is_last[4:]
    episodes = pa.parquet.read_table(folder / "meta/episodes/chunk-000/file-000.parquet")
    rows = episodes.to_pylist()
    assert [row["length"] for row in rows] == list(LENGTHS)
    assert [row["dataset_from_index"] for row in rows] == [0, 4, 5]
    assert [row["dataset_to_index"] for row in rows] == [4, 5, 12]
    assert all(row["tasks"] == ["Reach."] for row in rows)


def test_statistics_are_those_of_the_numbers(tmp_path: Path, dataset: Path) -> None:
    write_lerobot(dataset, tmp_path / "lerobot")
    stats = json.loads((tmp_path / "lerobot/meta/stats.json").read_text())
    episodes = made_episodes()
    actions = np.concatenate([each.actions for each in episodes]).astype(np.float64)
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(axis=0))
    np.testing.assert_allclose(stats["action"]["std"], actions.std(axis=0))
    np.testing.assert_allclose(stats["action"]["q90"], np.quantile(actions, 0.9, axis=0))
    assert stats["action"]["count"] == [12]
    assert stats["next.done"]["mean"] == [3 / 12]
    table = pa.parquet.read_table(
        tmp_path / "lerobot/meta/episodes/chunk-000/file-000.parquet",
        columns=["stats/action/min"],
    )
    expected = [each.actions.min(axis=0).astype(np.float64).tolist() for each in episodes]
    assert table["stats/action/min"].to_pylist() == expected


def test_large_sets_are_written_in_several_files(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lerobot_writer, "FILE_MB", 0)
    monkeypatch.setattr(lerobot_writer, "CHUNK_FILES", 2)
    write_lerobot(dataset, tmp_path / "lerobot")
    files = sorted((tmp_path / "lerobot/data").rglob("*.parquet"))
    assert [str(file.relative_to(tmp_path / "lerobot/data")) for file in files] == [
        "chunk-000/file-000.parquet",
        "chunk-000/file-001.parquet",
        "chunk-001/file-000.parquet",
    ]
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert_same(tmp_path / "back", dataset)


def test_what_is_not_carried_is_listed(tmp_path: Path) -> None:
    spec = PolicySpec(SPEC.robot, RATE_HZ, SPEC.observation, SPEC.action, contract_hash="ab" * 32)
    write_dataset(tmp_path / "set", made_episodes(), spec, extra_metadata={"dql_inputs": "{}"})
    assert write_lerobot(tmp_path / "set", tmp_path / "lerobot").left_out == (
        "bounds of the actions and observations: give those of the actions to dql import with "
        "--low and --high",
        "units of 4 fields",
        "the largest change in a second of 1 action field",
        "the contract abababababab: a policy trained on what is imported again does not fit it",
        "the dataset's metadata: description, dql_inputs",
    )


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_the_form_of_spaces_and_infos_are_listed(tmp_path: Path, data_format: str) -> None:
    (tmp_path / "set/data").mkdir(parents=True)
    space = gym.spaces.Dict({"place": gym.spaces.Box(-9.0, 9.0, (2, 2))})
    storage = MinariStorage.new(
        tmp_path / "set/data", space, gym.spaces.Box(-1.0, 1.0, (2,)), data_format=data_format
    )
    storage.update_metadata({"dataset_id": "walk-v0", "minari_version": minari.__version__})
    places = np.random.default_rng(0).uniform(-9, 9, size=(5, 2, 2)).astype(np.float32)
    buffer = EpisodeBuffer(
        observations={"place": places},
        actions=np.zeros((4, 2), np.float32),
        rewards=np.zeros(4),
        terminations=[False] * 4,
        truncations=[False] * 3 + [True],
        infos={"heat": np.zeros((5, 3))},
    )
    storage.update_episodes([buffer])
    result = write_lerobot(tmp_path / "set", tmp_path / "lerobot", fps=10.0)
    assert result.left_out[1:] == (
        "the form of the observations: they are rows of float32",
        "infos: heat",
    )
    low, high = [-1.0], [1.0]
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back", low=low, high=high)
    (back,) = load_dataset(tmp_path / "back").episodes
    np.testing.assert_array_equal(back.observations, places.reshape(5, 4))


def test_a_single_number_is_no_list(tmp_path: Path) -> None:
    spec = PolicySpec("one", 10.0, (FieldSpec("x"),), SPEC.action)
    write_dataset(tmp_path / "set", made_episodes(width=1), spec)
    write_lerobot(tmp_path / "set", tmp_path / "lerobot")
    schema = pa.parquet.read_schema(tmp_path / "lerobot/data/chunk-000/file-000.parquet")
    assert schema.field("observation.state").type == pa.float32()
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "set")


def test_the_rate_must_be_known_once(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"is recorded at 12\.5 Hz; leave --fps out"):
        write_lerobot(dataset, tmp_path / "lerobot", fps=10.0)
    unknown = PolicySpec("arm", 0.0, SPEC.observation, SPEC.action)
    write_dataset(tmp_path / "unknown", made_episodes(), unknown)
    with pytest.raises(ConfigError, match=r"does not say its control rate.*give --fps"):
        write_lerobot(tmp_path / "unknown", tmp_path / "lerobot")
    assert write_lerobot(tmp_path / "unknown", tmp_path / "lerobot", fps=10.0).rate_hz == 10.0


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), 1e7])
def test_a_rate_that_nobody_has_is_refused(tmp_path: Path, fps: float) -> None:
    unknown = PolicySpec("arm", 0.0, SPEC.observation, SPEC.action)
    write_dataset(tmp_path / "unknown", made_episodes(), unknown)
    with pytest.raises(ConfigError, match=r"--fps is .*; give a rate above 0, 1e\+06 at most"):
        write_lerobot(tmp_path / "unknown", tmp_path / "lerobot", fps=fps)


@pytest.mark.filterwarnings("error")
def test_statistics_that_are_none_are_said(tmp_path: Path) -> None:
    episodes = made_episodes()
    episodes[0].observations[1, 0] = np.nan
    episodes[2].rewards[1] = np.inf
    write_dataset(tmp_path / "set", episodes, SPEC)
    result = write_lerobot(tmp_path / "set", tmp_path / "lerobot")
    assert result.left_out[-1] == (
        "statistics of observation.state, next.observation.state, next.reward: there are values "
        "that are NaN or infinite"
    )
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "set")


def test_names_of_other_bytes_than_utf_8(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match="holds what is no character"):
        write_lerobot(dataset, tmp_path / "lerobot", task="\udcff")
    assert not (tmp_path / "lerobot").exists()
    write_lerobot(dataset, tmp_path / "\udcff")
    (tmp_path / "\udcff").rename(tmp_path / "lerobot")
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert_same(tmp_path / "back", dataset)


def test_a_dataset_that_is_read_stays_as_it_is(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(DatasetError, match="lies inside the dataset"):
        write_lerobot(dataset, dataset / "data/lerobot")
    assert sorted(file.name for file in (dataset / "data").iterdir()) == [
        "main_data.hdf5",
        "metadata.json",
    ]


def test_what_is_there_stays(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "lerobot").mkdir()
    (tmp_path / "lerobot/mine").write_text("mine")
    with pytest.raises(DatasetError, match="already exists; name another --out folder"):
        write_lerobot(dataset, tmp_path / "lerobot")
    assert [file.name for file in (tmp_path / "lerobot").iterdir()] == ["mine"]


@pytest.mark.realdata
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no set in ../shared/data/offline/lerobot_g1")
def test_a_real_set_comes_back_to_the_bit(tmp_path: Path) -> None:
    import_file(SAMPLE, "lerobot", tmp_path / "set")
    write_lerobot(tmp_path / "set", tmp_path / "lerobot")
    import_file(tmp_path / "lerobot", "lerobot", tmp_path / "back")
    assert_same(tmp_path / "back", tmp_path / "set")
    assert load_dataset(tmp_path / "back").spec == load_dataset(tmp_path / "set").spec


def test_lerobots_own_reader_loads_it(tmp_path: Path, dataset: Path) -> None:
    lerobot: Any = pytest.importorskip(
        "lerobot.datasets.lerobot_dataset", reason="lerobot is not installed"
    )
    folder = tmp_path / "lerobot"
    write_lerobot(dataset, folder, task="Reach.")
    loaded = lerobot.LeRobotDataset("me/set", root=folder)
    assert (len(loaded), loaded.num_episodes, loaded.fps) == (12, 3, RATE_HZ)
    frames = [loaded[index] for index in range(len(loaded))]
    for name, arrays in {
        "observation.state": [each.observations[:-1] for each in made_episodes()],
        "next.observation.state": [each.observations[1:] for each in made_episodes()],
        "action": [each.actions for each in made_episodes()],
        "next.reward": [each.rewards.astype(np.float32) for each in made_episodes()],
    }.items():
        found = np.stack([frame[name].numpy() for frame in frames])
        np.testing.assert_array_equal(found, np.concatenate(arrays))
    assert {frame["task"] for frame in frames} == {"Reach."}
    assert [bool(frame["next.done"]) for frame in frames].count(True) == 3
