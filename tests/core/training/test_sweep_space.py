"""What may be searched: every value keeps its key's rule, and no key moves the ruler."""

from pathlib import Path

import pytest

from dql_core.config import TrainConfig, changed_config
from dql_core.errors import ConfigError
from dql_core.training.sweep.space import Range, Space, assignments, compared, invalid, steps_of

JUDGED = changed_config(TrainConfig(), ["validation.held_out=0.2", "validation.rule=judge"])
TD = changed_config(JUDGED, ["validation.rule=td_error"])


def read(tmp_path: Path, text: str, base: TrainConfig = JUDGED) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return Space.read(path, base)


def test_a_space_has_ranges_and_lists(tmp_path: Path) -> None:
    space = read(
        tmp_path,
        "policy.learning_rate: {low: 1e-4, high: 3e-3, log: true}\n"
        "policy.eta: [1e-1, 2]\n"
        "critic.num_critics: {low: 2, high: 6, step: 2}\n",
    )
    rate = space.keys["policy.learning_rate"]
    assert isinstance(rate, Range)
    assert (rate.low, rate.high, rate.log, rate.is_integer, rate.values) == (
        *(1e-4, 3e-3, True, False),
        None,
    )
    assert space.keys["policy.eta"] == (0.1, 2)
    critics = space.keys["critic.num_critics"]
    assert isinstance(critics, Range)
    assert critics.values == (2, 4, 6)
    assert space.holds({"policy.learning_rate": 1e-3, "policy.eta": 2, "critic.num_critics": 4})
    assert not space.holds(
        {"policy.learning_rate": 1e-2, "policy.eta": 2, "critic.num_critics": 4}
    )
    assert space.configurations(1000) is None


def test_a_small_space_has_so_many_configurations(tmp_path: Path) -> None:
    space = read(tmp_path, "policy.width: {low: 8, high: 9}\npolicy.gradient_clip: [null, 5.0]\n")
    every = space.configurations(4)
    assert every is not None
    assert {tuple(each.items()) for each in every} == {
        (("policy.width", width), ("policy.gradient_clip", clip))
        for width in (8, 9)
        for clip in (None, 5.0)
    }
    assert space.configurations(3) is None
    values = changed_config(JUDGED, assignments(every[0])).policy
    assert (values.width, values.gradient_clip) == (8, None)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{}", "names no key; write, for example: policy.eta:"),
        ("", "names no key; write, for example: policy.eta:"),
        ("# nothing yet\n", "names no key; write, for example: policy.eta:"),
        ("[]", "names no key; write, for example: policy.eta:"),
        ("policy.etta: [0.1, 1.0]", r"space\.yaml: unknown key 'policy\.etta'"),
        ("policy.lerning_rate: [1e-3]", "lerning_rate. .did you mean .learning_rate"),
        ("eta: [0.1, 1.0]", r"unknown key 'eta' \(did you mean 'policy\.eta'"),
        ("policy:\n  eta: [0.1, 1.0]", r"policy: is a section: write policy\.eta: \[0\.1, 1\.0\]"),
        (
            "policy:\n  eta: {low: 1e-1, high: 1.0}",
            r"write policy\.eta: \{low: 1e-1, high: 1\.0\}",
        ),
        ("policy:", r"policy: is a section: write policy\.KEY: \["),
        ("policy.eta: [0.1, -1.0]", r"policy\.eta=-1\.0: key .policy\.eta. is -1\.0"),
        ("policy.eta: 0.1", "must be|should be"),
        ("policy.eta: [0.1]", "policy.eta: must be different values, two or more"),
        ("policy.eta: [0.1, 0.1]", "must be different values"),
        ("policy.eta: [1, 1.0]", "must be different values"),
        ("policy.eta: [true, 1.0]", "must be different values"),
        ("policy.eta: [.inf, 1.0]", "policy.eta: must be finite values"),
        ("'policy.eta ': [0.1, 1.0]\npolicy.eta: [0.2, 1.0]", "is no key: write section.key"),
        ("'run.seed ': [1, 2]", "is no key: write section.key"),
        ('"policy.et\\na": [0.1, 1.0]', "is no key: write section.key"),
        ("policy.eta: {low: 1.0, high: 0.5}", "low must be below high; write {low: 0.1"),
        ("policy.eta: {low: 1.0, high: .inf}", "low must be below high"),
        ("policy.eta: {low: 0.0, high: 0.5, log: true}", "log needs a low above 0"),
        ("policy.eta: {low: 0.1, high: 0.5, step: 0.3}", "a number of steps above low"),
        ("policy.eta: {low: 0.1, high: 1.0, step: .inf}", "a number of steps above low"),
        ("policy.eta: {low: 0.0, high: 1.0e+100, step: 1.0e-300}", "a number of steps above low"),
        ("policy.eta: {low: -1.0e+308, high: 1.0e+308}", "low must be below high"),
        ("policy.width: {low: 8, high: 16, step: 0.5}", "is an integer"),
        ("policy.eta: {low: true, high: 2}", "policy.eta.low"),
        ("policy.eta: {low: 0.1, hihg: 0.5}", "policy.eta"),
        ("policy.learning_rate: {low: 0.0, high: 0.1}", r"policy\.learning_rate=0\.0"),
        ("policy.width: [wide, 8]", r"policy\.width="),
        ("policy.width: {low: 8.0, high: 16.0}", r"policy\.width=11\.05"),
        ("run.steps: {low: 1e3, high: 2e3}", r"run\.steps=1381\.96"),
        ("policy: [1, 2]", "policy"),
        ("run.seed: [1, 2]", "run.seed: cannot be searched: it decides which episodes"),
        ("validation.held_out: [0.1, 0.2]", "cannot be searched: it decides what is measured"),
        ("preset: [paper, null]", "its keys are settled"),
        ("critic.discount: [0.9, 0.99]", "cannot be searched with validation.rule=judge"),
        ("3: [0.9, 0.99]", "3"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong) as refusal:
        read(tmp_path, text)
    assert str(tmp_path / "space.yaml") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_errors_are_not_compared_across_other_rewards_or_targets(tmp_path: Path) -> None:
    text = "data.reward_scale: [0.1, 1.0]\n"
    assert read(tmp_path, text).keys
    with pytest.raises(ConfigError, match="compare trials by --set"):
        read(tmp_path, text, TD)
    rolled_out = changed_config(TD, ["evaluation.env=Pendulum-v1"])
    assert read(tmp_path, text + "critic.discount: [0.9, 0.99]\n", rolled_out).keys


def test_a_horizon_is_searched_where_chunks_do_not_change_what_is_measured(tmp_path: Path) -> None:
    text = "policy.horizon: [1, 4]\n"
    assert len(read(tmp_path, text).configurations(2) or ()) == 2
    steps = [
        changed_config(JUDGED, [f"policy.horizon={horizon}"]).data.n_step for horizon in (1, 4)
    ]
    assert steps == [10, 1]  # as where it is trained alone
    stated = changed_config(JUDGED, ["data.n_step=10"])
    with pytest.raises(ConfigError, match=r"data.n_step: 10: with policy.horizon: 4"):
        read(tmp_path, text, stated)
    # Of a truncated episode's last steps chunks have no errors, and single actions have.
    values = changed_config(JUDGED, ["validation.rule=value_error"])
    with pytest.raises(ConfigError, match=r"cannot be searched with validation.rule=value_error"):
        read(tmp_path, text, values)


def test_a_value_that_needs_another_key_is_searched_with_it_alone(tmp_path: Path) -> None:
    alone = "agent: [diffusion_ql, td3_bc]\n"
    limited = changed_config(JUDGED, ["policy.max_imitation_ratio=2"])
    with pytest.raises(ConfigError, match="max_imitation_ratio"):
        read(tmp_path, alone, limited)
    space = read(tmp_path, alone + "policy.max_imitation_ratio: [2.0, null]\n", limited)
    assert "max_imitation_ratio" in invalid(
        limited, {"agent": "td3_bc", "policy.max_imitation_ratio": 2.0}
    )
    assert not invalid(limited, {"agent": "td3_bc", "policy.max_imitation_ratio": None})
    assert len(space.configurations(4) or ()) == 4


def test_the_longest_trial_is_known(tmp_path: Path) -> None:
    space = read(tmp_path, "run.steps: {low: 10, high: 30}\n")
    assert space.most_steps(JUDGED) == 30
    assert steps_of(JUDGED, {"run.steps": 20}) == 20
    assert read(tmp_path, "policy.eta: [1, 2]").most_steps(JUDGED) == JUDGED.run.steps


def test_trials_are_judged_unless_something_else_is_said() -> None:
    usual = TrainConfig()
    held_out = changed_config(usual, ["validation.held_out=0.2"])
    with pytest.raises(ConfigError, match=r"add --set validation\.held_out=0\.2, or roll"):
        compared(usual, is_stated=False, to_hold_out=0.2)
    with pytest.raises(ConfigError, match="too few to hold some out: record more, or roll"):
        compared(usual, is_stated=False)
    assert compared(held_out, is_stated=False) == JUDGED
    assert compared(TD, is_stated=True) is TD
    with pytest.raises(ConfigError, match="cannot be compared: set it to judge"):
        compared(held_out, is_stated=True)
    rolled_out = changed_config(usual, ["evaluation.env=Pendulum-v1"])
    assert compared(rolled_out, is_stated=False) is rolled_out
