"""The rules by which a configuration is derived from the data, one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.config import TrainConfig, load_config, stated_config
from dql_core.data.checks import check_dataset
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.return_range import recorded_returns
from dql_core.data.reward_transforms import fit_rewards
from dql_core.data.transitions import split_episodes
from dql_core.errors import ConfigError, DatasetError
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.derived import Derivation, derive
from dql_core.training.preparation import TrainingData, require_meaningful_split


def robot_log(
    lengths: Sequence[int], rewards: Any = None, *, rate_hz: float = 0.0, source: str = "log"
) -> LoadedDataset:
    """Return episodes of these lengths; rewards are drawn from 0 to 1, or all as given."""
    rng = np.random.default_rng(0)
    spec = PolicySpec(
        "robot", rate_hz, (FieldSpec("angle", "rad"),), (FieldSpec("torque", "N m", -1.0, 1.0),)
    )

    def episode(length: int) -> Episode:
        earned: NDArray[np.float64] = rng.uniform(0.0, 1.0, length)
        return Episode(
            observations=rng.normal(size=(length + 1, 1)).astype("f4"),
            actions=rng.uniform(-1, 1, (length, 1)).astype("f4"),
            rewards=earned if rewards is None else np.full(length, rewards, dtype=np.float64),
            terminated=True,
            truncated=False,
        )

    return LoadedDataset(spec, tuple(map(episode, lengths)), source)


def derived(dataset: LoadedDataset, *overrides: str) -> Derivation:
    return derive(dataset, stated_config(overrides))


def reason(derivation: Derivation, key: str) -> str:
    return next(choice.reason for choice in derivation.choices if choice.key == key)


SMALL, LARGE = [100] * 25, [125] * 206


@pytest.mark.parametrize(
    ("rewards", "agent", "why"),
    [
        (None, "diffusion_ql", "rewards of 3.258e-05 to 1"),
        (0.0, "diffusion_bc", "every reward is 0: there is only imitation"),
        (-1.0, "diffusion_bc", "every reward is -1: values would say little more"),
    ],
)
def test_equal_rewards_are_imitated(rewards: float | None, agent: str, why: str) -> None:
    found = derived(robot_log(LARGE, rewards))
    assert found.config.agent == agent
    assert reason(found, "agent").startswith(why)
    critics = {choice.key for choice in found.choices if choice.key.startswith("critic.")}
    assert bool(critics) == (agent == "diffusion_ql")


@pytest.mark.parametrize(
    ("last", "agent"), [(-10.1, "diffusion_bc"), (-10.3, "diffusion_ql"), (0, "diffusion_ql")]
)
def test_rewards_that_hardly_differ_are_taken_as_equal(last: float, agent: str) -> None:
    dataset = robot_log(LARGE, -10.0)
    dataset.episodes[-1].rewards[-1] = last
    found = derived(dataset)
    assert found.config.agent == agent
    if agent == "diffusion_bc":
        assert reason(found, "agent").startswith("every reward is about -10.1: values would")


@pytest.mark.parametrize(
    ("lengths", "kind", "why"),
    [
        ([1000] * 49, "expectile", "fewer than 50 episodes: only the values of recorded"),
        (
            [199] * 50,
            "expectile",
            "fewer than 10,000 transitions and 200 episodes: only the values",
        ),
        ([200] * 50, "policy", "50 episodes, 10,000 transitions"),
        (
            [11] * 199,
            "expectile",
            "fewer than 10,000 transitions and 200 episodes: only the values",
        ),
        ([11] * 200, "policy", "200 episodes, 2,200 transitions"),
    ],
)
def test_values_neither_lead_nor_choose_where_there_is_little_data(
    lengths: list[int], kind: str, why: str
) -> None:
    found = derived(robot_log(lengths))
    assert found.config.critic.kind == kind
    assert reason(found, "critic.kind").startswith(why)
    usual = TrainConfig()
    selection = found.config.selection
    if kind == "policy":
        assert (found.config.policy.eta, selection) == (usual.policy.eta, usual.selection)
    else:
        assert found.config.policy.eta == 0.0
        assert (selection.rule, selection.num_candidates) == ("first", 1)
        ranked = derived(robot_log(lengths), "selection.rule=greedy").config.selection
        assert (ranked.rule, ranked.num_candidates) == ("greedy", usual.selection.num_candidates)


@pytest.mark.parametrize(
    "override",
    [
        "policy.eta=0.5",
        "critic.kind=policy",
        "critic.max_q_samples=10",
        "policy.max_imitation_ratio=1.1",
        "policy.policy_gradient=one_step",
        "preset=paper",
    ],
)
def test_who_asks_for_guidance_on_little_data_gets_it(override: str) -> None:
    config = derived(robot_log(SMALL), override).config
    assert config.critic.kind == "policy"
    assert config.policy.eta > 0
    assert config.selection.rule == TrainConfig(preset=config.preset).selection.rule


@pytest.mark.parametrize("override", ["policy.max_imitation_ratio=1.1", "preset=paper"])
def test_who_states_that_no_value_guides_gets_imitation(override: str) -> None:
    config = derived(robot_log(SMALL), override, "policy.eta=0").config
    assert (config.critic.kind, config.policy.eta) == ("expectile", 0.0)


def test_stated_expectile_critics_only_guide_on_much_data() -> None:
    assert derived(robot_log(SMALL), "critic.kind=expectile").config.policy.eta == 0
    assert derived(robot_log(LARGE), "critic.kind=expectile").config.policy.eta == 1


@pytest.mark.parametrize(
    ("transitions", "batch", "steps", "times"),
    [
        (200, 64, 5_000, "1,600"),
        (1_000, 64, 5_000, "320"),
        (2_500, 256, 5_000, "510"),
        (8_500, 256, 7_000, "210"),
        (25_000, 256, 20_000, "200"),
        (200_000, 256, 100_000, "130"),
    ],
)
def test_each_transition_is_learned_from_often_within_bounds(
    transitions: int, batch: int, steps: int, times: str
) -> None:
    found = derived(robot_log([transitions // 4] * 4))
    assert (found.config.run.batch_size, found.config.run.steps) == (batch, steps)
    assert reason(found, "run.steps") == f"{transitions:,} transitions: about {times} times each"
    assert found.config.run.checkpoint_every == steps // 10


def test_where_values_lead_each_transition_is_learned_from_more_often() -> None:
    for override, steps in (
        ("agent=diffusion_ql", 61_000),
        ("agent=td3_bc", 61_000),
        ("agent=diffusion_bc", 21_000),
        ("policy.eta=0", 21_000),
    ):
        assert derived(robot_log(LARGE), override).config.run.steps == steps


def test_steps_go_by_a_stated_batch_and_checkpoints_by_stated_steps() -> None:
    assert derived(robot_log(LARGE), "run.batch_size=512").config.run.steps == 31_000
    assert derived(robot_log(LARGE), "run.steps=5000").config.run.checkpoint_every == 500
    assert derived(robot_log(LARGE), "run.steps=3").config.run.checkpoint_every == 1


def test_after_few_updates_what_was_learned_last_acts() -> None:
    found = derived(robot_log(LARGE), "run.steps=300")
    assert found.config.selection.weights == "online"
    why = "after so few updates 74% of the average is untrained"
    assert reason(found, "selection.weights") == why
    assert derived(robot_log(LARGE)).config.selection.weights == "ema"
    stated = derived(robot_log(LARGE), "run.steps=300", "selection.weights=ema")
    assert stated.config.selection.weights == "ema"


@pytest.mark.parametrize(
    ("lengths", "share"),
    [
        ([100] * 29, 0.0),
        ([100] * 30, 0.1),
        ([100] * 100, 0.05),
        ([10] * 29 + [5000], 0.0),  # three short ones measure nothing
        ([5] * 27 + [3000] * 3, 0.0),  # three long ones leave nothing
        ([3] * 30, 0.0),  # nine transitions are too few
        ([50] * 20 + [100] * 20, 0.1),
    ],
)
def test_episodes_are_held_out_where_no_seed_of_the_split_is_refused(
    lengths: list[int], share: float
) -> None:
    dataset = robot_log(lengths)
    assert derived(dataset).config.validation.held_out == share
    for seed in range(20):
        learned, held_out = split_episodes(dataset, share, seed)
        require_meaningful_split(TrainingData(dataset, learned, held_out, ()), share)


@pytest.mark.parametrize(
    ("lengths", "why"),
    [
        ([100], "1 episode: too few to learn without some"),
        ([3] * 30, "the 3 shortest episodes have 9 transitions: too few to measure on"),
        (
            [1] * 3 + [100] * 27,
            "the 3 shortest episodes have 3 transitions: too few to measure on",
        ),
        ([100] * 27 + [3000] * 3, "a few episodes have most transitions: all are needed"),
    ],
)
def test_the_reason_why_none_is_held_out_is_true(lengths: list[int], why: str) -> None:
    found = derived(robot_log(lengths))
    assert found.config.validation.held_out == 0
    assert reason(found, "validation.held_out") == why


@pytest.mark.parametrize(("common", "rare", "side"), [(0.0, 1.0, "above"), (0.0, -1.0, "below")])
def test_no_split_may_take_all_rewards_that_differ(common: float, rare: float, side: str) -> None:
    for successes, share in (5, 0.0), (6, 0.05):
        dataset = robot_log([120] * 100, common)
        for episode in dataset.episodes[:successes]:
            episode.rewards[-1] = rare
        found = derived(dataset)
        assert found.config.validation.held_out == share
        if not share:
            assert reason(found, "validation.held_out") == (
                f"rewards {side} 0 in 5 episodes only: all are needed"
            )
        imitating = derived(dataset, "agent=diffusion_bc")
        assert imitating.config.validation.held_out == 0.05


@pytest.mark.parametrize(
    ("length", "rate_hz", "discount"),
    [
        (1, 0.0, 0.9),  # ten steps, at least
        (100, 20.0, 0.98),
        (125, 10.0, 0.984),
        (1000, 0.0, 0.99),  # a hundred steps where no rate is known
        (2000, 100.0, 0.995),  # two seconds
        (5000, 1000.0, 0.997),  # three hundred steps, at most
    ],
)
def test_a_discount_looks_half_an_episode_ahead_within_bounds(
    length: int, rate_hz: float, discount: float
) -> None:
    assert derived(robot_log([length] * 3, rate_hz=rate_hz)).config.critic.discount == discount


def test_the_reason_of_a_discount_has_the_time_that_it_looks_ahead() -> None:
    found = derived(robot_log([100] * 3, rate_hz=20.0))
    assert reason(found, "critic.discount") == (
        "episodes of 100 steps at 20 Hz: looks 50 steps (2.5 s) ahead"
    )
    assert "Hz" not in reason(derived(robot_log([100] * 3)), "critic.discount")


@pytest.mark.parametrize("size", [1e-30, 1e-4, 0.03, 0.9, 1.5, 99.0, 101.0, 157.0, 1e6, 1e30])
def test_rewards_are_scaled_by_a_power_of_ten_where_returns_are_very_small_or_large(
    size: float,
) -> None:
    dataset = robot_log(SMALL)
    unscaled = derived(dataset, "data.reward_scale=1").config
    transform = fit_rewards(dataset, unscaled.data)
    largest = recorded_returns(dataset, transform, unscaled.critic.discount).high
    for episode in dataset.episodes:
        episode.rewards[:] *= size / largest
    config = derived(dataset).config
    scale = config.data.reward_scale
    returns = recorded_returns(dataset, fit_rewards(dataset, config.data), config.critic.discount)
    assert 1 <= round(returns.high, 6) <= 100
    assert np.log10(scale) == pytest.approx(round(np.log10(scale)))
    assert (scale == 1) == (1 <= size <= 100)


def test_the_reason_of_a_scale_has_the_sign_of_the_returns() -> None:
    dataset = robot_log([100] * 25, -3.0)
    dataset.episodes[0].rewards[-1] = 0.0
    assert reason(derived(dataset), "data.reward_scale") == (
        "discounted returns of -130.1 to 0, -13.01 to 0 as learned"
    )


def test_rewards_at_the_ends_of_float64_are_imitated_or_refused_in_one_line() -> None:
    tiny, huge = robot_log(LARGE), robot_log(LARGE)
    for dataset, size in (tiny, 1e-310), (huge, 1e308):
        for episode in dataset.episodes:
            episode.rewards[:] *= size
    assert derived(tiny).config.agent == "diffusion_bc"
    with pytest.raises(DatasetError, match=r"^log: rewards of .* to 1e\+308 are too large"):
        derived(huge)


def test_data_that_a_run_refuses_is_refused_before_anything_is_derived_from_it() -> None:
    dataset = robot_log(SMALL)
    dataset.episodes[0].actions[0] = 1.5
    with pytest.raises(DatasetError, match="widen the bounds"):
        derived(dataset)
    assert derived(dataset, "data.out_of_bounds=clip").config.data.out_of_bounds == "clip"
    with pytest.raises(DatasetError, match="every reward is 0 and td3_bc learns from rewards"):
        derived(robot_log(SMALL, 0.0), "agent=td3_bc")
    with pytest.raises(DatasetError, match="fewer are left to learn from"):
        derived(robot_log(SMALL), "validation.held_out=0.9")


def test_a_stated_transform_of_rewards_is_scaled_as_it_comes_out() -> None:
    config = derived(robot_log([1000] * 60), "data.reward_transform=iql_locomotion").config
    assert config.data.reward_scale < 1


def test_networks_are_half_as_wide_on_very_little_data() -> None:
    for lengths, width in ([199] * 10, 128), ([200] * 10, 256):
        config = derived(robot_log(lengths)).config
        assert (config.policy.width, config.critic.width) == (width, width)


def test_a_mean_flow_is_ranked_as_a_diffusion_policy_is() -> None:
    flow = derived(robot_log(SMALL), "policy.kind=mean_flow")
    assert not [choice for choice in flow.choices if choice.key.startswith("diffusion.")]
    assert flow.config.critic.kind == "expectile"


def test_an_agent_with_one_action_gets_nothing_of_a_diffusion_model() -> None:
    found = derived(robot_log(SMALL), "agent=td3_bc")
    keys = {choice.key for choice in found.choices}
    assert found.config.agent == "td3_bc"
    assert not keys & {"critic.kind", "policy.eta", "selection.rule"}
    assert {"critic.discount", "data.reward_scale"} <= keys


def test_what_is_stated_is_kept_and_said() -> None:
    found = derived(robot_log(SMALL), "run.steps=300", "policy.width=32", "run.seed=7")
    lines = [str(choice) for choice in found.choices]
    assert "run.steps: 300 (as stated)" in lines
    assert "policy.width: 32 (as stated)" in lines
    assert (found.config.run.steps, found.config.policy.width, found.config.run.seed) == (
        300,
        32,
        7,
    )
    assert not any(line.startswith("run.seed") for line in lines)


def test_chunks_are_stated_and_their_steps_follow() -> None:
    found = derived(robot_log(LARGE), "policy.horizon=4")
    assert (found.config.policy.horizon, found.config.data.n_step) == (4, 1)
    assert reason(found, "data.n_step") == "a chunk has 4 steps already"
    assert [choice.key for choice in found.stated] == ["policy.horizon"]
    assert all(choice.key != "data.n_step" for choice in derived(robot_log(LARGE)).choices)


def test_a_preset_goes_before_the_rules() -> None:
    config = derived(robot_log(LARGE), "preset=paper").config
    assert not config.critic.bound_targets
    assert config.policy.ema_start == 1000
    assert (config.diffusion.schedule, config.critic.layer_norm) == ("vp", False)
    assert config.critic.discount == 0.984


def test_the_written_file_gives_the_same_configuration(tmp_path: Path) -> None:
    path = tmp_path / "derived.yaml"
    for overrides in (
        (),
        ("run.steps=300", "evaluation.env=a.module:Env-v0", "data.dataset=[a, 'b # c']"),
        ("preset=paper", "policy.gradient_clip=null"),
        ("agent=td3_bc", "data.reward_scale=1e-9"),
    ):
        for lengths in SMALL, LARGE:
            for rewards in None, 0.0:
                if rewards == 0.0 and "agent=td3_bc" in overrides:
                    continue
                found = derived(robot_log(lengths, rewards), *overrides)
                path.write_text(found.to_yaml(), encoding="utf-8")
                assert load_config(path).hash() == found.config.hash()


def test_the_written_file_has_each_reason_and_its_data_in_one_line() -> None:
    found = derived(robot_log(SMALL, source="a\nrun: {steps: 1}\x1b[2J"), "run.seed=7")
    lines = found.to_yaml().splitlines()
    assert lines[0] == (
        "# Derived by 'dql train' from a\\nrun: {steps: 1}\\x1b[2J: 25 episodes, 2,500 "
        "transitions."
    )
    assert "  steps: 5000  # 2,500 transitions: about 510 times each" in lines
    assert "  seed: 7  # as stated" in lines
    assert all(line.startswith("#") or ": " in line or line.endswith(":") for line in lines)


def test_two_short_episodes_are_enough() -> None:
    dataset = robot_log([1, 2])
    config = derived(dataset).config
    assert config.validation.held_out == 0
    assert config.critic.kind == "expectile"
    check_dataset(dataset, config)


def test_bad_data_is_refused_as_ever() -> None:
    dataset = robot_log(SMALL)
    dataset.episodes[2].rewards[3] = np.nan
    with pytest.raises(DatasetError, match="the reward is nan in episode 2 at step 3"):
        derived(dataset)


def test_what_does_not_go_together_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"validation\.rule.*which diffusion_bc does not learn"):
        derived(robot_log(SMALL, 0.0), "validation.rule=td_error", "validation.held_out=0.2")
    with pytest.raises(ConfigError, match=r"unknown key 'run\.stesp' \(did you mean 'steps'\?\)"):
        stated_config(["run.stesp=1"])
