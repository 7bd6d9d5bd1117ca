import numpy as np
import pytest

from dql_core.models.schedule import NoiseSchedule, ScheduleName

ALL: list[tuple[ScheduleName, int]] = [("vp", 5), ("vp", 50), ("cosine", 10), ("linear", 1000)]


def test_vp_of_five_steps_has_the_paper_codes_values() -> None:
    vp = NoiseSchedule.make("vp", 5)
    golden = {
        "betas": [0.19587, 0.45882, 0.63578, 0.75488, 0.83503],
        "alpha_bars": [0.804125, 0.435178, 0.158500, 0.038852, 0.006409],
        "posterior_variance": [0.0, 0.15911, 0.42674, 0.66091, 0.80777],
        "clean_weight": [1.0, 0.72844, 0.49841, 0.31268, 0.16565],
        "noisy_weight": [0.0, 0.25512, 0.40508, 0.43347, 0.39290],
    }
    for name, values in golden.items():
        np.testing.assert_allclose(getattr(vp, name), values, atol=5.1e-6, err_msg=name)


def test_the_linear_schedule_does_not_rescale_with_the_number_of_steps() -> None:
    for num_steps in (5, 100):
        betas = NoiseSchedule.make("linear", num_steps).betas
        np.testing.assert_allclose(betas[[0, -1]], [1e-4, 2e-2])
    assert NoiseSchedule.make("linear", 5).alpha_bars[-1] == pytest.approx(0.951, abs=1e-3)


def test_the_cosine_schedule_follows_its_squared_cosine() -> None:
    num_steps, offset = 10, 0.008
    points = np.linspace(0, num_steps + 1, num_steps + 1) / (num_steps + 1)
    curve = np.cos((points + offset) / (1 + offset) * np.pi / 2) ** 2
    alpha_bars = NoiseSchedule.make("cosine", num_steps).alpha_bars
    np.testing.assert_allclose(alpha_bars[:-1], curve[1:-1] / curve[0])
    assert alpha_bars[-1] >= curve[-1] / curve[0]  # the last beta is capped at 0.999


@pytest.mark.parametrize(("name", "num_steps"), ALL)
def test_signal_only_decreases_and_betas_are_probabilities(
    name: ScheduleName, num_steps: int
) -> None:
    schedule = NoiseSchedule.make(name, num_steps)
    assert schedule.num_steps == num_steps
    assert np.all((schedule.betas > 0) & (schedule.betas < 1))
    assert np.all(np.diff(schedule.alpha_bars) < 0)


@pytest.mark.parametrize(("name", "num_steps"), ALL)
def test_the_posterior_is_bayes_rule_for_gaussians(name: ScheduleName, num_steps: int) -> None:
    schedule = NoiseSchedule.make(name, num_steps)
    alpha, beta, before = schedule.alphas, schedule.betas, schedule.previous_alpha_bars
    later = slice(1, None)
    precision = alpha / beta + 1.0 / np.maximum(1.0 - before, 1e-300)
    np.testing.assert_allclose(schedule.posterior_variance[later], 1.0 / precision[later])
    np.testing.assert_allclose(
        schedule.noisy_weight[later], (np.sqrt(alpha) / beta / precision)[later]
    )
    np.testing.assert_allclose(
        schedule.clean_weight[later],
        (np.sqrt(before) / (1.0 - before + 1e-300) / precision)[later],
    )


@pytest.mark.parametrize(("name", "num_steps"), ALL)
def test_the_last_reverse_step_returns_the_clean_action(
    name: ScheduleName, num_steps: int
) -> None:
    schedule = NoiseSchedule.make(name, num_steps)
    assert schedule.clean_weight[0] == pytest.approx(1.0)
    assert schedule.noisy_weight[0] == pytest.approx(0.0)
    assert schedule.reverse_std("posterior")[0] == schedule.reverse_std("beta")[0] == 0.0


def test_the_variance_of_a_reverse_step_is_chosen_by_name() -> None:
    schedule = NoiseSchedule.make("vp", 5)
    np.testing.assert_allclose(schedule.reverse_std("beta")[1:] ** 2, schedule.betas[1:])
    np.testing.assert_allclose(
        schedule.reverse_std("posterior")[1:] ** 2, schedule.posterior_variance[1:]
    )
