import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pyarrow.dataset
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from dql_core.data.dataset import load_dataset, write_dataset
from dql_core.data.importers.importing import import_file
from dql_core.data.metadata import RELABEL_KEY
from dql_core.data.relabel import relabel
from dql_core.errors import ContractError, DatasetError
from dql_core.rewards import LoggedEpisode, functions
from dql_core.rewards.call import RewardFunction
from dql_core.spec import CONTRACT_KEY
from dql_ros.cli.main import main
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.core.data.foreign import foreign_dataset

SAMPLES = Path(__file__).parents[4] / "shared/data/offline"
DISTANCE = RewardFunction(
    function="dql_core.rewards:distance_to_goal",
    arguments={"position": ["elbow"], "goal": ["target"]},
)
EFFORT = RewardFunction(function="dql_core.rewards:action_cost", weight=0.25)
SQUARES = RewardFunction(function="dql_core.rewards:action_cost")
FORMATS = pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])


def content(folder: Path, data_format: str) -> dict[str, Any]:
    """Everything of the stored episodes but the rewards: names, types and bytes."""
    if data_format == "hdf5":
        with h5py.File(folder / "data/main_data.hdf5") as file:
            found: dict[str, Any] = {}
            file.visititems(lambda name, node: found.update({name: _node(node)}))
            return {name: told for name, told in found.items() if not name.endswith("rewards")}
    return dict(_columns(folder / "data", data_format))


def _node(node: Any) -> Any:
    attributes = {key: str(value) for key, value in node.attrs.items()}
    if isinstance(node, h5py.Dataset):
        return attributes, str(node.dtype), node.shape, node[()].tobytes()
    return attributes


def _columns(data: Path, data_format: str) -> Iterator[tuple[str, Any]]:
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        yield f"{folder.name} metadata", (folder / "metadata.json").read_bytes()
        stored = pyarrow.dataset.dataset(folder, format=data_format, ignore_prefixes=["metadata"])
        yield f"{folder.name} files", [Path(name).name for name in stored.files]
        table = stored.to_table().drop_columns(["rewards"])
        yield f"{folder.name} columns", table


def metadata_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "data/metadata.json").read_text())
    return found


@FORMATS
@pytest.mark.parametrize("rewards", [np.float32, np.float64])
def test_only_the_rewards_of_a_foreign_dataset_change(
    tmp_path: Path, data_format: str, rewards: Any
) -> None:
    source = foreign_dataset(tmp_path / "walk", data_format, rewards=rewards)
    files = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    relabel(source, [SQUARES], out)
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == files
    before, after = content(source, data_format), content(out, data_format)
    assert list(before) == list(after)
    for name, value in before.items():
        same = (
            value.equals(after[name], check_metadata=True)
            if hasattr(value, "equals")
            else value == after[name]
        )
        assert same, name
    metadata = metadata_of(out)
    assert json.loads(metadata.pop(RELABEL_KEY))[0]["reward"][0]["function"] == SQUARES.function
    assert metadata == metadata_of(source)
    new = minari.MinariDataset(out / "data")
    assert len(list(new.iterate_episodes())) == 3
    for episode in new.iterate_episodes():
        expected = -(episode.actions.astype(np.float64) ** 2).sum(axis=1)
        np.testing.assert_array_equal(episode.rewards, expected)


@FORMATS
def test_long_episode_is_relabelled_whole(tmp_path: Path, data_format: str) -> None:
    """Arrow files hold their rows in batches of at most 32,768."""
    source = tmp_path / "long"
    (source / "data").mkdir(parents=True)
    box = gym.spaces.Box(-1, 1, (1,))
    storage = MinariStorage.new(source / "data", box, box, data_format=data_format)
    storage.update_metadata({"dataset_id": "long-v0", "minari_version": minari.__version__})
    length = 70_000
    flags = np.zeros(length, dtype=bool)
    actions = np.linspace(-1, 1, length, dtype=np.float32)[:, None]
    observations = np.zeros((length + 1, 1), np.float32)
    storage.update_episodes(
        [EpisodeBuffer(0, None, None, observations, actions, flags, flags, flags)]
    )
    relabel(source, [SQUARES], tmp_path / "out")
    (episode,) = load_dataset(tmp_path / "out").episodes
    np.testing.assert_array_equal(episode.rewards, -(actions[:, 0].astype(np.float64) ** 2))


def test_rewards_are_the_functions_of_each_episode(tiny_dataset: Path, tmp_path: Path) -> None:
    told = relabel(tiny_dataset, [DISTANCE, EFFORT], tmp_path / "out").to_json()
    old, new = load_dataset(tiny_dataset), load_dataset(tmp_path / "out")
    assert new.spec == old.spec
    for before, after in zip(old.episodes, new.episodes, strict=True):
        logged = LoggedEpisode(before.observations, before.actions, old.spec)
        expected = functions.distance_to_goal(logged, position=["elbow"], goal=["target"])
        expected = expected + 0.25 * functions.action_cost(logged)
        assert after.rewards.tolist() == expected.tolist()
        np.testing.assert_array_equal(before.observations, after.observations)
        assert (before.terminated, before.truncated) == (after.terminated, after.truncated)
    assert (told["episodes"], told["transitions"]) == (3, 19)
    for when, dataset in (("before", old), ("after", new)):
        returns = [float(episode.rewards.sum()) for episode in dataset.episodes]
        rewards = np.concatenate([episode.rewards for episode in dataset.episodes])
        assert told[when] == pytest.approx(
            {
                "mean_return": np.mean(returns),
                "min_return": min(returns),
                "max_return": max(returns),
                "min_reward": rewards.min(),
                "max_reward": rewards.max(),
            }
        )


def test_metadata_tell_each_relabelling_with_the_source(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    relabel(tiny_dataset, [DISTANCE, EFFORT], tmp_path / "first")
    relabel(tmp_path / "first", [SQUARES], tmp_path / "second")
    first, second = json.loads(load_dataset(tmp_path / "second").metadata[RELABEL_KEY])
    source = hashlib.sha256(Path(functions.__file__).read_bytes()).hexdigest()
    assert first["reward"] == [
        {**each.model_dump(), "source_sha256": source} for each in (DISTANCE, EFFORT)
    ]
    assert [each["function"] for each in second["reward"]] == [SQUARES.function]


def test_same_functions_give_the_same_rewards_again(tiny_dataset: Path, tmp_path: Path) -> None:
    relabel(tiny_dataset, [DISTANCE], tmp_path / "first")
    relabel(tmp_path / "first" / "data", [DISTANCE], tmp_path / "second")
    first, second = load_dataset(tmp_path / "first"), load_dataset(tmp_path / "second")
    for one, other in zip(first.episodes, second.episodes, strict=True):
        assert one.rewards.tobytes() == other.rewards.tobytes()


def test_progress_is_told_by_episodes(tiny_dataset: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    relabel(
        tiny_dataset, [EFFORT], tmp_path / "out", lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_rewards_that_were_not_finite_may_be_replaced(tmp_path: Path) -> None:
    source = foreign_dataset(tmp_path / "walk", "hdf5")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        file["episode_1/rewards"][...] = np.nan
    told = relabel(source, [SQUARES], tmp_path / "out").to_json()
    assert told["before"]["mean_return"] is None
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert np.isfinite(load_dataset_rewards(tmp_path / "out")).all()


def load_dataset_rewards(folder: Path) -> Any:
    episodes = minari.MinariDataset(folder / "data").iterate_episodes()
    return np.concatenate([episode.rewards for episode in episodes])


PENDULUM = """
import numpy as np

def cost(episode):
    cosine, sine, speed = episode.observations[:-1].astype(float).T
    torque = episode.actions[:, 0].astype(float)
    return -(np.arctan2(sine, cosine) ** 2 + 0.1 * speed**2 + 0.001 * torque**2)
"""


@pytest.mark.realdata
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no files in ../shared/data/offline")
def test_pendulums_equation_gives_the_rewards_that_others_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SAMPLES / "pendulum_random_v1.1.0.h5"
    import_file(file, "d3rlpy", tmp_path / "recorded", env_id="Pendulum-v1")
    (tmp_path / "pendulum_cost.py").write_text(PENDULUM)
    monkeypatch.syspath_prepend(tmp_path)
    relabel(
        tmp_path / "recorded", [RewardFunction(function="pendulum_cost:cost")], tmp_path / "out"
    )
    recorded, computed = load_dataset(tmp_path / "recorded"), load_dataset(tmp_path / "out")
    assert computed.num_transitions == 99_000
    for one, other in zip(recorded.episodes, computed.episodes, strict=True):
        np.testing.assert_allclose(one.rewards, other.rewards, rtol=1e-4, atol=1e-5)


def test_failing_function_tells_the_episode_and_leaves_nothing(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def f(episode):\n    return [1.0 / (len(episode) - 8)] * len(episode)\n"
    (tmp_path / "relabelling.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    wrong = RewardFunction(function="relabelling:f")
    with pytest.raises(
        ContractError,
        match=r"dataset: episode 1: reward: relabelling:f raised ZeroDivisionError: .*line 2\)",
    ):
        relabel(tiny_dataset, [wrong], tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {"relabelling.py", "__pycache__"}


def test_out_must_be_free_and_outside(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(DatasetError, match="out: already exists; name another --out"):
        relabel(tiny_dataset, [EFFORT], tmp_path / "out")
    with pytest.raises(DatasetError, match="lies inside the dataset"):
        relabel(tiny_dataset, [EFFORT], tiny_dataset / "data" / "new")


def test_damaged_dataset_is_refused_whole(tmp_path: Path) -> None:
    source = foreign_dataset(tmp_path / "walk", "hdf5")
    path = source / "data/metadata.json"
    path.write_text(json.dumps(metadata_of(source) | {"total_steps": 99}))
    with pytest.raises(DatasetError, match="15 transitions were read and its metadata says 99"):
        relabel(source, [SQUARES], tmp_path / "out")
    with h5py.File(source / "data/main_data.hdf5", "r+") as file:
        del file["episode_1/observations"]
    with pytest.raises(DatasetError, match="not a readable Minari dataset"):
        relabel(source, [SQUARES], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def dql(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["dql", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


OPTIONS = ["--reward", DISTANCE.function, "--argument", "position=[elbow]"]


def test_command_line_shows_before_and_after(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [*OPTIONS, "--argument", "goal=[3.0]", "--out", tmp_path / "out"]
    assert dql(monkeypatch, "relabel", tiny_dataset, *options) == 0
    shown = capsys.readouterr().out
    for words in ("before", "after", "mean return", "distance_to_goal", "goal=[3.0]"):
        assert words in shown
    elbows = [episode.observations[1:, 0] for episode in load_dataset(tiny_dataset).episodes]
    for elbow, episode in zip(elbows, load_dataset(tmp_path / "out").episodes, strict=True):
        np.testing.assert_allclose(episode.rewards, -abs(elbow.astype(float) - 3), rtol=1e-12)


def test_what_had_no_rewards_has_none_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tiny_episode(np.random.default_rng(0), 5, terminated=False)
    silent = dataclasses.replace(drawn, rewards=np.zeros(5))
    contract = {CONTRACT_KEY: "robot: tiny\n"}
    write_dataset(tmp_path / "set", [silent], TINY_SPEC, extra_metadata=contract)
    options = [*OPTIONS, "--argument", "goal=[3.0]", "--out"]
    assert dql(monkeypatch, "relabel", tmp_path / "set", *options, tmp_path / "once") == 0
    shown = capsys.readouterr().out
    assert "before" not in shown
    assert "mean return" in shown
    assert dql(monkeypatch, "relabel", tmp_path / "once", *options, tmp_path / "twice") == 0
    assert "before" in capsys.readouterr().out


def test_contract_or_yaml_file_names_a_weighted_sum(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "rewards.yaml"
    section = [each.model_dump() for each in (DISTANCE, EFFORT)]
    file.write_text(json.dumps({"robot": "tiny", "reward": section}))
    out = tmp_path / "out"
    assert (
        dql(monkeypatch, "relabel", tiny_dataset, "--contract", file, "--out", out, "--json") == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [each["weight"] for each in told["reward"]] == [1.0, 0.25]
    relabel(tiny_dataset, [DISTANCE, EFFORT], tmp_path / "same")
    for one, other in zip(
        load_dataset(out).episodes, load_dataset(tmp_path / "same").episodes, strict=True
    ):
        assert one.rewards.tobytes() == other.rewards.tobytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "either --reward or --contract"),
        (["--reward", "a:b", "--contract", "c.yaml"], "either --reward or --contract"),
        (["--contract", "c.yaml", "--argument", "a=1"], "belongs to --reward"),
        (
            ["--reward", "distance"],
            "distance: is not a function's name; write module:function",
        ),
        (["--reward", "a:b", "--argument", "a"], "--argument a: must have the form key=value"),
        (["--reward", "a:b", "--argument", "a=["], "the value is not valid yaml"),
        (["--reward", "dql_core.rewards:action_kost"], "did you mean 'action_cost'?"),
        (["--reward", "dql_core.rewards:action_cost", "--argument", "w=1"], "no argument 'w'"),
        ([*OPTIONS, "--argument", "goal=[taget]"], "(did you mean 'target'?)"),
        (["--contract", "topic.yaml"], "the reward is the topic '/reward'"),
        (["--contract", "none.yaml"], "none.yaml: has no key 'reward' (did you mean 'rewards'?)"),
        (["--contract", "wrong.yaml"], "unknown key 'arguments2' (did you mean 'arguments'?)"),
        (["--contract", "topics.yaml"], "no such file (did you mean 'topic.yaml'?)"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("topic.yaml").write_text("reward: {topic: /reward, type: std_msgs/msg/Float64}")
    Path("none.yaml").write_text("rewards: {function: a:b}")
    Path("wrong.yaml").write_text("reward: {function: a:b, arguments2: {}}")
    assert dql(monkeypatch, "relabel", tiny_dataset, *options, "--out", "out") == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "none.yaml",
        "topic.yaml",
        "wrong.yaml",
    ]
