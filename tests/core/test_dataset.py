import json
import re
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from dql_core.data.dataset import Episode, load_dataset, spec_from_spaces, write_dataset
from dql_core.errors import DatasetError
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


def make_foreign_dataset(folder: Path, episode: Episode, ends: list[bool]) -> None:
    """A Minari dataset as another program would write it: no spec in its metadata."""
    storage = MinariStorage.new(
        folder / "data",
        observation_space=gym.spaces.Box(-np.inf, np.inf, (3,)),
        action_space=gym.spaces.Box(-2.0, 2.0, (2,), dtype=np.float32),
    )
    storage.update_metadata({"dataset_id": "pendulum-v3", "minari_version": minari.__version__})
    if ends:
        storage.update_episodes(
            [
                EpisodeBuffer(
                    observations=episode.observations,
                    actions=episode.actions,
                    rewards=episode.rewards,
                    terminations=np.array(ends),
                    truncations=np.zeros(len(episode), dtype=bool),
                )
            ]
        )


def test_a_foreign_dataset_gets_a_spec_from_its_spaces(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    make_foreign_dataset(tmp_path, episodes[0], [False] * 5)
    loaded = load_dataset(tmp_path)
    assert loaded.spec.robot == "pendulum-v3"
    assert [field.name for field in loaded.spec.action] == ["action[0]", "action[1]"]
    assert (loaded.spec.action[0].low, loaded.spec.observation[2].high) == (-2.0, np.inf)
    assert loaded.episodes[0].truncated


def test_an_episode_that_goes_on_after_its_end_is_refused(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    make_foreign_dataset(tmp_path, episodes[0], [False, True, False, False, True])
    with pytest.raises(DatasetError, match="episode 0 ends at step 1 of 5"):
        load_dataset(tmp_path)


def test_a_dataset_without_episodes_is_refused(tmp_path: Path, episodes: list[Episode]) -> None:
    make_foreign_dataset(tmp_path, episodes[0], [])
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
    with pytest.raises(DatasetError, match=r"neither a folder.*did you mean 'walks'\?"):
        load_dataset(tmp_path / "wlaks")


def test_a_folder_without_a_dataset_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no Minari dataset \(no data/metadata.json\)"):
        load_dataset(tmp_path)


def test_a_damaged_file_is_one_line(tmp_path: Path, episodes: list[Episode]) -> None:
    write_dataset(tmp_path, episodes, SPEC)
    (tmp_path / "data" / "main_data.hdf5").write_bytes(b"not hdf5")
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


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (gym.spaces.Discrete(3), "the action space is Discrete"),
        (gym.spaces.Box(-1.0, 1.0, (2, 2)), "a flat Box is needed"),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), "is unbounded"),
    ],
)
def test_action_spaces_that_cannot_be_learned_are_refused(
    space: gym.Space[object], words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        spec_from_spaces(gym.spaces.Box(-1.0, 1.0, (2,)), space, "robot", "here")
