"""Datasets of LeRobot, as its versions and as people have them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from dql_core.data.dataset import load_dataset
from dql_core.data.importers.importing import ImportResult, import_file
from dql_core.errors import ConfigError, DatasetError
from tests.core.data.lerobot_folder import TASK, Recorded, arrow, write_table

SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "offline" / "lerobot_g1"
VERSIONS = ("v2.0", "v2.1", "v3.0")


def imported(folder: Path, **options: Any) -> ImportResult:
    return import_file(folder, "lerobot", folder.parent / "out", **options)


def flagged(lengths: tuple[int, ...], rows: list[int]) -> np.ndarray[Any, Any]:
    flags = np.zeros(sum(lengths), dtype=bool)
    flags[rows] = True
    return flags


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_become_transitions_but_for_the_last_of_an_episode(
    tmp_path: Path, version: str
) -> None:
    recorded = Recorded(version=version)
    result = imported(recorded.write(tmp_path / "set"))
    for episode, span in zip(result.episodes, recorded.spans(), strict=True):
        states, actions = (recorded.columns[name][span] for name in recorded.columns)
        np.testing.assert_array_equal(episode.observations, states)
        np.testing.assert_array_equal(episode.actions, actions[:-1])
        assert (episode.terminated, episode.truncated) == (False, True)
        assert not episode.rewards.any()
    assert not result.has_rewards
    assert result.notes[:4] == (
        f"the task is: {TASK}",
        "nothing says whether an episode succeeded or how it ended: all are truncated",
        "there are no rewards ('next.reward'): all are 0, for agent: diffusion_bc",
        "3 of 12 rows make no transition: each is the last one of an episode without a "
        "termination, and what followed it is not in the file",
    )
    assert (result.spec.robot, result.spec.rate_hz) == ("pusher", 20.0)
    stored = load_dataset(tmp_path / "out")
    assert stored.num_transitions == 9
    hashes = json.loads(stored.metadata["dql_inputs"])
    assert "meta/info.json" in hashes
    assert sum(name.startswith("data/chunk-000/") for name in hashes) == (
        2 if version == "v3.0" else 3
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        ([["a", "b", "c"]], ["a", "b", "c"]),
        ({"motors": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"b": 1, "a": 0, "c": 2}, ["a", "b", "c"]),
        (None, ["observation[0]", "observation[1]", "observation[2]"]),
        (["a", "b"], ["observation[0]", "observation[1]", "observation[2]"]),
        (["a", "a", "b"], ["observation[0]", "observation[1]", "observation[2]"]),
    ],
)
def test_names_are_found_however_they_are_nested(
    tmp_path: Path, names: Any, expected: list[str]
) -> None:
    folder = Recorded(names={"observation.state": names}).write(tmp_path / "set")
    assert [field.name for field in imported(folder).spec.observation] == expected


def test_what_followed_is_kept_where_it_is_told(tmp_path: Path) -> None:
    recorded = Recorded()
    following = np.roll(recorded.columns["observation.state"], -1, axis=0)
    following[[4, 7, 11]] = 50.0
    recorded.columns["next.observation.state"] = following
    result = imported(recorded.write(tmp_path / "set"))
    assert [len(episode) for episode in result.episodes] == [5, 3, 4]
    for episode in result.episodes:
        assert (episode.observations[-1] == 50.0).all()


@pytest.mark.parametrize("name", ["next.success", "success", "is_episode_successful"])
def test_a_success_ends_the_task_and_is_the_reward(tmp_path: Path, name: str) -> None:
    recorded = Recorded()
    # The first episode succeeds for a while, but not at its end.
    recorded.columns[name] = flagged((5, 3, 4), [2, 7])
    result = imported(recorded.write(tmp_path / "set"))
    assert [episode.terminated for episode in result.episodes] == [False, True, False]
    assert [len(episode) for episode in result.episodes] == [4, 3, 3]
    assert [episode.rewards.sum() for episode in result.episodes] == [0, 1, 0]
    assert result.has_rewards
    assert "1 episode of 3 succeeded in the last frame: terminated" in result.notes[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_success_of_whole_episodes_counts_too(tmp_path: Path, version: str) -> None:
    folder = Recorded(version=version, success=(True, False, True)).write(tmp_path / "set")
    result = imported(folder)
    assert [episode.terminated for episode in result.episodes] == [True, False, True]
    assert [episode.rewards[-1] for episode in result.episodes] == [1, 0, 1]


def test_rewards_are_what_is_recorded(tmp_path: Path) -> None:
    recorded = Recorded()
    rewards = np.random.default_rng(1).normal(size=12).astype(np.float32)
    recorded.columns |= {"next.reward": rewards, "next.done": flagged((5, 3, 4), [4])}
    result = imported(recorded.write(tmp_path / "set"))
    assert [episode.terminated for episode in result.episodes] == [True, False, False]
    for episode, span in zip(result.episodes, recorded.spans(), strict=True):
        np.testing.assert_array_equal(episode.rewards, rewards[span][: len(episode)])


def test_done_everywhere_says_nothing_of_terminations(tmp_path: Path) -> None:
    recorded = Recorded()
    recorded.columns["next.done"] = flagged((5, 3, 4), [4, 7, 11])
    result = imported(recorded.write(tmp_path / "set"))
    assert not any(episode.terminated for episode in result.episodes)
    assert "every episode ends with 'next.done', which does not say" in result.notes[1]
    recorded.columns["next.truncated"] = flagged((5, 3, 4), [7])
    result = import_file(recorded.write(tmp_path / "told"), "lerobot", tmp_path / "two")
    assert [episode.terminated for episode in result.episodes] == [True, False, True]


def test_what_goes_on_after_a_termination_is_left_out(tmp_path: Path) -> None:
    recorded = Recorded()
    recorded.columns["next.done"] = flagged((5, 3, 4), [2, 3, 4])
    result = imported(recorded.write(tmp_path / "set"))
    assert [len(episode) for episode in result.episodes] == [3, 2, 3]
    assert any(note.startswith("2 of 12 rows are left out: they go on") for note in result.notes)


def test_videos_are_left_out_and_counted(tmp_path: Path) -> None:
    camera = {"dtype": "video", "shape": [8, 8, 3], "names": None}
    folder = Recorded(features={"observation.images.top": camera}).write(tmp_path / "set")
    videos = folder / "videos/chunk-000/observation.images.top"
    videos.mkdir(parents=True)
    for index in range(3):
        (videos / f"episode_{index:06d}.mp4").write_bytes(b"x")
    assert imported(folder).notes[0] == (
        "left out: 1 camera (observation.images.top; 3 video files here), since observations are "
        "numbers"
    )


def test_names_as_openpi_has_them_and_numbers_in_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "state": rng.normal(size=(12, 2, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=12).astype(np.float32),
    }
    result = imported(Recorded(columns=columns).write(tmp_path / "set"))
    np.testing.assert_array_equal(
        result.episodes[0].observations, columns["state"][:5].reshape(5, 4)
    )
    np.testing.assert_array_equal(result.episodes[0].actions[:, 0], columns["actions"][:4])


def test_features_can_be_chosen(tmp_path: Path) -> None:
    recorded = Recorded()
    force = np.arange(24, dtype=np.float64).reshape(12, 2)
    recorded.columns["observation.force"] = force
    folder = recorded.write(tmp_path / "set")
    result = imported(folder)
    assert "left out: observation.force [2]; --observations names the" in result.notes[0]
    assert len(result.spec.observation) == 3
    both = import_file(
        folder,
        "lerobot",
        tmp_path / "both",
        observations=["observation.force", "observation.state"],
    )
    np.testing.assert_array_equal(both.episodes[0].observations[:, :2], force[:5])
    assert [field.name for field in both.spec.observation][1:3] == [
        "observation.force[1]",
        "observation.state[0]",
    ]
    with pytest.raises(DatasetError, match=r"no feature 'force' \(known: action, "):
        import_file(folder, "lerobot", tmp_path / "none", observations=["force"])
    with pytest.raises(ConfigError, match="force: names one twice"):
        import_file(folder, "lerobot", tmp_path / "none", observations=["force"] * 2)
    with pytest.raises(ConfigError, match="--observations does not go with --format d4rl"):
        import_file(folder, "d4rl", tmp_path / "none", observations=["force"])


def test_a_file_an_episode_needs_no_indices(tmp_path: Path) -> None:
    recorded = Recorded()
    del recorded.indices["episode_index"], recorded.indices["frame_index"]
    folder = recorded.write(tmp_path / "set")
    result = imported(folder)
    assert [len(episode) for episode in result.episodes] == [4, 2, 3]


def test_frames_are_put_in_order_wherever_they_lie(tmp_path: Path) -> None:
    recorded = Recorded()
    order = np.random.default_rng(2).permutation(12)
    folder = recorded.write(tmp_path / "set")
    shutil.rmtree(folder / "data")
    expected = recorded.columns["observation.state"]
    recorded.columns = {name: each[order] for name, each in recorded.columns.items()}
    recorded.indices = {name: each[order] for name, each in recorded.indices.items()}
    recorded.write_data(folder / "data/chunk-000/b.parquet", slice(0, 5))
    recorded.write_data(folder / "data/chunk-007/a.parquet", slice(5, None))
    result = imported(folder)
    for episode, span in zip(result.episodes, recorded.spans(), strict=True):
        np.testing.assert_array_equal(episode.observations, expected[span])


def test_several_tasks_are_said(tmp_path: Path) -> None:
    folder = Recorded(tasks=["push", "pull", "push"]).write(tmp_path / "set")
    assert imported(folder).notes[0] == (
        "the episodes are of 2 tasks, which an observation does not tell: push (2), pull (1)"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_tasks_are_found_by_their_number(tmp_path: Path, version: str) -> None:
    folder = Recorded(version=version).write(tmp_path / "set")
    rows = [{"episode_index": index, "length": n} for index, n in enumerate((5, 3, 4))]
    if version == "v3.0":
        write_table(folder / "meta/episodes/chunk-000/file-000.parquet", rows)
    else:
        (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert imported(folder).notes[0] == f"the task is: {TASK}"


def test_stamps_off_the_rate_are_said(tmp_path: Path) -> None:
    recorded = Recorded()
    recorded.indices["timestamp"][2:5] += 0.1
    notes = imported(recorded.write(tmp_path / "set")).notes
    assert notes[1] == (
        "1 frame of 9 come more than 5% off the rate of 20 Hz: each is taken as one step"
    )


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize(
    ("content", "words"),
    [(LFS, "is a pointer of Git LFS.*git lfs pull"), ("", "is empty; download the dataset again")],
)
def test_what_was_not_downloaded_is_refused(
    tmp_path: Path, version: str, content: str, words: str
) -> None:
    sound = Recorded(version=version).write(tmp_path / "sound")
    files = [path.relative_to(sound) for path in sorted(sound.rglob("*")) if path.is_file()]
    for name in files:
        if "tasks" in name.name:  # read only where the episodes do not name theirs
            continue
        folder = tmp_path / "set"
        shutil.copytree(sound, folder)
        (folder / name).write_text(content)
        with pytest.raises(DatasetError, match=f"{name.name}: {words}") as caught:
            imported(folder)
        assert "\n" not in str(caught.value)
        shutil.rmtree(folder)
    assert not (tmp_path / "out").exists()


def without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def changed(**keys: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "meta/info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))

    return change


def doubled(folder: Path) -> None:
    file = folder / "data/chunk-000/episode_000001.parquet"
    table = pa.parquet.read_table(file)
    pa.parquet.write_table(table.append_column("action", table["action"]), file)


def linked(folder: Path) -> None:
    file = folder / "data/chunk-000/episode_000001.parquet"
    file.rename(folder.parent / "elsewhere.parquet")
    file.symlink_to(folder.parent / "elsewhere.parquet")


def rewritten(**columns: Any) -> Any:
    def rewrite(folder: Path) -> None:
        file = folder / "data/chunk-000/episode_000001.parquet"
        table = pa.parquet.read_table(file)
        for name, column in columns.items():
            table = table.drop_columns([name])
            if column is not None:
                table = table.append_column(name, column)
        pa.parquet.write_table(table, file)

    return rewrite


STATES = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("meta/info.json"), "meta/info.json: no such file"),
        (without("meta/episodes.jsonl"), "meta/episodes.jsonl: no such file"),
        (
            without("data/chunk-000/episode_000002.parquet"),
            "episode 2 has 0 frames in 'data' and 4",
        ),
        (changed(codebase_version="v1.6"), r"version 'v1\.6' .*v2\.0, v2\.1 and v3\.0 are read"),
        (changed(fps=0), "'fps' is 0, not a rate above 0"),
        (changed(fps="30"), "'fps' is '30', not a rate"),
        (changed(features={}), "'features' is missing or empty"),
        (
            changed(features={"action": {"dtype": "float32"}}),
            "'action' has no 'dtype' and 'shape'",
        ),
        (
            changed(features={"action": {"dtype": "float32", "shape": [2]}}),
            "has no feature 'observation.state'.*--observations",
        ),
        (linked, "is a link; only regular files"),
        (doubled, "it has the column 'action' twice"),
        (rewritten(action=None), "a file has no column 'action'"),
        (rewritten(action=arrow(STATES)), "'action' has 12 numbers in 3 frames, and"),
        (rewritten(action=pa.array([[1.0, 2.0], [1.0], [2.0]])), "'action' is not as long in"),
        (rewritten(action=pa.array([[1.0, 2.0], None, [1.0, 2.0]])), "'action' has 1 empty rows"),
        (rewritten(action=pa.array([["a", "b"]] * 3)), "'action' is of string, not of numbers"),
        (
            rewritten(frame_index=pa.array([0, 1, 1])),
            "episode 1 goes on after its frame 1 with fr",
        ),
        (
            rewritten(frame_index=pa.array([0, 1, 3])),
            "episode 1 goes on after its frame 1 with fr",
        ),
        (rewritten(episode_index=pa.array([1, 1, 7])), "episode 1 has 2 frames in 'data' and 3"),
    ],
)
def test_what_is_damaged_or_of_another_kind_is_refused(
    tmp_path: Path, change: Any, words: str
) -> None:
    folder = Recorded().write(tmp_path / "set")
    change(folder)
    with pytest.raises(DatasetError, match=words) as caught:
        imported(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["next.reward", "next.done", "next.success"])
def test_two_numbers_a_frame_are_no_reward_and_no_flag(tmp_path: Path, name: str) -> None:
    recorded = Recorded()
    recorded.columns[name] = np.ones((12, 2), np.float32)
    with pytest.raises(DatasetError, match=f"'{name}' has 2 numbers a frame, and one is"):
        imported(recorded.write(tmp_path / "set"))


def test_a_file_without_a_frame_changes_nothing(tmp_path: Path) -> None:
    folder = Recorded().write(tmp_path / "set")
    file = folder / "data/chunk-000/episode_000001.parquet"
    pa.parquet.write_table(
        pa.parquet.read_table(file).slice(0, 0), file.with_name("episode_000003.parquet")
    )
    assert [len(episode) for episode in imported(folder).episodes] == [4, 2, 3]


def test_actions_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    recorded = Recorded()
    recorded.columns["action"] = np.ones((12, 2), np.int64)
    with pytest.raises(DatasetError, match="the action space is MultiDiscrete"):
        imported(recorded.write(tmp_path / "set"))


def test_a_table_larger_than_its_file_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dql_core.data.hdf5_arrays.ALWAYS_BYTES", 1 << 20)
    count = 3_000
    columns = {
        "observation.state": np.zeros((count, 2_000), np.float32),
        "action": np.zeros((count, 2), np.float32),
    }
    folder = Recorded(lengths=(count,), columns=columns).write(tmp_path / "set")
    with pytest.raises(DatasetError, match="bytes in memory: the file is damaged or made to"):
        imported(folder)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_damaged_bytes_are_told_in_one_line(tmp_path: Path, version: str) -> None:
    folder = Recorded(version=version).write(tmp_path / "set")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    random, lines = np.random.default_rng(1), []
    for index in range(200):
        file = files[index % len(files)]
        sound = file.read_bytes()
        content = np.frombuffer(sound, np.uint8).copy()
        places = random.integers(len(content), size=random.integers(1, 5))
        content[places] = random.integers(256, size=len(places))
        file.write_bytes(content.tobytes())
        try:
            import_file(folder, "lerobot", tmp_path / f"out{index}")
        except DatasetError as error:
            lines.append(str(error))
        file.write_bytes(sound)
    assert 0 < len(lines) < 200
    assert not any("\n" in line for line in lines)


def test_no_folder_and_no_dataset_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing: no such folder; name the one that"):
        imported(tmp_path / "nothing")
    (tmp_path / "file.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match="a file; name the folder that holds meta/"):
        imported(tmp_path / "file.zip")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="pipe: no such folder"):
        imported(tmp_path / "pipe")


@pytest.mark.realdata
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no set in ../shared/data/offline/lerobot_g1")
def test_a_real_set_of_a_humanoid_is_imported(tmp_path: Path) -> None:
    result = import_file(SAMPLE, "lerobot", tmp_path / "out")
    assert len(result.episodes) == 100
    assert sum(map(len, result.episodes)) == 35_965 - 100
    assert result.spec.robot == "Unitree_G1_Inspire"
    assert result.spec.observation[3].name == "kLeftElbow"
    assert result.notes[0].startswith("left out: 1 camera (observation.images.cam_high; 0 video")
    assert result.notes[1] == "the task is: Pick up the yellow bottle on the table."
    # The dataset's own statistics of each episode, made by whoever recorded it.
    for line in (SAMPLE / "meta/episodes_stats.jsonl").read_text().splitlines():
        stated = json.loads(line)
        found = result.episodes[stated["episode_index"]].observations
        for name, value in (("min", found.min(axis=0)), ("max", found.max(axis=0))):
            np.testing.assert_array_equal(
                value, np.float32(stated["stats"]["observation.state"][name])
            )
