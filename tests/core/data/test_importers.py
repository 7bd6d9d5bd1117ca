import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.data.checks import require_finite
from dql_core.data.dataset import load_dataset
from dql_core.data.importers.formats import FileFormat
from dql_core.data.importers.importing import ImportResult, import_file
from dql_core.errors import ConfigError, DatasetError

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT.parent / "shared" / "data" / "offline"
realdata = [
    pytest.mark.realdata,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="no files in ../shared/data/offline"),
]
Transition = tuple[NDArray[Any], NDArray[Any], float, NDArray[Any] | None]


def recorded(count: int, terminals: list[int], ends: list[int]) -> dict[str, NDArray[Any]]:
    """``count`` random steps, flagged in the rows given."""
    rng = np.random.default_rng(0)
    flags = np.zeros((2, count), dtype=bool)
    flags[0, terminals], flags[1, ends] = True, True
    return {
        "observations": rng.normal(size=(count, 3)).astype(np.float32),
        "actions": rng.uniform(-1.0, 1.0, size=(count, 2)).astype(np.float32),
        "rewards": rng.normal(size=count).astype(np.float32),
        "terminals": flags[0],
        "ends": flags[1],
    }


def write_hdf5(path: Path, arrays: Mapping[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def d3rlpy_file(folder: Path, rows: dict[str, NDArray[Any]], **more: Any) -> Path:
    arrays: dict[str, Any] = {"discrete_action": False, "version": "1.0"} | rows | more
    arrays["episode_terminals"] = arrays.pop("ends") | arrays["terminals"]
    return write_hdf5(folder / "set.h5", arrays)


def d4rl_file(folder: Path, rows: dict[str, NDArray[Any]], **more: Any) -> Path:
    arrays = rows | more
    arrays["timeouts"] = arrays.pop("ends")
    arrays["infos/qpos"] = np.zeros((len(arrays["actions"]), 4))
    arrays["metadata/algorithm"] = "SAC"
    return write_hdf5(folder / "set.hdf5", arrays)


def npz_file(folder: Path, lengths: list[int], terminal: list[bool], **more: Any) -> Path:
    rng = np.random.default_rng(0)
    total = sum(lengths)
    arrays: dict[str, Any] = {
        "obs": rng.normal(size=(total + len(lengths), 3)).astype(np.float32),
        "acts": rng.uniform(-1, 1, size=(total, 2)).astype(np.float32),
        "rews": rng.normal(size=total),
        "indices": np.cumsum(lengths)[:-1],
        "terminal": np.array(terminal),
        "infos": np.array([{}] * total),
    }
    arrays |= more
    path = folder / "set.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def imported(path: Path, file_format: FileFormat, out: Path, **options: Any) -> ImportResult:
    return import_file(path, file_format, out / "out", **options)


def transitions(folder: Path) -> list[Transition]:
    """Every (observation, action, reward, next observation or None) of a written dataset."""
    found: list[Transition] = []
    for episode in load_dataset(folder / "out").episodes:
        for step in range(len(episode)):
            ended = episode.terminated and step == len(episode) - 1
            following = None if ended else episode.observations[step + 1]
            reward = float(episode.rewards[step])
            found.append((episode.observations[step], episode.actions[step], reward, following))
    return found


def assert_equal(found: list[Transition], expected: list[Transition]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for mine, its in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, its)


def as_d3rlpy_has_them(rows: dict[str, NDArray[Any]]) -> Iterator[Transition]:
    """The transitions of d3rlpy 1.x, written anew from what it documents."""
    episode: list[int] = []
    for row in range(len(rows["actions"])):
        episode.append(row)
        if rows["terminals"][row] or rows["ends"][row]:
            for step in episode:
                last = step == episode[-1]
                if last and not rows["terminals"][step]:
                    continue
                following = None if last else rows["observations"][step + 1]
                yield (
                    rows["observations"][step],
                    rows["actions"][step],
                    float(rows["rewards"][step]),
                    following,
                )
            episode = []


def as_d4rl_has_them(rows: dict[str, NDArray[Any]]) -> Iterator[Transition]:
    """The transitions of `d4rl.qlearning_dataset`, without its next state after the end.

    It leaves out where an episode timed out, also where `next_observations` know what followed.
    """
    for row in range(len(rows["actions"]) - 1):
        if rows["ends"][row] and "next_observations" not in rows:
            continue
        following = rows.get("next_observations", rows["observations"][1:])[row]
        yield (
            rows["observations"][row],
            rows["actions"][row],
            float(rows["rewards"][row]),
            None if rows["terminals"][row] else following,
        )


ROWS = recorded(14, terminals=[3, 13], ends=[8, 9])


def test_d3rlpys_transitions_are_those_of_d3rlpy(tmp_path: Path) -> None:
    result = imported(d3rlpy_file(tmp_path, ROWS), "d3rlpy", tmp_path)
    assert_equal(transitions(tmp_path), list(as_d3rlpy_has_them(ROWS)))
    assert [len(episode) for episode in result.episodes] == [4, 4, 4]
    assert [episode.terminated for episode in result.episodes] == [True, False, True]
    assert "2 of 14 rows make no transition" in result.notes[0]
    assert "1 episodes of a single such row" in result.notes[1]


def test_without_flags_for_episodes_those_for_terminations_end_them(tmp_path: Path) -> None:
    path = d3rlpy_file(tmp_path, ROWS)
    with h5py.File(path, "a") as file:
        del file["episode_terminals"]
    result = imported(path, "d3rlpy", tmp_path)
    rows = ROWS | {"ends": np.zeros(14, dtype=bool)}
    assert_equal(transitions(tmp_path), list(as_d3rlpy_has_them(rows)))
    assert "the file has no 'episode_terminals', so that only terminations" in result.notes[0]


def test_d4rls_transitions_are_those_of_d4rl(tmp_path: Path) -> None:
    rows = recorded(15, terminals=[3, 12], ends=[8, 9])
    result = imported(d4rl_file(tmp_path, rows), "d4rl", tmp_path)
    assert_equal(transitions(tmp_path), list(as_d4rl_has_them(rows)))
    assert [episode.terminated for episode in result.episodes] == [True, False, True, False]


def test_d4rls_next_observations_are_kept_where_the_next_row_does_not_hold_them(
    tmp_path: Path,
) -> None:
    rows = recorded(15, terminals=[3, 14], ends=[8])
    following = np.roll(rows["observations"], -1, axis=0)
    following[[3, 6, 8, 14]] += 1.0  # an end, a jump of the recording, an end, an end
    rows["next_observations"] = following
    result = imported(d4rl_file(tmp_path, rows), "d4rl", tmp_path)
    assert result.notes[0].startswith("1 time the next row does not hold what is said to have")
    last = (rows["observations"][14], rows["actions"][14], float(rows["rewards"][14]), None)
    # qlearning_dataset never looks at the last row, although it is a termination here.
    assert_equal(transitions(tmp_path), [*as_d4rl_has_them(rows), last])
    ends = [episode.observations[-1] for episode in load_dataset(tmp_path / "out").episodes]
    np.testing.assert_array_equal(ends, following[[3, 6, 8, 14]])


def rollouts(resets: float, *, moved: bool) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Three episodes of 20 steps of a random walk, and what followed their last actions.

    Args:
        resets: How far each episode starts from where the one before ended.
        moved: `next_observations` are the observations moved by a row, not what followed.
    """
    rng = np.random.default_rng(3)
    rows = recorded(60, terminals=[], ends=[19, 39, 59])
    start, observations, following = np.zeros(3), [], []
    for _ in range(3):
        walk = start + np.cumsum(rng.normal(size=(21, 3)), axis=0)
        observations.append(walk[:-1])
        following.append(walk[1:])
        start = walk[-1] + resets
    rows["observations"] = np.concatenate(observations).astype(np.float32)
    rows["next_observations"] = np.concatenate(following).astype(np.float32)
    last = rows["next_observations"][[19, 39, 59]]
    if moved:
        rows["next_observations"][:-1] = rows["observations"][1:]
    return rows, last


@pytest.mark.parametrize("resets", [0.0, 50.0])
@pytest.mark.parametrize("limit", [None, 20])
def test_a_time_limit_costs_no_transition_where_what_followed_is_known(
    tmp_path: Path, resets: float, limit: int | None
) -> None:
    rows, last = rollouts(resets, moved=False)
    path = d4rl_file(tmp_path, rows)
    if limit:
        with h5py.File(path, "a") as file:
            del file["timeouts"]
    result = imported(path, "d4rl", tmp_path, time_limit=limit)
    assert [len(episode) for episode in result.episodes] == [20, 20, 20]
    assert [episode.truncated for episode in result.episodes] == [True] * 3
    np.testing.assert_array_equal([episode.observations[-1] for episode in result.episodes], last)
    assert not any("no transition" in note for note in result.notes)


def test_the_next_episodes_start_is_not_taken_for_what_followed(tmp_path: Path) -> None:
    rows, _ = rollouts(50.0, moved=True)
    result = imported(d4rl_file(tmp_path, rows), "d4rl", tmp_path)
    assert [len(episode) for episode in result.episodes] == [19, 19, 19]
    assert "3 of 60 rows make no transition" in result.notes[0]


@pytest.mark.parametrize("is_d4rl", [True, False])
def test_a_file_without_any_end_is_one_episode_and_says_so(tmp_path: Path, is_d4rl: bool) -> None:
    rows = recorded(12, terminals=[], ends=[])
    file_format: FileFormat = "d4rl" if is_d4rl else "d3rlpy"
    path = (d4rl_file if is_d4rl else d3rlpy_file)(tmp_path, rows)
    result = imported(path, file_format, tmp_path / "one")
    name = "timeouts" if is_d4rl else "episode_terminals"
    assert [len(episode) for episode in result.episodes] == [11]
    assert result.notes[0] == (
        f"no row is marked as an end ('terminals', '{name}'): all 12 rows are one episode; if "
        f"they are several, give --time-limit"
    )
    result = imported(path, file_format, tmp_path / "several", time_limit=4)
    assert [len(episode) for episode in result.episodes] == [3, 3, 3]


def test_an_episode_without_an_action_is_left_out_and_counted(tmp_path: Path) -> None:
    path = npz_file(tmp_path, [4, 0, 5], [True, False, True])
    result = imported(path, "npz", tmp_path)
    arrays = np.load(path)
    assert [len(episode) for episode in result.episodes] == [4, 5]
    np.testing.assert_array_equal(result.episodes[1].observations, arrays["obs"][6:])
    assert result.notes[0] == "1 episodes without an action are left out"


def expert_file(folder: Path, lengths: list[int], **more: Any) -> Path:
    """A file as `generate_expert_traj` of Stable Baselines writes it."""
    rng, count = np.random.default_rng(0), sum(lengths)
    arrays: dict[str, Any] = {
        "obs": rng.normal(size=(count, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(count, 2)).astype(np.float32),
        "rewards": rng.normal(size=count),
        "episode_starts": np.isin(np.arange(count), np.cumsum([0, *lengths])),
        "episode_returns": np.zeros(len(lengths)),
    }
    np.savez(folder / "expert.npz", **(arrays | more))
    return folder / "expert.npz"


def test_an_expert_file_of_stable_baselines_is_cut_where_episodes_start(tmp_path: Path) -> None:
    path = expert_file(tmp_path, [5, 3, 2])
    result = imported(path, "npz", tmp_path)
    arrays, first = np.load(path), 0
    for episode, length in zip(result.episodes, [5, 3, 2], strict=True):
        rows = slice(first, first + length)
        np.testing.assert_array_equal(episode.observations, arrays["obs"][rows])
        np.testing.assert_array_equal(episode.actions, arrays["actions"][rows][:-1])
        np.testing.assert_array_equal(episode.rewards, arrays["rewards"][rows][:-1])
        assert episode.truncated
        first += length
    assert "nothing says how an episode ended: all are truncated" in result.notes[0]
    assert "3 of 10 rows make no transition" in result.notes[1]


def test_a_time_limit_says_which_experts_terminated(tmp_path: Path) -> None:
    path = expert_file(tmp_path, [5, 3, 5, 2])
    result = imported(path, "npz", tmp_path, time_limit=5)
    assert [episode.terminated for episode in result.episodes] == [False, True, False, False]
    assert [len(episode) for episode in result.episodes] == [4, 3, 4, 1]
    assert result.notes[0].startswith("1 of 4 episodes are shorter than 5 steps: terminated")
    with pytest.raises(DatasetError, match="has 5 steps, and --time-limit is 4"):
        imported(path, "npz", tmp_path / "no", time_limit=4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"actions": np.arange(10)}, r"the action space is Discrete\(10\)"),
        ({"obs": np.array(["a.png"] * 10)}, "'obs' is not an array of numbers"),
        ({"rewards": np.zeros(9)}, "'rewards' has 9 rows where 10 are needed"),
        ({"episode_starts": np.full(10, 2)}, "'episode_starts' has a 2 where only 0 and 1"),
    ],
)
def test_an_expert_file_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        imported(expert_file(tmp_path, [5, 3, 2], **change), "npz", tmp_path)


def test_a_d4rl_file_without_timeouts_needs_the_time_limit(tmp_path: Path) -> None:
    rows = recorded(12, terminals=[9], ends=[])
    path = d4rl_file(tmp_path, rows)
    with h5py.File(path, "a") as file:
        del file["timeouts"]
    with pytest.raises(DatasetError, match=r"holds no 'timeouts'.*give --time-limit"):
        imported(path, "d4rl", tmp_path)
    result = imported(path, "d4rl", tmp_path, time_limit=4)
    # Rows 0-3, 4-7, 8-9 (terminated) and 10-11.
    assert [len(episode) for episode in result.episodes] == [3, 3, 2, 1]
    assert [episode.terminated for episode in result.episodes] == [False, False, True, False]


def test_imitations_trajectories_keep_their_last_observation(tmp_path: Path) -> None:
    path = npz_file(tmp_path, [4, 2, 5], [True, False, True])
    imported(path, "npz", tmp_path)
    arrays = np.load(path)
    episodes = load_dataset(tmp_path / "out").episodes
    first = 0
    for index, (episode, length) in enumerate(zip(episodes, [4, 2, 5], strict=True)):
        rows = slice(first + index, first + index + length + 1)
        np.testing.assert_array_equal(episode.observations, arrays["obs"][rows])
        np.testing.assert_array_equal(episode.actions, arrays["acts"][first : first + length])
        np.testing.assert_array_equal(episode.rewards, arrays["rews"][first : first + length])
        first += length
    assert [episode.terminated for episode in episodes] == [True, False, True]


def test_a_termination_at_the_time_limit_is_a_truncation(tmp_path: Path) -> None:
    path = npz_file(tmp_path, [4, 2, 4], [True, True, True])
    result = imported(path, "npz", tmp_path, time_limit=4)
    assert [episode.terminated for episode in result.episodes] == [False, True, False]
    assert result.notes[0] == "2 terminations after 4 steps are time limits: truncated"
    rows = recorded(7, terminals=[3, 6], ends=[])
    flat = imported(d3rlpy_file(tmp_path, rows), "d3rlpy", tmp_path / "flat", time_limit=4)
    assert [len(episode) for episode in flat.episodes] == [3, 3]
    assert [episode.terminated for episode in flat.episodes] == [False, True]


def test_equal_episodes_that_all_terminate_look_like_a_time_limit(tmp_path: Path) -> None:
    path = npz_file(tmp_path, [4, 4], [True, True])
    result = imported(path, "npz", tmp_path)
    assert "all 2 episodes terminate after 4 steps: if that is a time limit" in result.notes[0]


@pytest.mark.parametrize("file_format", ["npz", "d3rlpy"])
def test_an_episode_longer_than_the_time_limit_is_refused(
    tmp_path: Path, file_format: FileFormat
) -> None:
    path = (
        npz_file(tmp_path, [3, 5], [True, True])
        if file_format == "npz"
        else d3rlpy_file(tmp_path, recorded(8, terminals=[], ends=[2, 7]))
    )
    limit = 4
    with pytest.raises(DatasetError, match="has 5 steps, and --time-limit is 4"):
        imported(path, file_format, tmp_path, time_limit=limit)


def test_a_file_without_rewards_can_be_imitated(tmp_path: Path) -> None:
    result = imported(npz_file(tmp_path, [3], [False], rews=None), "npz", tmp_path)
    assert "holds no rewards" in result.notes[0]
    assert not result.episodes[0].rewards.any()


def test_what_float32_blurs_is_said_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = recorded(40, [39], [])
    east = 500_000.0 + 0.002 * np.arange(40)  # metres, as of a receiver of positions
    rows["observations"] = np.stack([east, east - 500_000.0, east], axis=1)
    imported(d3rlpy_file(tmp_path, rows), "d3rlpy", tmp_path / "d")
    (record,) = [each for each in caplog.records if "float32" in each.message]
    assert "'observations', number 0: float32 blurs it: at 500000.078 its" in record.message
    assert record.message.endswith("as by subtracting 500000; likewise 1 more number")
    caplog.clear()
    rows["observations"] -= 500_000.0 * np.array([1.0, 0.0, 1.0])
    imported(d3rlpy_file(tmp_path, rows), "d3rlpy", tmp_path / "again")
    assert not [each for each in caplog.records if "float32" in each.message]


def test_where_it_came_from_is_kept(tmp_path: Path) -> None:
    imported(d3rlpy_file(tmp_path, ROWS), "d3rlpy", tmp_path)
    metadata = load_dataset(tmp_path / "out").metadata
    assert metadata["dql_inputs"].startswith('{"set.h5": "')
    assert "2 of 14 rows" in metadata["dql_import_notes"]


def test_bounds_are_the_extremes_of_the_data_unless_they_are_given(tmp_path: Path) -> None:
    path = d3rlpy_file(tmp_path, ROWS)
    measured = imported(path, "d3rlpy", tmp_path / "a")
    assert "the action bounds are the extremes of the data" in measured.notes[-1]
    actions = np.concatenate([episode.actions for episode in measured.episodes])
    np.testing.assert_array_equal(measured.spec.action_high, actions.max(axis=0))
    given = imported(path, "d3rlpy", tmp_path / "b", low=[-1.0], high=[1.0, 2.0])
    assert given.spec.action_low.tolist() == [-1.0, -1.0]
    assert given.spec.action_high.tolist() == [1.0, 2.0]
    assert len(given.notes) == len(measured.notes) - 1


def test_an_environment_gives_its_spaces(tmp_path: Path) -> None:
    rows = ROWS | {"actions": ROWS["actions"][:, :1]}
    spec = imported(d3rlpy_file(tmp_path, rows), "d3rlpy", tmp_path, env_id="Pendulum-v1").spec
    assert spec.robot == "Pendulum-v1"
    assert (spec.action[0].low, spec.action[0].high) == (-2.0, 2.0)
    assert spec.observation[2].high == 8.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": [-1.0]}, "--low and --high bound the actions together"),
        ({"low": [-1.0] * 3, "high": [1.0]}, "--low has 3 numbers and an action has 2"),
        ({"env_id": "Pendulum-v1", "low": [0.0]}, "leave --low and --high out"),
        ({"env_id": "Pendulum-v1"}, "3 observation and 2 action fields, and 'Pendulum-v1' has 3"),
        ({"env_id": "Nothing-v7"}, "environment 'Nothing-v7' cannot be made"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        imported(d3rlpy_file(tmp_path, ROWS), "d3rlpy", tmp_path, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["set.pkl", "set.npz", "set.h5"])
@pytest.mark.parametrize("file_format", ["npz", "d3rlpy", "d4rl"])
def test_a_pickle_is_refused_whatever_its_name_is(
    tmp_path: Path, name: str, file_format: FileFormat
) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps([{"observations": 1}]))
    with pytest.raises(DatasetError, match=r"is a pickle, and opening one runs whatever code"):
        imported(path, file_format, tmp_path)


@pytest.mark.parametrize("file_format", ["npz", "d3rlpy", "d4rl", "robomimic", "zarr"])
def test_a_pointer_of_git_lfs_is_called_by_its_name(
    tmp_path: Path, file_format: FileFormat
) -> None:
    (tmp_path / "set").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DatasetError, match=r"set: is a pointer of Git LFS.*'git lfs pull'"):
        imported(tmp_path / "set", file_format, tmp_path)


def test_a_needed_array_of_objects_is_refused(tmp_path: Path) -> None:
    objects = np.array([[1.0], "two"], dtype=object)
    with pytest.raises(DatasetError, match=r"'obs' cannot be read as numbers .* is a pickle"):
        imported(npz_file(tmp_path, [3], [True], obs=objects), "npz", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"actions": np.arange(14)}, r"the action space is Discrete\(14\); a Box is needed"),
        ({"discrete_action": True, "actions": np.ones((14, 1))}, r"space is Discrete\(2\)"),
        ({"actions": np.ones((14, 2), int)}, r"the action space is MultiDiscrete\(\[2 2\]\)"),
        (
            {"observations": np.zeros((14, 3, 8, 8), np.uint8)},
            r"'observation' is Box\(0, 255, \(3, 8, 8\), uint8\)",
        ),
        ({"rewards": np.zeros(13)}, "'rewards' has 13 rows where 14 are needed"),
        ({"rewards": "none"}, "'rewards' is not an array of numbers"),
        ({"timeouts": np.zeros(14)}, "is a file of D4RL; give --format d4rl"),
    ],
)
def test_a_d3rlpy_file_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        imported(d3rlpy_file(tmp_path, ROWS, **change), "d3rlpy", tmp_path)


def test_a_file_of_another_kind_says_so(tmp_path: Path) -> None:
    path = d3rlpy_file(tmp_path, ROWS)
    with pytest.raises(DatasetError, match="is a file of d3rlpy; give --format d3rlpy"):
        imported(path, "d4rl", tmp_path)
    with pytest.raises(DatasetError, match=r"not a readable \.npz file"):
        imported(path, "npz", tmp_path)
    npz = npz_file(tmp_path, [3], [True], acts=None)
    with pytest.raises(DatasetError, match=r"holds no 'acts' \(known: .*is --format right"):
        imported(npz, "npz", tmp_path)
    with pytest.raises(DatasetError, match="not a readable HDF5 file"):
        imported(npz, "d4rl", tmp_path)
    with pytest.raises(DatasetError, match="no such file"):
        imported(tmp_path / "gone.npz", "npz", tmp_path)


def test_a_file_of_d3rlpy_0_is_refused_for_its_shifted_rewards(tmp_path: Path) -> None:
    path = d3rlpy_file(tmp_path, ROWS)
    with h5py.File(path, "a") as file:
        del file["version"]
    with pytest.raises(DatasetError, match=r"d3rlpy before 1\.0, where a reward belongs to"):
        imported(path, "d3rlpy", tmp_path)


def test_a_file_without_a_transition_is_refused(tmp_path: Path) -> None:
    path = d3rlpy_file(tmp_path, recorded(3, terminals=[], ends=[0, 1, 2]))
    with pytest.raises(DatasetError, match="holds no transition"):
        imported(path, "d3rlpy", tmp_path)


@pytest.mark.parametrize(
    ("name", "file_format", "options", "episodes", "truncated", "mean_return"),
    [
        # The file's own mean return, -1223.6, counts the last step of each episode, too.
        pytest.param(
            "pendulum_random_v1.1.0.h5", "d3rlpy", {}, 500, 500, -1217.55, marks=realdata
        ),
        pytest.param("pendulum_final.npz", "npz", {}, 56, 0, -189.4, marks=realdata),
        pytest.param(
            "pendulum_final.npz", "npz", {"time_limit": 200}, 56, 56, -189.4, marks=realdata
        ),
    ],
)
def test_other_peoples_files_come_out_as_they_describe_them(
    tmp_path: Path,
    name: str,
    file_format: FileFormat,
    options: dict[str, Any],
    episodes: int,
    truncated: int,
    mean_return: float,
) -> None:
    imported(SAMPLES / name, file_format, tmp_path, env_id="Pendulum-v1", **options)
    dataset = load_dataset(tmp_path / "out")
    require_finite(dataset)
    assert len(dataset.episodes) == episodes
    assert sum(episode.truncated for episode in dataset.episodes) == truncated
    returns = [episode.rewards.sum() for episode in dataset.episodes]
    assert np.mean(returns) == pytest.approx(mean_return, abs=0.05)
    for episode in dataset.episodes[::50]:
        # Pendulum's own reward: what an action earned belongs to the state before it.
        cosine, sine, speed = episode.observations[:-1].T
        cost = np.arctan2(sine, cosine) ** 2 + 0.1 * speed**2 + 0.001 * episode.actions[:, 0] ** 2
        np.testing.assert_allclose(episode.rewards, -cost, atol=1e-4)


@pytest.mark.realdata
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no files in ../shared/data/offline")
def test_other_peoples_discrete_actions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the action space is Discrete\(2\); a Box is needed"):
        imported(SAMPLES / "cartpole_final.npz", "npz", tmp_path, time_limit=200)
