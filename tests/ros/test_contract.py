from pathlib import Path
from typing import Any

import pytest
import yaml

from dql_core.errors import ContractError
from dql_ros.contract import Contract, load_contract, resolve_topic

CONTRACTS = sorted((Path(__file__).parents[2] / "config" / "contracts").glob("*.yaml"))
ARM_FILE = Path(__file__).with_name("arm.yaml")
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
    function = {"function": "dql_ros.rewards:negative_distance"}
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
        ("joint_states", "/left/arm/", "/left/arm/joint_states"),
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
