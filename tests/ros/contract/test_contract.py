import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dql_core.errors import ContractError
from dql_ros.contract import (
    ActionStream,
    Contract,
    FlagStream,
    Predicate,
    RewardTopic,
    contract_problems,
    load_contract,
    matches,
    resolve_topic,
)

CONTRACTS = sorted((Path(__file__).parents[3] / "config" / "contracts").glob("*.yaml"))
ARM_FILE = Path(__file__).parents[1] / "arm.yaml"
ARM = yaml.safe_load(ARM_FILE.read_text())


def write(folder: Path, **changes: Any) -> Path:
    """Write the arm contract with some of its sections replaced; ``None`` removes one."""
    document = {key: value for key, value in {**ARM, **changes}.items() if value is not None}
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def action(**changes: Any) -> list[dict[str, Any]]:
    (stream,) = ARM["action"]
    (field,) = stream["fields"]
    return [{**stream, "fields": [{**field, **changes}]}]


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_bundled_contracts_are_valid(path: Path) -> None:
    contract = load_contract(path)
    spec = contract.policy_spec()
    assert spec.robot == path.stem
    assert spec.contract_hash == contract.hash()
    assert len(contract.safe_command) == len(spec.action)


def test_spec_lists_the_fields_in_the_contracts_order() -> None:
    spec = load_contract(ARM_FILE).policy_spec()
    assert [field.name for field in spec.observation] == [
        "joint_states.position.shoulder",
        "joint_states.position.elbow",
        "joint_states.velocity.shoulder",
        "joint_states.velocity.elbow",
        "target.point.x",
        "target.point.y",
    ]
    assert [(field.name, field.unit, field.low, field.high) for field in spec.action] == [
        ("shoulder_velocity", "rad/s", -2.0, 2.0),
        ("elbow_velocity", "rad/s", -2.0, 2.0),
    ]
    assert spec.rate_hz == 20.0


def test_hash_is_of_the_meaning_not_of_the_text(tmp_path: Path) -> None:
    original = load_contract(ARM_FILE)
    path = write(tmp_path)
    path.write_text("# a comment\n" + path.read_text())
    assert load_contract(path).hash() == original.hash()
    for change in ({"rate_hz": 21.0}, {"robot": "other"}, {"action": action(high=2.5)}):
        assert load_contract(write(tmp_path, **change)).hash() != original.hash()


def test_signals_are_the_topics_among_reward_and_ends(tmp_path: Path) -> None:
    assert list(load_contract(ARM_FILE).signals) == ["reward", "terminated", "truncated"]
    function = {"function": "dql_core.rewards:distance_to_goal"}
    contract = load_contract(write(tmp_path, reward=function, episode=None))
    assert contract.signals == {}


def test_latched_streams_are_reliable_and_have_no_age() -> None:
    joints, target = load_contract(ARM_FILE).observation
    assert joints.max_age_ns == 200_000_000
    assert joints.qos.reliability == "best_effort"
    assert target.max_age_ns is None
    assert (target.qos.reliability, target.qos.durability) == ("reliable", "transient_local")


@pytest.mark.parametrize(
    ("topic", "namespace", "resolved"),
    [
        ("joint_states", "/", "/joint_states"),
        ("joint_states", "", "/joint_states"),
        ("joint_states", "/left/arm/", "/left/arm/joint_states"),
        ("joint_states", "left", "/left/joint_states"),
        ("joint_states", "left/arm/", "/left/arm/joint_states"),
        ("/joint_states", "/left", "/joint_states"),
    ],
)
def test_relative_topics_follow_the_namespace(topic: str, namespace: str, resolved: str) -> None:
    assert resolve_topic(topic, namespace) == resolved


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rate": 20}, r"unknown key 'rate' \(did you mean 'rate_hz'\?\)"),
        ({"rate_hz": None}, "key 'rate_hz' is missing"),
        ({"rate_hz": 0}, "key 'rate_hz' is 0: "),
        ({"action": action(pth="data")}, r"unknown key 'action.0.fields.0.pth' .*mean 'path'"),
        ({"action": action(low=None)}, "action.0.fields.0.low"),
        ({"action": action(low=3.0)}, "'low' must be below 'high', not 3.0 and 2.0"),
        ({"action": action(low=[-1.0])}, "'low' has 1 entries for 2 fields"),
        ({"action": action(indices=[0, 0])}, "'indices' must not name an element twice"),
        ({"action": action(indices=[-1, 0])}, "'indices' count from 0"),
        ({"action": action(joints=["a", "b"])}, "give 'joints' or 'indices', not both"),
        ({"action": action(names=["a", "a"])}, "action field 'a' appears twice"),
        ({"observation": ARM["observation"][1:]}, "at least one .* must not be latched"),
        ({"observation": ARM["observation"][:1] * 2}, "appears twice"),
        ({"on_fault": {"command": [0.0]}}, "on_fault.command has 1 entries for 2 action fields"),
        ({"reward": {"function": "no colon"}}, "key 'reward.function' is 'no colon'"),
        ({"reward": {"topik": "r"}}, r"unknown key 'reward.topik' \(did you mean 'topic'\?\)"),
        ({"reward": {"topic": "r"}}, "key 'reward.type' is missing"),
    ],
)
def test_mistakes_are_one_line_that_names_file_and_key(
    tmp_path: Path, change: dict[str, Any], error: str
) -> None:
    path = write(tmp_path, **change)
    with pytest.raises(ContractError, match=rf"^{path}: .*{error}") as raised:
        load_contract(path)
    assert "\n" not in str(raised.value)


def test_unbounded_actions_are_refused() -> None:
    document = {**ARM, "action": action()}
    del document["action"][0]["fields"][0]["low"]
    with pytest.raises(ValueError, match="action 'data' needs a finite 'low' and 'high'"):
        Contract.model_validate(document)


def observed(**field: Any) -> list[dict[str, Any]]:
    return [{"topic": "odom", "type": "nav_msgs/msg/Odometry", "fields": [field]}]


def test_a_rotation_names_and_bounds_its_numbers(tmp_path: Path) -> None:
    rotation = {"path": "pose.pose.orientation", "rotation": "6d"}
    spec = load_contract(write(tmp_path, observation=observed(**rotation))).policy_spec()
    assert [field.name.split("orientation.")[1] for field in spec.observation] == [
        *("x_axis.x", "x_axis.y", "x_axis.z", "y_axis.x", "y_axis.y", "y_axis.z")
    ]
    assert {(field.low, field.high) for field in spec.observation} == {(-1.0, 1.0)}
    yaw = {**rotation, "rotation": "yaw", "names": ["heading"]}
    (heading,) = (
        load_contract(write(tmp_path, observation=observed(**yaw))).policy_spec().observation
    )
    assert (heading.name, heading.unit, heading.high) == ("heading", "rad", np.pi)
    (heading,) = (
        load_contract(write(tmp_path, observation=observed(**yaw, unit="deg")))
        .policy_spec()
        .observation
    )
    assert (heading.unit, heading.low) == ("deg", -180.0)


def test_angles_as_cosine_and_sine_have_names_and_bounds_and_no_unit(tmp_path: Path) -> None:
    wheels = {"path": "position", "joints": ["left", "right"], "rotation": "cos_sin"}
    spec = load_contract(write(tmp_path, observation=observed(**wheels))).policy_spec()
    assert [field.name for field in spec.observation] == [
        *("odom.position.left.cos", "odom.position.left.sin"),
        *("odom.position.right.cos", "odom.position.right.sin"),
    ]
    assert {(field.unit, field.low, field.high) for field in spec.observation} == {("", -1, 1)}
    joints = [field.source["joint"] for field in spec.observation if field.source]
    assert joints == ["left", "left", "right", "right"]
    by_rad = load_contract(write(tmp_path, observation=observed(**wheels, message_unit="rad")))
    assert by_rad.policy_spec().observation == spec.observation
    heading = {"path": "theta", "rotation": "cos_sin"}
    spec = load_contract(write(tmp_path, observation=observed(**heading))).policy_spec()
    assert [field.name for field in spec.observation] == ["odom.theta.cos", "odom.theta.sin"]


def test_a_slice_is_its_indices(tmp_path: Path) -> None:
    covariance = {"path": "pose.covariance"}
    by_slice = load_contract(write(tmp_path, observation=observed(**covariance, slice="0:7:2")))
    indices = load_contract(
        write(tmp_path, observation=observed(**covariance, indices=[0, 2, 4, 6]))
    )
    assert by_slice.observation[0].fields[0].indices == (0, 2, 4, 6)
    assert by_slice.policy_spec() == indices.policy_spec()
    assert by_slice.hash() == indices.hash()


def test_constants_are_observed_by_name_or_sent_to_a_path(tmp_path: Path) -> None:
    constant = {"constant": 0.3, "names": ["payload"], "unit": "kg"}
    commands = action()
    commands[0]["fields"].append({"path": "layout.data_offset", "constant": 1})
    contract = load_contract(
        write(tmp_path, observation=[*observed(path="x"), *ARM["observation"]], action=commands)
    )
    assert contract.action[0].width == 2
    assert len(contract.policy_spec().action) == 2
    document = observed(path="x")
    document[0]["fields"].append(constant)
    spec = load_contract(write(tmp_path, observation=document)).policy_spec()
    assert [(field.name, field.unit) for field in spec.observation][1] == ("payload", "kg")


def test_default_values_may_be_written_out_without_changing_the_hash(tmp_path: Path) -> None:
    stream = {**ARM["observation"][0], "unnamed": "refuse", "max_skew_s": 60.0}
    spelled = write(
        tmp_path, observation=[stream, ARM["observation"][1]], tick="grid", nonfinite="refuse"
    )
    assert load_contract(spelled).hash() == load_contract(ARM_FILE).hash()
    guardless = {**stream, "max_skew_s": None}
    contract = load_contract(write(tmp_path, observation=[guardless]))
    assert contract.observation[0].max_skew_ns is None


def test_rewards_may_be_a_weighted_sum_and_ends_a_predicate(tmp_path: Path) -> None:
    near, cost = (
        {"function": "m:near", "weight": 2.0},
        {"function": "m:cost", "arguments": {"a": 1}},
    )
    predicate = {"function": "m:there", "arguments": {"radius": 0.1}}
    contract = load_contract(
        write(tmp_path, reward=[near, cost], episode={"terminated": predicate})
    )
    assert [each.weight for each in contract.reward_functions] == [2.0, 1.0]
    assert isinstance(contract.episode.terminated, Predicate)
    assert contract.signals == {}
    single = load_contract(write(tmp_path, reward=near))
    assert [each.function for each in single.reward_functions] == ["m:near"]
    topic = load_contract(ARM_FILE)
    assert topic.reward_functions == ()
    assert isinstance(topic.reward, RewardTopic)
    assert (topic.reward.tick, topic.reward.combine) == ("ended", "sum")


def test_events_are_topics_of_messages_or_services(tmp_path: Path) -> None:
    start = {"topic": "start", "type": "std_srvs/srv/Trigger_Event"}
    stop = {"topic": "state", "type": "std_msgs/msg/String", "path": "data", "equals": "idle"}
    contract = load_contract(write(tmp_path, episode={"start": start, "stop": stop}))
    assert list(contract.events) == ["start", "stop"]
    assert contract.events["stop"].equals == "idle"


@pytest.mark.parametrize(
    ("equals", "problem"),
    [
        ([], "episode.during.equals: is empty; it needs an entry"),
        ([1, "a"], "episode.during.equals: 'equals' must list either texts or numbers and flags"),
        ([1, [2]], "episode.during.equals.1: must be true or false, a number or text"),
        ({}, "episode.during.equals: must be true or false, a number, text or a list"),
    ],
)
def test_what_cannot_be_compared_with_is_told_once(
    tmp_path: Path, equals: Any, problem: str
) -> None:
    state = {"topic": "mode", "type": "std_msgs/msg/Int32", "path": "data", "equals": equals}
    assert contract_problems(write(tmp_path, episode={"during": state})) == [problem]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"low": "abc"}, "key 'KEY.low' is 'abc': must be a number or a list of numbers"),
        (
            {"low": ["abc"]},
            "key 'KEY.low.0' is 'abc': Input should be a valid number, unable to parse string as "
            "a number",
        ),
        (
            {"offset": "fist"},
            "key 'KEY.offset' is 'fist': must be 'first', a number or a list of numbers",
        ),
        ({"offset": float("inf")}, "key 'KEY.offset' is inf: Input should be a finite number"),
        ({"offset": [1.0, 2.0]}, "KEY: 'offset' has 2 entries for 1 fields"),
        ({"scale": 0}, "KEY: 'scale' must not be 0, which makes all numbers the same"),
        (
            {"rotation": "yaw", "offset": "first"},
            "KEY: 'offset' and 'scale' are for numbers as they are, not for a rotation",
        ),
        ({"names": 3}, "key 'KEY.names' is 3: must be a list"),
        (
            {"path": "a[b"},
            "KEY: 'path' is 'a[b': write list[key=value] for the element of a name, as in "
            "transforms[child_frame_id=tool0].transform.translation.x",
        ),
    ],
)
def test_a_wrong_key_of_a_field_is_told_once(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path, observation=observed(**{"path": "a", **changes}))
    assert contract_problems(path) == [problem.replace("KEY", "observation.0.fields.0")]


def test_a_path_that_lacks_its_quotes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("fields: [{path: pose[name=box].position.x}]")
    with pytest.raises(
        ContractError, match=r"within \{\.\.\.\} a path with \[\.\.\.\] needs quotes"
    ):
        load_contract(path)
    path.write_text("fields: [{path: 'pose[name=box].position.x'")
    with pytest.raises(ContractError) as raised:
        load_contract(path)
    assert "quotes" not in str(raised.value)


def test_a_command_has_no_first_value_to_be_less() -> None:
    problem = "'offset: first' is for observations; a command that is sent needs a number"
    with pytest.raises(ValueError, match=problem):
        Contract.model_validate({**ARM, "action": action(offset="first")})


@pytest.mark.parametrize(
    ("field", "usual", "other"),
    [
        ({"path": "position", "joints": ["a"]}, "skip", "refuse"),
        ({"path": "pose[name=a].position.x"}, "skip", "refuse"),
        ({"path": "data", "indices": [0]}, "refuse", "skip"),
    ],
)
def test_only_an_unusual_when_absent_changes_the_hash(
    tmp_path: Path, field: dict[str, Any], usual: str, other: str
) -> None:
    def with_key(**keys: str) -> Contract:
        (stream,) = observed(**field)
        return load_contract(write(tmp_path, observation=[{**stream, **keys}]))

    silent = with_key()
    assert silent.observation[0].skips_absent is (usual == "skip")
    assert with_key(when_absent=usual).hash() == silent.hash()
    assert with_key(when_absent=other).hash() != silent.hash()
    assert with_key(when_absent=other).observation[0].skips_absent is (other == "skip")


def test_signals_say_nothing_in_messages_without_the_name_unless_they_are_refused() -> None:
    flag = {"topic": "t", "type": "a/msg/B", "path": "status[name=arm].level"}
    assert FlagStream.model_validate(flag).skips_absent
    assert not FlagStream.model_validate({**flag, "when_absent": "refuse"}).skips_absent
    assert not FlagStream.model_validate({**flag, "path": "status.0.level"}).skips_absent
    usual = FlagStream.model_validate({**flag, "when_absent": "skip"})
    assert usual.model_dump(exclude_defaults=True) == flag


def test_slices_that_select_too_much_together_are_soon_refused(tmp_path: Path) -> None:
    (stream,) = observed(path="a")
    stream["fields"] = [{"path": f"a{i}", "slice": "0:100000"} for i in range(500)]
    before = time.process_time()
    with pytest.raises(ContractError, match="the slices select 50000000 elements together"):
        load_contract(write(tmp_path, observation=[stream]))
    stream["fields"] = stream["fields"][:1]
    contract = load_contract(write(tmp_path, observation=[{**stream, "stamp": "receive"}]))
    assert len(contract.policy_spec().observation) == 100_000
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    ("found", "equals", "raises"),
    [
        (True, None, True),
        (0.0, None, False),
        (3, 3.0, True),
        (3, 4, False),
        (1.0, True, True),
        (False, False, True),
        ("run", "run", True),
        ("run", "stop", False),
        ("1", 1, False),
        (1, "1", False),
        (2, (1, 2), True),
        (3, (1, 2), False),
        ("b", ("a", "b"), True),
        (1, ("a", "1"), False),
        ("", None, False),
    ],
)
def test_a_message_matches_by_truth_or_by_equality(
    found: object, equals: bool | float | str | None, raises: bool
) -> None:
    assert matches(found, equals) is raises


SEVERAL: list[Any] = [[0, 1], [True, 2], ["", "running"], [1, 2.5]]


@pytest.mark.parametrize("equals", [None, True, False, 3, 0, "running", 0.5, "", *SEVERAL])
def test_a_flag_is_sent_so_that_it_is_understood(equals: Any) -> None:
    flag = FlagStream(topic="f", type="std_msgs/msg/Bool", equals=equals)
    for raised in (True, False):
        assert matches(flag.value_of(raised), flag.equals) is raised


ORIENTATION = {"path": "pose.pose.orientation", "rotation": "6d"}

START = {"topic": "start", "type": "std_msgs/msg/Bool"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tick": "gird"}, "key 'tick' is 'gird'"),
        ({"nonfinit": "drop"}, r"unknown key 'nonfinit' \(did you mean 'nonfinite'\?\)"),
        ({"observation": observed(indices=[0])}, "'path' is missing"),
        ({"observation": observed(path="a", slice="0:")}, "'slice' is '0:': write start:stop"),
        ({"observation": observed(path="a", slice="0:3:0")}, "write start:stop"),
        ({"observation": observed(path="a", slice="3:3")}, "selects 0 elements"),
        ({"observation": observed(path="a", slice="0:999999999")}, "selects 999999999 elements"),
        ({"observation": observed(path="a", slice=f"0:{'9' * 30}")}, "write start:stop"),
        ({"observation": observed(path="a", slice="0:2", indices=[1])}, "give one of 'joints'"),
        ({"rate_hz": 1e-300}, "rate_hz is 1e-300: a control rate is 0.001 Hz or more"),
        (
            {"action": [{**ARM["action"][0], "max_age_s": 1e300}]},
            "less than or equal to 1000000000",
        ),
        ({"observation": observed(**ORIENTATION, indices=[0, 1])}, "needs a quaternion"),
        ({"observation": observed(**ORIENTATION, unit="rad")}, "have no 'unit'"),
        ({"observation": observed(**ORIENTATION, message_unit="rad")}, "no 'message_unit'"),
        ({"observation": observed(**ORIENTATION, quaternion_order="wxyz")}, "is for arrays"),
        ({"observation": observed(path="a", quaternion_order="wxyz")}, "fields with 'rotation'"),
        (
            {"observation": observed(**{**ORIENTATION, "rotation": "yaw"}, unit="m")},
            "'rad' cannot",
        ),
        (
            {"observation": observed(path="a", rotation="cos_sin", unit="rad")},
            "have no 'unit'; that of the angle is 'message_unit'",
        ),
        (
            {"observation": observed(path="a", rotation="cos_sin", message_unit="m")},
            "'message_unit': 'm' cannot be converted to 'rad'",
        ),
        (
            {"observation": observed(path="a", rotation="cos_sin", offset="first")},
            "not for a rotation",
        ),
        (
            {"observation": observed(path="a", rotation="cos_sin", quaternion_order="wxyz")},
            "'rotation' of a quaternion",
        ),
        (
            {
                "observation": [
                    {
                        "tf": {"parent": "map", "child": "base"},
                        "fields": [{"rotation": "cos_sin"}],
                    }
                ]
            },
            "a transform has a quaternion: take '6d'",
        ),
        (
            {"action": action(rotation="cos_sin", names=[], unit="", low=-1.0, high=1.0)},
            "'rotation: cos_sin' is for observations: of a command",
        ),
        (
            {"observation": observed(path="a", message_unit="deg", unit="m")},
            "'deg' cannot be conv",
        ),
        (
            {"observation": observed(path="a", message_unit="degg", unit="rad")},
            "unknown unit 'degg'",
        ),
        ({"observation": observed(constant=1.0)}, "a constant needs 'names', or"),
        ({"observation": observed(constant=1.0, path="a")}, "comes from no message"),
        ({"observation": observed(constant=1.0, names=["c"], indices=[1])}, "without 'path' has"),
        ({"observation": observed(constant=1.0, **ORIENTATION)}, "'constant' or 'rotation'"),
        ({"action": action(constant=1.0)}, "take its 'names' out"),
        ({"action": action(constant=1.0, names=[])}, "must not be a constant"),
        (
            {
                "action": action(
                    path="", indices=[], constant=1.0, low=[-1.0, -1.0], high=[1.0, 1.0]
                )
            },
            "needs the 'path' that it is sent to",
        ),
        ({"reward": []}, "reward"),
        (
            {"reward": [{"function": "m:f", "wieght": 2}]},
            "unknown key 'reward.0.wieght' .*'weight'",
        ),
        (
            {"reward": {"topic": "r", "type": "a/msg/B", "equals": 1}},
            "unknown key 'reward.equals'",
        ),
        ({"episode": {"start": START, "during": START}}, "give 'during', or 'start' and 'stop'"),
        ({"episode": {"during": START}}, "'during' needs the 'path'"),
        ({"episode": {"start": {**START, "equals": 1}}}, "'equals' needs a 'path'"),
        (
            {"episode": {"start": {**START, "type": "a/srv/B"}}},
            "key 'episode.start.type' is 'a/srv/B'",
        ),
        (
            {"episode": {"terminated": {"function": "m:f", "argument": {}}}},
            "did you mean 'arguments'",
        ),
        ({"episode": {"terminated": {"topik": "t"}}}, "did you mean 'topic'"),
    ],
)
def test_mistakes_in_the_data_path_are_one_line(
    tmp_path: Path, change: dict[str, Any], error: str
) -> None:
    path = write(tmp_path, **change)
    with pytest.raises(ContractError, match=rf"^{path}: .*{error}") as raised:
        load_contract(path)
    assert "\n" not in str(raised.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert contract_problems(ARM_FILE) == []
    path = write(
        tmp_path,
        rate=5,
        observation=observed(path="x", indices=[0, 0, -1], names=["a"]),
        action=action(low=3.0),
        episode={"terminated": {"topic": "t", "type": "Bool"}},
    )
    problems = "\n".join(contract_problems(path))
    for words in (
        "unknown key 'rate' (did you mean 'rate_hz'?)",
        "'indices' must not name an element twice",
        "'indices' count from 0",
        "'names' has 1 entries for 3 fields",
        "'low' must be below 'high'",
        "key 'episode.terminated.type' is 'Bool'",
    ):
        assert words in problems
    path = write(
        tmp_path,
        observation=[*ARM["observation"][:1], *ARM["observation"][:1]],
        on_fault={"command": [0.0]},
    )
    found = contract_problems(path)
    assert len(found) == len(set(found)) == 6
    assert found[-1] == "on_fault.command has 1 entries for 2 action fields"


JOINTS = {"joints": ["a"], "low": -1, "high": 1}


@pytest.mark.parametrize(
    ("fields", "others", "takes"),
    [
        ([{"path": "points.0.positions", **JOINTS}], {}, True),
        (
            [
                {"path": "points.0.positions", **JOINTS},
                {"path": "header.frame_id", "constant": "base"},
            ],
            {},
            True,
        ),
        ([{"path": f"points.{place}.positions", **JOINTS} for place in (0, 1)], {}, False),
        (
            [
                {"path": "points.0.positions", **JOINTS},
                {"path": "points.0.time_from_start.sec", "constant": 1},
            ],
            {},
            False,
        ),
        (
            [{"path": "points.0.positions", **JOINTS}],
            {
                "send_as": {
                    "action": "follow",
                    "type": "control_msgs/action/FollowJointTrajectory",
                }
            },
            False,
        ),
        ([{"path": "velocity", **JOINTS}], {"type": "sensor_msgs/msg/JointState"}, False),
    ],
)
def test_a_trajectory_of_one_point_takes_chunks(
    fields: list[dict[str, Any]], others: dict[str, Any], takes: bool
) -> None:
    document = {"topic": "t", "type": "trajectory_msgs/msg/JointTrajectory", "fields": fields}
    assert ActionStream.model_validate(document | others).takes_chunks == takes
