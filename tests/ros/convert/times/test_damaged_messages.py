"""A message that is none of its type is lost like a part of the recording, in every storage."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, Loss
from dql_ros.cli.contract import contract as contract_commands
from dql_ros.cli.inspect import inspect
from dql_ros.contract import Contract, load_contract
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.convert.recorded_episode import RecordedEpisode
from dql_ros.tools.contract_check import check_bag
from tests.printed import words
from tests.ros.convert.times.damaged_bags import (
    DAMAGES,
    STORAGES,
    contract,
    places,
    recording,
    said,
)

RULES = {
    "grid": contract(),
    "action": contract(tick="action"),
    "split": contract(clock="split", episode={}),
    "during": contract(
        episode={"during": {"topic": "/record", "type": "std_msgs/msg/Bool", "path": "data"}}
    ),
    "begun": contract(
        reward={"topic": "/reward", "type": "std_msgs/msg/Float64", "tick": "begun"}
    ),
}


def episodes(
    bag: Path, rules: Contract, *, salvage: bool
) -> tuple[list[RecordedEpisode], tuple[Loss, ...]]:
    found: list[RecordedEpisode] = []
    with Bag(bag, salvage=salvage) as opened:
        read_bag_episodes(opened, rules, "/", found.append)
        return found, opened.losses


def rows(episode: RecordedEpisode) -> Iterator[tuple[float, ...]]:
    """Each transition as numbers: what was observed, done, rewarded and observed next."""
    assert episode.rewards is not None
    for step in range(len(episode.actions)):
        yield (
            *episode.observations[step],
            *episode.actions[step],
            episode.rewards[step],
            *episode.observations[step + 1],
        )


@cache
def clean(name: str) -> frozenset[tuple[float, ...]]:
    """The transitions of the recording without damage, by one of `RULES`."""
    with tempfile.TemporaryDirectory() as folder:
        found, _ = episodes(recording(Path(folder), "mcap"), RULES[name], salvage=False)
    return frozenset(row for episode in found for row in rows(episode))


@pytest.mark.parametrize("storage", STORAGES)
def test_the_sound_recording_is_the_same_in_every_storage(tmp_path: Path, storage: str) -> None:
    bag = recording(tmp_path, storage)
    for name, rules in RULES.items():
        for salvage in (False, True):
            found, losses = episodes(bag, rules, salvage=salvage)
            assert {row for episode in found for row in rows(episode)} == clean(name)
            assert not losses
        assert len(clean(name)) > 40


@settings(deadline=None, max_examples=30)
# What ended the task is heard, and what was sent before is lost: nothing begins until a start.
@example({208: "cut"}, "mcap", "action")
@example({215: "cut"}, "mcap", "action")
@example({217: "cut"}, "mcap", "begun")
@given(
    st.dictionaries(
        st.integers(0, len(said()) - 1), st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=5
    ),
    st.sampled_from(STORAGES),
    st.sampled_from(sorted(RULES)),
)
def test_what_is_left_is_what_it_would_be_without_damage(
    damages: Mapping[int, str], storage: str, name: str
) -> None:
    rules = RULES[name]
    needed = {rule.topic for rule in (*rules.observation, *rules.action)}
    needed |= {rule.topic for rule in (*rules.signals.values(), *rules.events.values())}
    lost = [said()[place] for place in damages if said()[place].topic in needed]
    with tempfile.TemporaryDirectory() as folder:
        bag = recording(Path(folder), storage, damages)
        if lost:
            with pytest.raises(BagError, match="--salvage") as refused:
                episodes(bag, rules, salvage=False)
            assert "\n" not in str(refused.value)
        found, losses = episodes(bag, rules, salvage=True)
    assert sum(loss.messages or 0 for loss in losses) == len(lost)
    for episode in found:
        assert set(rows(episode)) <= clean(name)
        assert (np.diff(episode.observations[:, 0]) <= 1).all()
        for message in lost:
            assert not episode.ticks_ns[0] < message.log_time_ns < episode.ticks_ns[-1]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("topic", ["/joints", "/command", "/reward", "/done"])
def test_the_episode_ends_at_a_message_that_is_damaged(
    tmp_path: Path, storage: str, topic: str
) -> None:
    (place,) = places(topic, 30)
    bag = recording(tmp_path, storage, {place: "cut"})
    rules = contract(episode={"terminated": {"topic": "/done", "type": "std_msgs/msg/Bool"}})
    with pytest.raises(BagError, match=rf"{topic}.*--salvage"):
        convert(Source(rules, [bag]), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    report = convert(
        Source(rules, [bag]), tmp_path / "out", ConvertOptions(salvage=True, workers=2)
    )
    first, second, _after_the_end = load_dataset(tmp_path / "out").episodes
    assert report["episodes"][0]["ending"] == "a part of the recording is lost"
    lost_ns = said()[place].log_time_ns
    # A command may come so late that it could be among what is lost.
    assert 2 <= second.observations[0, 0] - first.observations[-1, 0] <= 4
    (loss,) = report["bags"][0]["losses"]
    assert (loss["messages"], loss["start_ns"], loss["end_ns"]) == (1, lost_ns, lost_ns)
    assert f"a message of {topic} is no valid" in loss["reason"]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_check_reports_what_is_lost(tmp_path: Path, storage: str) -> None:
    bag = recording(tmp_path, storage, dict.fromkeys(places("/joints", 10, 11, 25), "noise"))
    refused = check_bag(bag, contract())
    assert any("--salvage" in problem for problem in refused.findings.problems)
    found = check_bag(bag, contract(), salvage=True)
    assert not found.findings.problems
    (warning,) = [each for each in found.findings.warnings if "lost of" in each]
    assert "3 messages: a message of /joints is no valid sensor_msgs/msg/JointState" in warning
    assert found.episodes == len(episodes(bag, contract(), salvage=True)[0])


@pytest.mark.parametrize("storage", STORAGES)
def test_a_lost_goal_is_not_replaced_by_the_one_before(tmp_path: Path, storage: str) -> None:
    bag = recording(tmp_path, storage, dict.fromkeys(places("/goal", 1), "cut"))
    found, _ = episodes(bag, contract(episode={}), salvage=True)
    goals = {(goal, k // 15) for each in found for k, goal in each.observations}
    assert {(0.0, 0.0), (2.0, 2.0), (3.0, 3.0)} == goals


@pytest.mark.parametrize("storage", STORAGES)
def test_no_episode_runs_on_after_a_lost_stop(tmp_path: Path, storage: str) -> None:
    bag = recording(tmp_path, storage, dict.fromkeys(places("/record", 1), "cut"))
    found, _ = episodes(bag, contract(), salvage=True)
    assert [(each.observations[0, 0], each.observations[-1, 0]) for each in found] == [
        (0, 15),
        (20, 37),
        (40, 51),
    ]


def test_what_does_not_fit_the_contract_is_never_salvaged(tmp_path: Path) -> None:
    bag = recording(tmp_path, "mcap")
    observed = contract().model_dump(mode="json", exclude_defaults=True)["observation"]
    for path in ("velocity", "position"):
        observed[0]["fields"] = [{"path": path, "indices": [7]}]
        rules = contract(observation=observed)
        with pytest.raises(BagError, match=rf"'{path}' has \d entries, no index 7"):
            convert(Source(rules, [bag]), tmp_path / "out", ConvertOptions(salvage=True))


@pytest.mark.parametrize("storage", STORAGES)
def test_inspect_and_init_read_what_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    storage: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    damages = dict.fromkeys(places("/joints", 20) + places("/command", 40, 41), "cut")
    bag = recording(tmp_path, storage, damages)
    inspect([bag], salvage=True)
    printed = words(capsys.readouterr().out)
    for count, topic in ((1, "/joints"), (2, "/command")):
        assert re.search(rf"lost: {count} messages? of \S+: a message of {topic} is no", printed)
    for more, expected in (([], "--salvage leaves it out"), (["--salvage"], "--salvage")):
        draft = tmp_path / f"draft{len(more)}.yaml"
        run = CliRunner().invoke(contract_commands, ["init", str(bag), "--out", str(draft), *more])
        assert run.exit_code == 0
        assert expected in run.output
    assert "which is not complete" not in run.output
    assert "is no valid" in run.output
    found = check_bag(bag, load_contract(draft), salvage=True)
    assert not found.findings.problems
    assert found.transitions > 20
