"""`dql judge`: what it makes of datasets and of recordings of shadow mode, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from dql_core.cli import judgement
from dql_core.errors import ConfigError, DqlError
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import judge
from dql_ros.cli import judge as verb
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from tests.cli_process import dql
from tests.html_page import Page, assert_loads_nothing
from tests.ros.convert.test_convert import ARM, PERIOD, Message, Robot
from tests.ros.untrained import untrained_bundle

QUICK = FittingSettings(members=3, width=8, warm_up=10, updates=100)
COMMANDS = "/velocity_controller/commands"
SHADOW = f"/policy/shadow{COMMANDS}"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"


@pytest.fixture(name="quick")
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "judge", partial(judge, settings=QUICK))


def looked_on(
    messages: list[Message], apart: Callable[[int, np.ndarray[Any, Any]], Any], topic: str = SHADOW
) -> list[Message]:
    """Add to a recording what a policy would have sent: of command i and its values."""
    found: list[Message] = []
    number = 0
    for message in messages:
        found.append(message)
        if message[0] != COMMANDS:
            continue
        values = apart(number, message[3].data)
        number += 1
        if values is not None:
            shadow = type(message[3])(layout=message[3].layout, data=np.array(values, float))
            found.append((topic, message[1], message[2] + PERIOD // 4, shadow))
    return found


@pytest.fixture(name="robot")
def _robot(blank: Callable[[str], Any]) -> Robot:
    return Robot(blank)


@pytest.fixture(name="driven")
def _driven(tmp_path: Path, record: Callable[..., Path], robot: Robot) -> Path:
    """A dataset of three episodes."""
    bag = record(tmp_path / "driven_bag", robot.run({f"terminated {each}": 8 for each in "abc"}))
    convert(Source(load_contract(ARM), [bag]), tmp_path / "driven")
    return tmp_path / "driven"


def test_without_held_out_episodes_a_dataset_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name held-out episodes with --dataset"):
        verb.judge(tmp_path / "out", [untrained_bundle(tmp_path, ARM)])
    assert not (tmp_path / "out").exists()


def test_an_unmet_requirement_ends_with_1(
    tmp_path: Path, driven: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_bundle(tmp_path, ARM).parent / "run"
    with pytest.raises(typer.Exit) as ended:
        verb.judge(tmp_path / "out", [run], dataset=[str(driven)], require="better")
    assert ended.value.exit_code == 1
    shown = capsys.readouterr().out
    assert shown.startswith("asking policies\nfitting values\ncomparing actions\n")
    assert json.loads((tmp_path / "out/judge.json").read_text())["format_version"] == 1
    page = (tmp_path / "out/judge.html").read_text()
    assert_loads_nothing(page, Page(page))


def judged(folder: Path, *bags: Path, **options: Any) -> dict[str, Any]:
    policies = options.pop("policies", None)
    verb.judge(folder / "out", policies, shadow=list(bags), contract=ARM, **options)
    page = (folder / "out/judge.html").read_text()
    assert_loads_nothing(page, Page(page))
    assert "<h2>Shadow mode</h2>" in page
    document: dict[str, Any] = json.loads((folder / "out/judge.json").read_text())
    return document


def test_shadow_commands_are_compared_with_what_was_sent_at_the_same_ticks(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    def apart(number: int, values: Any) -> Any:
        return None if 10 <= number < 30 else values * 0.5 + [0.1, 0.0]

    messages = robot.run({"terminated": 40, "truncated": 25}, seed=1)
    bag = record(tmp_path / "bag", looked_on(messages, apart))
    document = judged(tmp_path, bag)
    assert document["policies"] == []
    assert document["take"] is None
    shadow = document["shadow"]
    sent = np.array([message[3].data for message in messages if message[0] == COMMANDS])
    assert len(sent) == 41 + 26
    meant = sent * 0.5 + [0.1, 0.0]
    # The last one is in force for half a second.
    meant[10:20] = meant[9]
    compared = [*range(20), *range(30, 40), *range(41, 66)]
    sent, far = sent[compared], np.abs(meant - sent)[compared]
    agreement = shadow["agreement"]
    assert shadow["steps"] == 65
    assert agreement["steps"] == len(compared)
    assert agreement["episodes"] == 2
    for field, mean, spread in zip(
        agreement["fields"], far.mean(axis=0), sent.std(axis=0), strict=True
    ):
        assert field["chosen"] == pytest.approx(mean, rel=1e-5)
        assert field["spread"] == pytest.approx(spread, rel=1e-5)
    worst = (far / sent.std(axis=0)).mean(axis=1)
    first = agreement["moments"][0]
    assert first["distance"] == pytest.approx(worst.max(), rel=1e-5)
    assert first["source"] == str(bag)
    at_s = round(first["at_s"] * 1e9) / PERIOD
    assert at_s == pytest.approx(round(at_s), abs=1e-3)
    assert 0.0 <= shadow["far_share"] <= 1.0


def test_a_policy_that_sends_the_same_agrees(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    same = looked_on(robot.run({"terminated": 40, "truncated": 40}), lambda _, values: values)
    shadow = judged(tmp_path, record(tmp_path / "bag", same))["shadow"]
    assert shadow["agreement"]["chosen"] == 0.0
    assert shadow["agreement"]["jerk_ratio"] == 1.0
    assert shadow["objections"] == []


def test_several_recordings_are_judged_together(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    bags = [
        record(
            tmp_path / name,
            looked_on(robot.run({"terminated": 20}, seed=seed), lambda _, values: -values),
        )
        for seed, name in enumerate(("a", "b"))
    ]
    shadow = judged(tmp_path, *bags)["shadow"]
    assert shadow["sources"] == [str(bag) for bag in bags]
    assert shadow["agreement"]["episodes"] == 2
    assert {each["source"] for each in shadow["agreement"]["moments"]} <= set(shadow["sources"])
    assert shadow["remarks"] == []


def test_what_is_in_no_episode_is_told(
    tmp_path: Path, record: Callable[..., Path], robot: Robot
) -> None:
    messages = looked_on(robot.run({"terminated": 40}), lambda _, values: values)
    silent = [each for each in messages if each[0] != COMMANDS or not 10 <= each[2] / PERIOD < 30]
    bag = record(tmp_path / "bag", silent)
    (remark,) = judged(tmp_path, bag)["shadow"]["remarks"]
    assert remark.startswith(f"{bag}: ")
    assert remark.endswith(f"s are in no episode: no command on {COMMANDS.lstrip('/')}")
    assert remark in (tmp_path / "out/judge.html").read_text()


def test_the_node_of_another_name_and_its_own_counts_are_found(
    tmp_path: Path, record: Callable[..., Path], robot: Robot, blank: Callable[[str], Any]
) -> None:
    shadow = looked_on(
        robot.run({"terminated": 20}), lambda _, values: values, f"/other/shadow{COMMANDS}"
    )
    for time_ns, count in ((5 * PERIOD, 1), (15 * PERIOD, 7)):
        message = blank(DIAGNOSTICS)
        for hardware, key in (("/other", count), ("/policy", 99)):
            status = blank("diagnostic_msgs/msg/DiagnosticStatus")
            status.hardware_id, status.name = hardware, "policy: control loop"
            for name in ("ticks", "guard clamped_action", "rate (Hz)"):
                value = blank("diagnostic_msgs/msg/KeyValue")
                value.key, value.value = name, str(key)
                status.values = [*status.values, value]
            message.status = [*message.status, status]
        shadow.append(("/diagnostics", DIAGNOSTICS, time_ns, message))
    bag = record(tmp_path / "bag", sorted(shadow, key=lambda each: each[2]))
    found = judged(tmp_path, bag, node="other")["shadow"]
    assert found["reported"] == {"ticks": "7", "guard clamped_action": "7"}


def test_policies_are_valued_by_the_episodes_of_the_recording(
    tmp_path: Path, record: Callable[..., Path], robot: Robot, quick: None
) -> None:
    bundle = untrained_bundle(tmp_path, ARM)
    messages = robot.run({f"terminated {index}": 12 for index in range(6)})
    bag = record(tmp_path / "bag", looked_on(messages, lambda _, values: values))
    document = judged(tmp_path, bag, policies=[bundle])
    (policy,) = document["policies"]
    assert policy["name"] == str(bundle)
    assert document["dataset"]["transitions"] == document["shadow"]["steps"] == 72
    assert document["behaviour"]["value"]["mean"] < 0


SHADOWED = {"contract": Path("arm.yaml")}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            SHADOWED | {"shadow": ["plain"]},
            f"plain: is no recording of shadow mode: it has no command on {SHADOW}; record one "
            "with 'ros2 launch dql_ros policy.launch.py contract:=… policy:=… shadow:=true "
            "record:=true'",
        ),
        (
            SHADOWED | {"shadow": ["other"]},
            f"other: is no recording of shadow mode: it has no command on {SHADOW}; there are "
            "those of /other: say so with --node",
        ),
        (
            SHADOWED | {"shadow": ["late"]},
            "late: no shadow command falls into an episode: record while the policy node is "
            "active and somebody drives",
        ),
        ({"shadow": ["plain"]}, "--shadow plain: needs the robot's contract"),
        ({}, "nothing to judge: name runs, checkpoints or bundles, or a recording of shadow"),
        (SHADOWED | {"policies": ["run"]}, "--contract is for --shadow only"),
        (
            SHADOWED | {"shadow": ["plain"], "require": "better"},
            "--require better needs a policy",
        ),
        (
            SHADOWED | {"shadow": ["plain"], "dataset": ["data"]},
            "--shadow and --dataset cannot be used together",
        ),
        (
            {
                "shadow": ["other"],
                "node": "other",
                "contract": Path("imitated.yaml"),
                "policies": ["run"],
            },
            "other: every reward is 0, by which no policy can be valued: leave the policies out",
        ),
    ],
)
def test_a_mistake_is_told_with_its_remedy_and_makes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(place)
    before = sorted(os.listdir())
    for name in ("shadow", "policies"):
        words = words | {name: [Path(each) for each in words.get(name, ())]}
    with pytest.raises(DqlError) as refused:
        verb.judge(Path("out"), **words)
    assert str(refused.value).startswith(told)
    assert sorted(os.listdir()) == before


@pytest.mark.slow
def test_a_mistake_is_one_line(place: Path) -> None:
    done = dql("judge", "--out", "out", "--shadow", "plain", "--contract", "arm.yaml", cwd=place)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("dql: plain: is no recording of shadow mode")
    assert not (place / "out").exists()


@pytest.fixture(scope="module", name="place")
def _place(
    tmp_path_factory: pytest.TempPathFactory,
    blank: Callable[[str], Any],
    record: Callable[..., Path],
) -> Path:
    """Recordings without shadow commands, with those of another node, and with late ones."""
    folder = tmp_path_factory.mktemp("shadow")
    messages = Robot(blank).run({"terminated": 20})
    record(folder / "plain", messages)
    same = looked_on(messages, lambda _, values: values, f"/other/shadow{COMMANDS}")
    record(folder / "other", same)
    last = next(each for each in messages if each[0] == COMMANDS)
    record(folder / "late", [*messages, (SHADOW, last[1], 10**12, last[3])])
    (folder / "arm.yaml").write_text(ARM.read_text())
    text = ARM.read_text().replace("reward: {topic: reward, type: std_msgs/msg/Float64}", "")
    (folder / "imitated.yaml").write_text(text)
    untrained_bundle(folder, ARM)
    return folder
