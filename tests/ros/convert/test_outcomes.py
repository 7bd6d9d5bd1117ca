"""What a person says of episodes in a bag becomes ends, rewards and infos of the dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import yaml

from dql_core.data.dataset import load_dataset
from dql_core.data.relabel import relabel
from dql_core.errors import BagError
from dql_core.rewards.call import RewardFunction
from dql_ros.cli.main import main
from dql_ros.contract import Contract
from dql_ros.convert.convert import REPORT_HTML, ConvertOptions, Source, convert
from dql_ros.convert.outcomes import Labels
from dql_ros.tools.contract_check import check_bag

FLOAT, BOOL, TEXT = "std_msgs/msg/Float64", "std_msgs/msg/Bool", "std_msgs/msg/String"
JOY = "sensor_msgs/msg/Joy"
MARKERS = "/recorder/episode"
DT_S = 0.05
OUTCOME = {"function": "dql_core.rewards:outcome", "arguments": {"success": 10, "failure": -3}}
RULES: dict[str, Any] = {
    "robot": "lever",
    "rate_hz": 20.0,
    "observation": [
        {"topic": "state", "type": FLOAT, "stamp": "receive", "fields": [{"path": "data"}]}
    ],
    "action": [
        {
            "topic": "command",
            "type": FLOAT,
            "stamp": "receive",
            "max_age_s": 0.2,
            "fields": [{"path": "data", "low": -9, "high": 9}],
        }
    ],
    "reward": OUTCOME,
}
RECORD = {"topic": "record", "type": BOOL, "path": "data"}
BUTTONS = {
    label: {"topic": "joy", "type": JOY, "path": f"buttons.{number}"}
    for number, label in enumerate(("success", "failure", "discard"))
}
Message = tuple[str, str, int, Any]


class Lever:
    """Makes a recording: states and commands all the time, and what happens at given seconds."""

    def __init__(self, blank: Callable[[str], Any], record: Callable[..., Path]) -> None:
        self._blank, self._record = blank, record
        self.messages: list[Message] = []

    def say(self, time_s: float, topic: str, kind: str, data: Any) -> None:
        message = self._blank(kind)
        if kind == JOY:
            message.axes, message.buttons = np.zeros(0, np.float32), np.array(data, np.int32)
        else:
            message.data = data
        self.messages.append((topic, kind, round(1e9 + time_s * 1e9), message))

    def drive(self, from_s: float, to_s: float, *, commands: bool = True) -> None:
        for tick in range(round(from_s / DT_S), round(to_s / DT_S)):
            self.say(tick * DT_S, "/state", FLOAT, float(tick))
            if commands:
                self.say(tick * DT_S + 0.001, "/command", FLOAT, 0.5)

    def label(self, time_s: float, word: str, topic: str = MARKERS) -> None:
        self.say(time_s, topic, TEXT, word)

    def mark(self, *spans: tuple[float, float]) -> None:
        """Say when episodes are recorded."""
        for from_s, to_s in spans:
            self.say(from_s, "/record", BOOL, True)
            self.say(to_s, "/record", BOOL, False)

    def bag(self, folder: Path) -> Path:
        return self._record(folder, sorted(self.messages, key=lambda each: each[2]))


@pytest.fixture(name="lever")
def _lever(blank: Callable[[str], Any], record: Callable[..., Path]) -> Lever:
    return Lever(blank, record)


def rules(
    outcomes: dict[str, Any] | None = None, episode: dict[str, Any] | None = None, **changes: Any
) -> Contract:
    document = RULES | {"episode": episode or {}} | changes
    return Contract.model_validate(document | {"outcomes": outcomes or {}})


def made(contract: Contract, bag: Path, out: Path) -> tuple[list[Any], dict[str, Any]]:
    """Convert a bag; return Minari's episodes and the report."""
    report = convert(Source(contract, [bag]), out)
    return list(minari.MinariDataset(out / "data").iterate_episodes()), report


def first_remark(report: dict[str, Any], words: str) -> str:
    found = [remark for remark in report["remarks"] if words in remark]
    assert found, report["remarks"]
    return str(found[0])


def require(episode: Any, success: bool | None, end_s: float, *, terminated: bool) -> None:
    """Compare an episode with what was said of it, and of where."""
    length = len(episode.actions)
    assert episode.observations[-1, 0] == pytest.approx(end_s / DT_S, abs=1.0)
    assert episode.terminations.tolist() == [False] * (length - 1) + [terminated]
    assert episode.truncations.tolist() == [False] * (length - 1) + [not terminated]
    earned = {True: 10.0, False: -3.0, None: 0.0}[success]
    assert episode.rewards.tolist() == [0.0] * (length - 1) + [earned]
    if success is None:
        assert "success" not in (episode.infos or {})
        return
    assert episode.infos["success"].dtype == np.bool_
    assert episode.infos["success"].tolist() == [False] * length + [success]


def test_labels_end_episodes_and_say_how(lever: Lever, tmp_path: Path) -> None:
    """A discarded one is not in the dataset, and still in the bag."""
    lever.drive(0.0, 12.0)
    lever.mark((0.5, 2.9), (3.0, 5.9), (6.0, 8.9), (9.0, 11.0))
    lever.label(2.0, "success")
    lever.label(4.0, "failure")
    lever.label(7.0, "discard")
    bag = lever.bag(tmp_path / "bag")
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    episodes, report = made(rules(episode={"during": RECORD}), bag, tmp_path / "out")
    success, failure, unlabelled = episodes
    require(success, True, 2.0, terminated=True)
    require(failure, False, 4.0, terminated=True)
    require(unlabelled, None, 11.0, terminated=False)
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before
    totals = report["totals"]
    assert (totals["success"], totals["failure"], totals["discarded"]) == (1, 1, 1)
    assert first_remark(report, "By a person's") == (
        "By a person's labels, 1 of 3 episodes are a success and 1 a failure (infos/success); 1 "
        "have no label, and 1 were discarded and left out."
    )
    (left_out,) = [row for row in report["bags"][0]["left_out"] if "person" in row["reason"]]
    assert left_out["reason"] == "discarded by a person"
    assert left_out["to_s"] == pytest.approx(7.0, abs=0.1)
    page = (tmp_path / "out" / REPORT_HTML).read_text()
    assert "<th>label</th>" in page
    assert "episodes discarded" in page


def test_a_button_that_is_held_labels_once(lever: Lever, tmp_path: Path) -> None:
    """As a driver of a joystick sends it, in a bag of any recorder; also into the next episode."""
    lever.drive(0.0, 8.0)
    lever.mark((0.0, 2.5), (2.6, 4.5), (4.6, 6.5), (6.6, 7.5))
    pressed = {0: (2.0, 3.2), 1: (4.0, 4.2), 2: (5.0, 5.1)}
    for step in range(8 * 50):
        now_s = step / 50
        buttons = [int(pressed[b][0] <= now_s < pressed[b][1]) for b in pressed]
        lever.say(now_s + 0.0003, "/joy", JOY, buttons)
    contract = rules(BUTTONS, {"during": RECORD})
    episodes, report = made(contract, lever.bag(tmp_path / "bag"), tmp_path / "out")
    assert report["totals"]["discarded"] == 1
    require(episodes[0], True, 2.0, terminated=True)
    require(episodes[1], False, 4.0, terminated=True)
    require(episodes[2], None, 7.5, terminated=False)
    roles = {row["role"]: row["count"] for row in report["bags"][0]["topics"]}
    assert roles["success"] == 400


def test_a_label_after_the_end_is_of_the_episode_that_ended(lever: Lever, tmp_path: Path) -> None:
    lever.drive(0.0, 6.0)
    lever.mark((0.0, 2.0), (3.0, 4.0))
    lever.label(2.6, "success")
    lever.label(5.5, "failure", "/outcome")
    contract = rules({"failure_is": "truncated"}, {"during": RECORD})
    (first, second), _ = made(contract, lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(first, True, 2.0, terminated=True)
    require(second, False, 4.0, terminated=False)


def test_the_last_label_counts_and_that_is_said(lever: Lever, tmp_path: Path) -> None:
    lever.drive(0.0, 6.0)
    lever.mark((0.0, 2.0), (3.0, 5.0))
    for time_s, word in ((1.0, "success"), (1.5, "failure"), (4.0, "discard"), (4.2, "success")):
        lever.label(time_s, word)
    episodes, report = made(
        rules(episode={"during": RECORD}), lever.bag(tmp_path / "bag"), tmp_path / "out"
    )
    require(episodes[0], False, 1.0, terminated=True)
    require(episodes[1], True, 4.0, terminated=True)
    assert report["totals"]["discarded"] == 0
    assert first_remark(report, "changed") == (
        "2 labels changed an earlier one: the last one counts."
    )


def test_a_bag_of_one_episode_ends_with_its_label(lever: Lever, tmp_path: Path) -> None:
    """Without start or during what follows is no episode, and a second label is of the first."""
    lever.drive(0.0, 4.0)
    lever.label(2.0, "success")
    lever.label(3.0, "success")
    (episode,), report = made(rules(), lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(episode, True, 2.0, terminated=True)
    assert not any("changed" in remark for remark in report["remarks"])
    assert first_remark(report, "after a label").startswith("2.0 s after a label are left out")
    assert report["bags"][0]["left_out"][0]["reason"] == "after a person's label"


def test_who_lets_go_of_the_robot_and_labels_then_begins_another(
    lever: Lever, tmp_path: Path
) -> None:
    """Commands stop, the label comes, commands go on: two episodes, without a rule for it."""
    lever.drive(0.0, 2.0)
    lever.drive(2.0, 4.0, commands=False)
    lever.drive(4.0, 6.0)
    lever.drive(6.0, 8.0, commands=False)
    lever.label(3.0, "success")
    lever.label(7.0, "failure")
    episodes, report = made(rules(), lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(episodes[0], True, 2.2, terminated=True)
    require(episodes[1], False, 6.2, terminated=True)
    assert not any("after a label" in remark for remark in report["remarks"])


def test_an_end_that_is_not_in_the_bag_gets_no_outcome(lever: Lever, tmp_path: Path) -> None:
    """The state was gone when the task succeeded: the last state there is is another one."""
    lever.drive(0.0, 2.0)
    for tick in range(40):
        lever.say(2.0 + tick * DT_S, "/command", FLOAT, 0.5)
    lever.label(3.5, "success")
    lever.drive(4.0, 5.0)
    lever.label(6.5, "discard")
    (episode,), report = made(rules(), lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(episode, None, 2.0, terminated=False)
    assert report["totals"]["discarded"] == 1
    assert first_remark(report, "was missing when").startswith("1 label of success or failure")


def test_labels_of_no_episode_are_counted(lever: Lever, tmp_path: Path) -> None:
    """Before the first, and of one that is too short; one that is too short can be discarded."""
    lever.drive(0.0, 6.0)
    lever.mark((1.0, 1.3), (2.0, 2.3), (3.0, 5.0))
    for time_s, word in ((0.5, "failure"), (1.6, "success"), (2.6, "discard"), (3.5, "cheese")):
        lever.label(time_s, word)
    contract = rules(episode={"during": RECORD, "min_length": 10})
    (episode,), report = made(contract, lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(episode, None, 5.0, terminated=False)
    assert first_remark(report, "no episode of the") == (
        "2 labels belong to no episode of the dataset."
    )
    assert report["totals"]["discarded"] == 1


def test_a_flag_that_is_never_lowered_labels_once_and_that_is_said(
    lever: Lever, tmp_path: Path
) -> None:
    lever.drive(0.0, 6.0)
    lever.mark((0.0, 2.5), (3.0, 5.5))
    for time_s in (2.0, 5.0):
        lever.say(time_s, "/good", BOOL, True)
    contract = rules({"success": {"topic": "good", "type": BOOL}}, {"during": RECORD})
    episodes, report = made(contract, lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(episodes[0], True, 2.0, terminated=True)
    require(episodes[1], None, 5.5, terminated=False)
    assert first_remark(report, "each message of good raises it").startswith("outcomes.success: ")


def test_a_signal_ends_it_and_the_label_says_how(lever: Lever, tmp_path: Path) -> None:
    """The task is over at 2 s, as the robot says; the person sees at 2.5 s that it failed."""
    lever.drive(0.0, 5.0)
    lever.say(2.0, "/done", BOOL, True)
    lever.say(2.2, "/done", BOOL, False)
    lever.mark((0.0, 2.4), (3.0, 4.0))
    lever.label(2.5, "failure")
    contract = rules(
        {"failure_is": "truncated"},
        {"during": RECORD, "terminated": {"topic": "done", "type": BOOL}},
    )
    episodes, _ = made(contract, lever.bag(tmp_path / "bag"), tmp_path / "out")
    require(episodes[0], False, 2.0, terminated=True)
    require(episodes[1], None, 4.0, terminated=False)


def test_bags_without_what_the_contract_names_and_contracts_without_outcomes(
    lever: Lever, tmp_path: Path
) -> None:
    lever.drive(0.0, 3.0)
    lever.label(2.0, "success")
    bag = lever.bag(tmp_path / "bag")
    plain = Contract.model_validate(RULES)
    (episode,), report = made(plain, bag, tmp_path / "plain")
    require(episode, None, 3.0, terminated=False)
    assert first_remark(report, "nobody reads").endswith(
        f"nobody reads the 1 label on {MARKERS}, since the contract has no 'outcomes': add "
        f"'outcomes: {{}}' if they are of episodes"
    )
    _, report = made(rules({"success": BUTTONS["success"]}), bag, tmp_path / "out")
    assert first_remark(report, "has no /joy").endswith(
        "has no /joy, by which the contract labels success"
    )


def test_another_type_on_a_topic_of_labels_is_refused(lever: Lever, tmp_path: Path) -> None:
    lever.drive(0.0, 3.0)
    lever.say(1.0, "/outcome", BOOL, True)
    bag = lever.bag(tmp_path / "bag")
    with pytest.raises(BagError, match=f"/outcome is of type {BOOL}, in the contract of type"):
        convert(Source(rules(), [bag]), tmp_path / "out")
    problems = check_bag(bag, rules()).findings.problems
    assert any("/outcome is of type" in problem for problem in problems)


def test_a_bag_of_discarded_episodes_alone_is_no_failure_beside_others(
    lever: Lever, tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    lever.drive(0.0, 3.0)
    lever.label(2.0, "discard")
    alone = lever.bag(tmp_path / "alone")
    other = Lever(blank, record)
    other.drive(0.0, 3.0)
    other.label(2.0, "success")
    bag = other.bag(tmp_path / "other")
    checked = check_bag(alone, rules())
    assert not checked.findings.problems
    assert checked.rehearsal is not None
    assert checked.rehearsal.discarded == 1
    assert checked.rehearsal.usage.lost_ns[0][0] == "discarded by a person"
    with pytest.raises(BagError) as error:
        convert(Source(rules(), [alone]), tmp_path / "out")
    assert str(error.value) == f"{alone}: no episode is left: 1 episode discarded by a person"
    report = convert(Source(rules(), [alone, bag]), tmp_path / "out")
    totals = report["totals"]
    assert (totals["episodes"], totals["discarded"], totals["failed_bags"]) == (1, 1, 0)


def test_the_command_line_says_how_many_were_discarded_and_outcomes_choose_episodes(
    lever: Lever,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lever.drive(0.0, 12.0)
    lever.mark((0.5, 2.9), (3.0, 5.9), (6.0, 8.9), (9.0, 11.0))
    for time_s, word in ((2.0, "success"), (4.0, "failure"), (7.0, "discard")):
        lever.label(time_s, word)
    contract = tmp_path / "lever.yaml"
    document = RULES | {"episode": {"during": RECORD}, "outcomes": {}}
    contract.write_text(yaml.safe_dump(document))

    def dql(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["dql", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    out, kept = tmp_path / "out", tmp_path / "kept"
    said = dql("convert", contract, lever.bag(tmp_path / "bag"), "--out", out)
    assert "3 episodes (2 terminated; 1 more discarded), " in said
    dql("dataset", "keep", out, "--outcome", "success", "--out", kept)
    (episode,) = load_dataset(kept, infos=["success"]).episodes
    assert episode.infos["success"][-1]
    assert episode.rewards[-1] == 10.0


def test_outcomes_can_be_rewarded_later(lever: Lever, tmp_path: Path) -> None:
    lever.drive(0.0, 6.0)
    lever.mark((0.0, 2.5), (3.0, 5.5))
    lever.label(2.0, "success")
    lever.label(5.0, "failure")
    contract = rules(episode={"during": RECORD}, reward=None)
    episodes, _ = made(contract, lever.bag(tmp_path / "bag"), tmp_path / "out")
    assert not any(episode.rewards.any() for episode in episodes)
    relabel(tmp_path / "out", [RewardFunction.model_validate(OUTCOME)], tmp_path / "new")
    success, failure = minari.MinariDataset(tmp_path / "new" / "data").iterate_episodes()
    require(success, True, 2.0, terminated=True)
    require(failure, False, 5.0, terminated=True)


@pytest.mark.parametrize("options", [ConvertOptions(workers=2), ConvertOptions(resume=True)])
def test_workers_and_resumed_conversions_have_them_too(
    lever: Lever, tmp_path: Path, options: ConvertOptions
) -> None:
    lever.drive(0.0, 3.0)
    lever.label(2.0, "success")
    bags = [lever.bag(tmp_path / name) for name in ("one", "two")]
    convert(Source(rules(), bags), tmp_path / "first")
    if options.resume:
        (tmp_path / "three").mkdir()
        with pytest.raises(BagError):
            convert(Source(rules(), [*bags, tmp_path / "three"]), tmp_path / "out")
    convert(Source(rules(), bags), tmp_path / "out", options)
    first, out = (
        list(minari.MinariDataset(tmp_path / name / "data").iterate_episodes())
        for name in ("first", "out")
    )
    for ours, theirs in zip(first, out, strict=True):
        require(ours, True, 2.0, terminated=True)
        np.testing.assert_array_equal(ours.infos["success"], theirs.infos["success"])
        np.testing.assert_array_equal(ours.observations, theirs.observations)


def test_the_report_is_json_of_plain_values(lever: Lever, tmp_path: Path) -> None:
    lever.drive(0.0, 3.0)
    lever.label(2.0, "failure")
    _, report = made(rules(), lever.bag(tmp_path / "bag"), tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["outcome"] for row in stored["episodes"]] == ["failure"]
    assert stored["bags"][0]["labels"] == report["bags"][0]["labels"]


def test_far_more_labels_than_ticks_close_the_same_ticks() -> None:
    """A flag on a number that trembles labels at every message."""
    labels = Labels()
    asked: list[int] = []
    for times_ns in np.array_split(np.arange(1_000_000, dtype=np.int64) * 1000, 10):
        labels.extend("words", times_ns, np.ones(len(times_ns)))

    def opening_after(time_ns: int) -> int:
        asked.append(time_ns)
        return (time_ns // 100_000_000 + 1) * 100_000_000

    ticks_ns = np.arange(-20_000_000, 1_200_000_000, 50_000_500, dtype=np.int64)
    is_open = np.ones(len(ticks_ns), bool)
    labels.close(is_open, ticks_ns, opening_after)
    last_opening_ns = 1_000_000_000
    assert is_open.tolist() == [not 0 <= tick < last_opening_ns for tick in ticks_ns.tolist()]
    assert len(asked) <= len(ticks_ns), "a label that no tick follows next is not looked at"
