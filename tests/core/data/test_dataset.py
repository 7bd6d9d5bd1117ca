import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pyarrow.parquet
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from dql_core.data.dataset import Episode, load_dataset, load_datasets, write_dataset
from dql_core.data.importers.importing import import_file
from dql_core.errors import ConfigError, DatasetError, SpecMismatchError
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="two wheels/one arm",
    rate_hz=20.0,
    observation=(FieldSpec("x", "m"), FieldSpec("y", "m", -1.0, 1.0), FieldSpec("z")),
    action=(FieldSpec("vx", "m/s", -0.3, 0.7), FieldSpec("vy", "m/s", -2.0, 2.0)),
    contract_hash="abc",
)


def make_episode(rng: np.random.Generator, length: int, terminated: bool = False) -> Episode:
    return Episode(
        observations=rng.normal(size=(length + 1, 3)).astype(np.float32),
        actions=rng.uniform(-0.3, 0.7, size=(length, 2)).astype(np.float32),
        rewards=rng.normal(size=length),
        terminated=terminated,
        truncated=not terminated,
    )


@pytest.fixture
def episodes() -> list[Episode]:
    rng = np.random.default_rng(0)
    return [make_episode(rng, 5, terminated=True), make_episode(rng, 1), make_episode(rng, 9)]


def test_what_is_written_is_read_back_by_value(tmp_path: Path, episodes: list[Episode]) -> None:
    write_dataset(tmp_path / "set", episodes, SPEC, extra_metadata={"inputs": {"a.mcap": "00"}})
    loaded = load_dataset(tmp_path / "set")
    assert loaded.spec == SPEC
    assert loaded.metadata["inputs"] == {"a.mcap": "00"}
    assert loaded.num_transitions == 15
    for before, after in zip(episodes, loaded.episodes, strict=True):
        np.testing.assert_array_equal(before.observations, after.observations)
        np.testing.assert_array_equal(before.actions, after.actions)
        np.testing.assert_array_equal(before.rewards, after.rewards)
        assert (before.terminated, before.truncated) == (after.terminated, after.truncated)
        assert after.observations.dtype == after.actions.dtype == np.float32


def sourced(low: float, path: str = "x", contract: str = "abc") -> PolicySpec:
    """A spec as a contract gives it, with a lower bound for the first action."""
    (vx, vy), source = SPEC.action, {"topic": "/cmd", "path": path}
    return replace(
        SPEC,
        observation=tuple(replace(field, source=source) for field in SPEC.observation),
        action=(replace(vx, low=low, source=source), replace(vy, source=source)),
        contract_hash=contract,
    )


def test_datasets_whose_contracts_differ_in_limits_are_joined(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    write_dataset(tmp_path / "a", episodes[:1], sourced(-0.3))
    write_dataset(tmp_path / "b", episodes[1:], sourced(-0.5, contract="def"))
    joined = load_datasets([tmp_path / "a", tmp_path / "b"])
    assert [len(episode) for episode in joined.episodes] == [5, 1, 9]
    np.testing.assert_array_equal(joined.episodes[1].actions, episodes[1].actions)
    assert joined.spec == sourced(-0.5)
    assert load_datasets([tmp_path / "a"]).spec == sourced(-0.3)


def test_datasets_whose_fields_mean_different_things_are_not_joined(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    write_dataset(tmp_path / "a", episodes, sourced(-0.3))
    write_dataset(tmp_path / "b", episodes, sourced(-0.3, path="y", contract="def"))
    with pytest.raises(
        SpecMismatchError,
        match=r"dataset .*a and dataset .*b do not .*observation field 0 \('x'\) path is 'x' in "
        r"the former and 'y' in the latter; .*convert both with one contract",
    ):
        load_datasets([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(DatasetError, match=r"named twice"):
        load_datasets([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def test_minari_itself_opens_the_data_folder(tmp_path: Path, episodes: list[Episode]) -> None:
    write_dataset(tmp_path, episodes, SPEC, description="Three short walks.")
    dataset = minari.MinariDataset(tmp_path / "data")
    assert dataset.total_episodes == 3
    assert dataset.total_steps == 15
    assert dataset[0].terminations.tolist() == [False] * 4 + [True]
    np.testing.assert_array_equal(dataset.action_space.low, SPEC.action_low)


def test_a_path_may_be_relative(
    tmp_path: Path, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("runs") / "set", episodes, SPEC)
    assert load_dataset("runs/set").num_transitions == 15
    assert load_dataset(tmp_path / "runs" / "set").num_transitions == 15


def test_the_data_folder_itself_and_its_parent_are_both_accepted(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    write_dataset(tmp_path, episodes, SPEC)
    assert len(load_dataset(tmp_path).episodes) == len(load_dataset(tmp_path / "data").episodes)


def test_a_local_minari_id_is_accepted(
    tmp_path: Path, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_dataset(tmp_path / "walks" / "short-v0", episodes, SPEC)
    assert load_dataset("walks/short-v0").num_transitions == 15


STATE = gym.spaces.Box(-np.inf, np.inf, (3,))

COMMAND = gym.spaces.Box(-2.0, 2.0, (2,), dtype=np.float32)


def make_foreign_dataset(
    folder: Path,
    buffers: Sequence[EpisodeBuffer],
    data_format: str = "hdf5",
    observation_space: gym.Space[Any] = STATE,
    action_space: gym.Space[Any] = COMMAND,
) -> None:
    """A Minari dataset as another program would write it: no spec in its metadata."""
    (folder / "data").mkdir()
    storage = MinariStorage.new(
        folder / "data", observation_space, action_space, data_format=data_format
    )
    storage.update_metadata({"dataset_id": "pendulum-v3", "minari_version": minari.__version__})
    if buffers:
        storage.update_episodes(buffers)


def foreign(episode: Episode, ends: list[bool]) -> EpisodeBuffer:
    return EpisodeBuffer(
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=np.array(ends),
        truncations=np.zeros(len(episode), dtype=bool),
    )


FORMATS = pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])


@FORMATS
def test_a_foreign_dataset_gets_a_spec_from_its_spaces(
    tmp_path: Path, episodes: list[Episode], data_format: str
) -> None:
    ends = [False] * 5
    buffers = [foreign(episodes[0], [*ends[1:], True]), foreign(episodes[0], ends)]
    make_foreign_dataset(tmp_path, buffers, data_format)
    loaded = load_dataset(tmp_path)
    assert loaded.spec.robot == "pendulum-v3"
    assert [field.name for field in loaded.spec.action] == ["action[0]", "action[1]"]
    assert (loaded.spec.action[0].low, loaded.spec.observation[2].high) == (-2.0, np.inf)
    assert [(episode.terminated, episode.truncated) for episode in loaded.episodes] == [
        (True, False),
        (False, True),
    ]
    for episode in loaded.episodes:
        np.testing.assert_array_equal(episode.observations, episodes[0].observations)
        np.testing.assert_array_equal(episode.actions, episodes[0].actions)
        np.testing.assert_array_equal(episode.rewards, episodes[0].rewards)
        assert episode.observations.dtype == episode.actions.dtype == np.float32


@FORMATS
def test_nested_spaces_are_flattened_in_the_order_of_their_fields(
    tmp_path: Path, data_format: str
) -> None:
    space = gym.spaces.Dict(
        speed=gym.spaces.Box(-9.0, 9.0, (2,), dtype=np.float64),
        pose=gym.spaces.Tuple((gym.spaces.Box(-1.0, 1.0, (2, 2)), gym.spaces.Box(0.0, 5.0, (1,)))),
    )
    buffer = EpisodeBuffer(
        observations={
            "speed": np.array([[1.0, 2.0], [3.0, 4.0]]),
            "pose": (
                np.array([[[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6], [0.7, 0.8]]], "f4"),
                np.array([[5.0], [4.0]], "f4"),
            ),
        },
        actions=np.array([[[0.5], [-0.5]]], "f4"),
        rewards=[1.0],
        terminations=[False],
        truncations=[True],
    )
    make_foreign_dataset(tmp_path, [buffer], data_format, space, gym.spaces.Box(-1.0, 1.0, (2, 1)))
    loaded = load_dataset(tmp_path)
    fields = dict(
        zip(
            [field.name for field in loaded.spec.observation],
            loaded.episodes[0].observations[0].tolist(),
            strict=True,
        )
    )
    assert fields == pytest.approx(
        {
            "observation.pose.0[0,0]": 0.1,
            "observation.pose.0[0,1]": 0.2,
            "observation.pose.0[1,0]": 0.3,
            "observation.pose.0[1,1]": 0.4,
            "observation.pose.1[0]": 5.0,
            "observation.speed[0]": 1.0,
            "observation.speed[1]": 2.0,
        }
    )
    assert loaded.episodes[0].observations[1, 4:].tolist() == [4.0, 3.0, 4.0]
    assert [field.name for field in loaded.spec.action] == ["action[0,0]", "action[1,0]"]
    assert loaded.episodes[0].actions.tolist() == [[0.5, -0.5]]


@FORMATS
def test_a_long_episode_is_read_to_its_end(tmp_path: Path, data_format: str) -> None:
    length = 70_000
    rows = np.arange(length + 1, dtype=np.float32)
    long = Episode(rows[:, None], rows[:-1, None], rows[:-1], False, True)
    space = gym.spaces.Box(0.0, length, (1,))
    make_foreign_dataset(tmp_path, [foreign(long, [False] * length)], data_format, space, space)
    (episode,) = load_dataset(tmp_path).episodes
    np.testing.assert_array_equal(episode.observations[:, 0], rows)
    np.testing.assert_array_equal(episode.actions[:, 0], rows[:-1])


def emptied(folder: Path, index: int, data_format: str) -> None:
    """Take the steps of an episode of five away, as of one that was reset and never stepped."""
    metadata = folder / "data" / "metadata.json"
    document = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(document | {"total_steps": document["total_steps"] - 5}))
    if data_format == "hdf5":
        with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
            group = file[f"episode_{index}"]
            for name in ("actions", "rewards", "terminations", "truncations"):
                group[name].resize(0, axis=0)
            group["observations"].resize(1, axis=0)
        return
    (path,) = (folder / "data" / str(index)).glob("*.parquet")
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path)[:1], path)


WRITABLE = pytest.mark.parametrize("data_format", ["hdf5", "parquet"])


@WRITABLE
def test_an_episode_without_a_step_is_left_out_and_told(
    tmp_path: Path, episodes: list[Episode], data_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_foreign_dataset(tmp_path, [foreign(episodes[0], [False] * 5)] * 3, data_format)
    for index in (0, 2):
        emptied(tmp_path, index, data_format)
    (episode,) = load_dataset(tmp_path).episodes
    np.testing.assert_array_equal(episode.observations, episodes[0].observations)
    assert caplog.messages == [f"{tmp_path}: 2 of 3 episodes are empty: left out"]


@WRITABLE
def test_a_dataset_of_nothing_but_empty_episodes_is_one_line(
    tmp_path: Path, episodes: list[Episode], data_format: str
) -> None:
    make_foreign_dataset(tmp_path, [foreign(episodes[0], [False] * 5)], data_format)
    emptied(tmp_path, 0, data_format)
    with pytest.raises(DatasetError, match="episode 0 is empty; it needs at least one transition"):
        load_dataset(tmp_path)


@FORMATS
def test_actions_without_bounds_are_given_some_by_an_import(
    tmp_path: Path, episodes: list[Episode], data_format: str
) -> None:
    free = gym.spaces.Box(-np.inf, np.inf, (2,))
    (tmp_path / "free").mkdir()
    ended = foreign(episodes[0], [False] * 4 + [True])
    make_foreign_dataset(tmp_path / "free", [ended], data_format, action_space=free)
    words = r"is unbounded or empty; .*dql import \S+free --format minari --low X --high X --out"
    with pytest.raises(DatasetError, match=words):
        load_dataset(tmp_path / "free")
    options: dict[str, Any] = {"low": [-1.0], "high": [1.0, 2.0]}
    import_file(tmp_path / "free", "minari", tmp_path / "bounded", **options)
    loaded = load_dataset(tmp_path / "bounded")
    assert loaded.spec.robot == "pendulum-v3"
    assert loaded.spec.action_high.tolist() == [1.0, 2.0]
    assert [field.name for field in loaded.spec.observation] == [
        f"observation[{index}]" for index in range(3)
    ]
    assert (loaded.episodes[0].terminated, loaded.episodes[0].truncated) == (True, False)
    np.testing.assert_array_equal(loaded.episodes[0].actions, episodes[0].actions)
    np.testing.assert_array_equal(loaded.episodes[0].observations, episodes[0].observations)
    with pytest.raises(DatasetError, match="lies inside the dataset"):
        import_file(tmp_path / "free", "minari", tmp_path / "free/data/x", **options)
    measured = import_file(tmp_path / "free", "minari", tmp_path / "measured")
    assert measured.spec.action_high.tolist() == episodes[0].actions.max(axis=0).tolist()


def test_the_bounds_of_a_contract_are_changed_there(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    write_dataset(tmp_path / "ours", episodes, SPEC)
    with pytest.raises(DatasetError, match="was converted with a contract; change the bounds"):
        import_file(tmp_path / "ours", "minari", tmp_path / "out")
    with pytest.raises(ConfigError, match="leave --time-limit out"):
        import_file(tmp_path / "ours", "minari", tmp_path / "out", time_limit=5)


def test_a_dataset_with_discrete_actions_is_refused(tmp_path: Path) -> None:
    make_foreign_dataset(tmp_path, [], action_space=gym.spaces.Discrete(4))
    with pytest.raises(DatasetError, match=r"the action space is Discrete\(4\)"):
        load_dataset(tmp_path)


def test_fewer_transitions_than_the_metadata_tells_of_are_refused(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    write_dataset(tmp_path, episodes, SPEC)
    path = tmp_path / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_steps": 16}))
    with pytest.raises(DatasetError, match="15 transitions were read and its metadata says 16"):
        load_dataset(tmp_path)


def test_an_episode_that_goes_on_after_its_end_is_refused(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    make_foreign_dataset(tmp_path, [foreign(episodes[0], [False, True, False, False, True])])
    with pytest.raises(DatasetError, match="episode 0 ends at step 1 of 5"):
        load_dataset(tmp_path)


def test_a_dataset_without_episodes_is_refused(tmp_path: Path) -> None:
    make_foreign_dataset(tmp_path, [])
    with pytest.raises(DatasetError, match="holds no episode"):
        load_dataset(tmp_path)


def test_an_episode_without_a_flag_at_its_end_was_truncated(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    bare = Episode(**{**vars(episodes[1]), "truncated": False})
    write_dataset(tmp_path, [bare], SPEC)
    assert load_dataset(tmp_path).episodes[0].truncated


def test_an_existing_dataset_is_not_overwritten(tmp_path: Path, episodes: list[Episode]) -> None:
    write_dataset(tmp_path, episodes, SPEC)
    with pytest.raises(DatasetError, match=r"data: already exists; name another --out folder"):
        write_dataset(tmp_path, episodes, SPEC)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, episodes: list[Episode]) -> None:
    with pytest.raises(TypeError):
        write_dataset(tmp_path, episodes, SPEC, extra_metadata={"no json": object()})
    assert list(tmp_path.iterdir()) == []


def test_shapes_that_disagree_with_the_spec_are_refused(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    wrong = Episode(**{**vars(episodes[0]), "actions": episodes[0].actions[:, :1]})
    with pytest.raises(DatasetError, match=r"actions of episode 0 have shape \(5, 1\).*\(5, 2\)"):
        write_dataset(tmp_path, [wrong], SPEC)
    with pytest.raises(DatasetError, match="no episode to write"):
        write_dataset(tmp_path, [], SPEC)


def test_a_missing_folder_names_the_nearest(tmp_path: Path, episodes: list[Episode]) -> None:
    write_dataset(tmp_path / "walks", episodes, SPEC)
    with pytest.raises(DatasetError, match=r"neither a folder.*did you mean '.*/walks'\?"):
        load_dataset(tmp_path / "wlaks")


def test_a_missing_folder_names_datasets_alone(tmp_path: Path, episodes: list[Episode]) -> None:
    for name in ("walks", ".runs.partial-1"):
        write_dataset(tmp_path / name, episodes, SPEC)
    (tmp_path / "bags").mkdir()
    with pytest.raises(DatasetError, match=r"Minari id \(known: walks\)$"):
        load_dataset(tmp_path / "nothing")


def test_a_folder_without_a_dataset_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no Minari dataset \(no data/metadata.json\)"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("data_format", "file"), [("hdf5", "main_data.hdf5"), ("arrow", "0/part-0.arrow")]
)
def test_a_damaged_file_is_one_line(
    tmp_path: Path, episodes: list[Episode], data_format: str, file: str
) -> None:
    make_foreign_dataset(tmp_path, [foreign(episodes[0], [False] * 5)], data_format)
    (tmp_path / "data" / file).write_bytes(b"not a dataset")
    with pytest.raises(DatasetError, match="not a readable Minari dataset") as caught:
        load_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_foreign_version_of_the_metadata_is_refused(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    write_dataset(tmp_path, episodes, SPEC)
    path = tmp_path / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"minari_version": "9.9.9"}))
    with pytest.raises(DatasetError, match=re.escape("9.9.9")):
        load_dataset(tmp_path)
