import json

import numpy as np
import pytest

from dql_core.data.dataset import Episode
from dql_core.data.precision import Precision, PrecisionRow
from dql_core.errors import BagError
from dql_ros.convert.bag_result import BagResult, SkippedRow
from dql_ros.convert.report.document import make_report
from dql_ros.convert.report.field_statistics import DatasetStatistics
from tests.ros.convert.report_sample import arm, episodes, eventful, part, report

FAILED = BagResult(bag="bags/broken", error="bags/broken: holds no message; record it again")


@pytest.mark.parametrize("each", [part("bags/a"), eventful(), FAILED, BagResult(bag="b")])
def test_a_result_survives_json(each: BagResult) -> None:
    document = json.loads(json.dumps(each.to_json(), allow_nan=False))
    assert BagResult.from_json(document) == each
    assert BagResult.from_json(document).to_json() == each.to_json()


def test_a_result_of_another_version_is_refused_in_one_line() -> None:
    with pytest.raises(BagError, match=r"^results/3\.json: unknown key 'episode'.*'episodes'"):
        BagResult.from_json({"bag": "a", "episode": []}, "results/3.json")
    with pytest.raises(BagError, match=r"^result: key 'bag' is missing"):
        BagResult.from_json({})


def test_an_episode_row_has_the_keys_of_the_report() -> None:
    row, _ = report([part("bags/a")])["episodes"]
    assert list(row) == [
        "bag",
        "from_s",
        "to_s",
        "length",
        "return",
        "terminated",
        "truncated",
        "ending",
        "outcome",
    ]


def test_totals_are_sums_over_the_bags_that_were_converted() -> None:
    made = report([part("bags/a"), eventful(), part("bags/b", lengths=()), FAILED])
    assert made["totals"] == {
        "bags": 4,
        "failed_bags": 1,
        "messages": 1200,
        "recorded_s": 4.5 + 4.5 + 0.0,
        "episodes": 4,
        "transitions": 100,
        "terminated": 2,
        "truncated": 2,
        "mean_length": 25.0,
        "mean_return": -25.0,
        "gaps": 6,
        "losses": 1,
        "dropped_ticks": 4,
        "nonfinite_splits": 1,
        "clock_splits": 0,
        "clipped_actions": 7,
        "by_index_messages": 60,
        "absent_messages": 0,
        "success": 0,
        "failure": 0,
        "discarded": 0,
    }
    assert made["failed"] == [{"bag": FAILED.bag, "error": FAILED.error}]
    assert [bag["bag"] for bag in made["bags"]] == ["bags/a", "bags/eventful", "bags/b"]
    assert [(bag["episodes"], bag["transitions"]) for bag in made["bags"]] == [
        (2, 50),
        (2, 50),
        (0, 0),
    ]
    assert list(made["bags_sha256"]) == ["bags/a", "bags/eventful", "bags/b"]
    assert [row["bag"] for row in made["episodes"]] == ["bags/a"] * 2 + ["bags/eventful"] * 2


def test_endings_are_counted() -> None:
    made = report([part("bags/a", lengths=(3, 4, 5)), part("bags/b", lengths=(3,))])
    assert made["endings"] == [
        {
            "ending": "no /joint_states for too long",
            "terminated": False,
            "truncated": True,
            "episodes": 2,
        },
        {"ending": "terminated", "terminated": True, "truncated": False, "episodes": 2},
    ]


def test_actions_are_told_as_recorded_and_as_in_the_dataset() -> None:
    first, second = report([part("bags/a"), eventful()])["action"]
    assert (first["clipped"], first["recorded_min"], first["recorded_max"]) == (2, -7.0, 1.0)
    assert (second["clipped"], second["recorded_min"], second["recorded_max"]) == (5, -1.0, 9.0)
    assert -1.0 <= first["min"] < first["max"] <= 1.0


def test_remarks_tell_what_must_not_be_overlooked() -> None:
    remarks = report([eventful(), part("bags/b", lengths=()), FAILED])["remarks"]
    for expected in (
        "1 of 3 bags could not be converted.",
        "bags/b gave no episode.",
        "bags/eventful: eventful_0.mcap: a chunk is cut off; an unknown number of messages are "
        "lost.",
        "bags/eventful: metadata.yaml names other files",
        "bags/eventful: nav2_msgs: nobody defines its Costmap, so that 12 messages on /map cannot "
        "be decoded; name a folder that has the package's .msg files, with --msgs.",
        "1 episode ends because a topic or value was missing (see the table of episodes).",
        "1 episode was split where a needed number was not finite.",
        "4 ticks were dropped because a needed number was not finite.",
        "7 action values lay beyond the contract's bounds and were clipped.",
        "60 messages named no joints and were read by position, as the contract allows.",
    ):
        assert expected in remarks
    assert len(set(remarks)) == len(remarks)


def test_a_faultless_conversion_has_no_remark() -> None:
    assert report([part("bags/a", lengths=(30,))])["remarks"] == []


def test_remarks_follow_the_contract() -> None:
    widened = report([eventful()], arm(beyond_bounds="widen"))["remarks"]
    assert any("beyond the contract's bounds and widened the bounds." in one for one in widened)
    imitated = report([part("bags/a", lengths=(9,))], arm(reward=None))["remarks"]
    assert imitated == [
        "The contract names no reward: all rewards are 0, and only imitation can be learned "
        "(agent: diffusion_bc)."
    ]
    rows = part("bags/a", lengths=(9,)).episodes
    endless = rows[0].model_copy(update={"terminated": False, "truncated": True, "ending": "stop"})
    told = report([part("bags/a", episodes=(endless,))])["remarks"]
    assert told == [
        "The contract says what ends the task, and it never happened: no episode is terminated."
    ]


def test_rewards_and_fields_that_never_change_are_told() -> None:
    contract = arm()
    spec = contract.policy_spec()
    varied, constant = rounding(0.0, 0.9), rounding(0.5, 0.5, changes=0)
    observed = (varied, constant, *[varied] * (len(spec.observation) - 2))
    parts = [part("bags/a", lengths=(9,), observed=observed)]
    (made,) = episodes(contract, parts)
    flat = Episode(made.observations, made.actions, np.zeros(9), True, False)
    fields = DatasetStatistics.of(spec, lambda: [flat])
    remarks = make_report(contract, "arm.yaml", "/", parts, fields)["remarks"]
    assert remarks == [
        "Every reward is 0: no action is better than another.",
        f"{spec.observation[1].name} never changes: it is 0.5 throughout.",
    ]


def rounding(low: float, high: float, changes: int = 9) -> PrecisionRow:
    """A field that changes by even steps, which rounding does not touch."""
    step = high - low
    return PrecisionRow(
        low=low,
        high=high,
        changes=changes,
        kept=changes,
        sum_of_changes=step,
        sum_of_errors=0.0,
        largest_change=step / changes if changes else 0.0,
        count=10,
    )


def test_fields_that_rounding_blurs_are_told_with_the_remedy_not_as_constant() -> None:
    north = np.linspace(5_400_000.0, 5_400_000.8, 41)[:, None]
    measured = Precision(1)
    measured.add(north, north.astype(np.float32))
    (row,) = measured.rows()
    observed = (row, *[rounding(0.0, 1.0)] * 5)
    parts = [part("bags/a", observed=observed), part("bags/b", observed=observed)]
    made = report(parts)
    name = arm().policy_spec().observation[0].name
    (told,) = [text for text in made["remarks"] if text.startswith(name)]
    assert told == (
        f"{name}: float32 blurs it: at 5400000.8 its resolution is 0.5, the field changes by "
        f"0.02 at a time and 0.8 in all, and 4 of 80 changes are left; set 'offset: first' or "
        f"'offset: 5400000' for it in the contract."
    )
    assert made["observation"][0]["rounding"] == {
        "resolution": 0.5,
        "changes": 80,
        "kept_changes": 4,
        "mean_change": pytest.approx(0.02),
        "blurred": True,
    }
    assert not made["observation"][1]["rounding"]["blurred"]


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ([0.0, 0.0, *np.linspace(48.5, 48.5000004, 41)], "'offset: 48.5000004'"),
        ([0.0, 0.0, *np.linspace(-122.5, -122.5000004, 41)], "'offset: -122.5000004'"),
        ([*np.linspace(5.4e6, 5.4e6 + 0.8, 41), 5.401e6], "'offset: 5401000'"),
    ],
    ids=["no position yet", "the same, negative", "another site"],
)
def test_a_jump_does_not_hide_that_rounding_blurs_a_field(
    values: list[float], remedy: str
) -> None:
    column = np.array(values)[:, None]
    measured = Precision(1)
    measured.add(column, column.astype(np.float32))
    (row,) = measured.rows()
    assert row.is_blurred
    parts = [part("bags/a", observed=(row, *[rounding(0.0, 1.0)] * 5))]
    name = arm().policy_spec().observation[0].name
    (told,) = [text for text in report(parts)["remarks"] if text.startswith(name)]
    assert f"; set {remedy} for it in the contract" in told
    offset = float(remedy.split()[1].strip("'"))
    mended = Precision(1)
    mended.add(column - offset, (column - offset).astype(np.float32))
    assert not mended.rows()[0].is_blurred


def test_noise_below_the_resolution_of_a_field_that_rests_and_moves_is_not_told() -> None:
    rests = 1.0 + 1e-9 * (np.arange(200) % 2)
    column = np.concatenate([rests, np.linspace(1.0, 1.3, 20)])[:, None]
    measured = Precision(1)
    measured.add(column, column.astype(np.float32))
    assert not measured.rows()[0].is_blurred


def test_messages_that_were_skipped_and_stops_are_told() -> None:
    one = part("bags/a", lengths=(9,))
    state, command = (each.model_dump() for each in one.topics)
    topics = ({**state, "absent": 40}, {**command, "ended": 1})
    made = report([part("bags/a", lengths=(9,), topics=topics)])
    assert made["remarks"] == [
        "bags/a: /joint_states: 40 of 100 messages were skipped: they have not got what the "
        "contract selects (observation).",
        "bags/a: /commands: 1 trajectory without points ended the command.",
    ]
    assert made["totals"]["absent_messages"] == 40


def test_stamps_that_cannot_be_trusted_are_told_once_a_topic() -> None:
    one = part("bags/a", lengths=(9,))
    stamps = {"backwards": 2, "duplicate": 0, "zero": 7}
    odd = {**one.topics[0].model_dump(), "stamps": stamps}
    remarks = report([part("bags/a", lengths=(9,), topics=(odd, {**odd, "role": "action"}))])
    assert remarks["remarks"] == [
        "bags/a: /joint_states: 2 header stamps went backwards.",
        "bags/a: /joint_states: 7 header stamps were zero.",
    ]


def test_equal_inputs_give_equal_reports_and_json_keeps_them() -> None:
    parts = [part("bags/a"), eventful(), FAILED]
    made = report(parts)
    assert made == report([BagResult.from_json(each.to_json()) for each in parts])
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_a_conversion_without_an_episode_can_be_told_too() -> None:
    made = report([FAILED, part("bags/b", lengths=())])
    assert (made["totals"]["episodes"], made["totals"]["mean_return"]) == (0, None)
    assert made["observation"][0]["min"] is None
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_the_report_carries_contract_and_versions() -> None:
    contract = arm()
    made = report([part("bags/a")])
    assert made["contract_hash"] == contract.hash()
    assert "robot:" in made["contract_text"]
    assert {"dql_ros", "rosbags", "mcap", "minari", "numpy", "python"} == set(made["versions"])


@pytest.mark.parametrize(("lost_s", "is_told"), [(2.4, False), (9.0, True)])
def test_much_that_follows_the_end_of_a_task_is_told(lost_s: float, is_told: bool) -> None:
    after = SkippedRow(from_s=5.0, to_s=5.0 + lost_s, reason="after the end of the task")
    told = [
        text
        for text in report([part("bags/a", left_out=(after,))])["remarks"]
        if "after the end of the task" in text
    ]
    assert bool(told) == is_told
    for text in told:
        assert text.startswith("9.0 s after the end of the task are left out, and the episodes ")
        assert "have 2.5 s: nothing said that another attempt began" in text
