import numpy as np
import torch

from dql_core.algo.losses import (
    bootstrapped_target,
    critic_loss,
    imitation_loss,
    improvement_loss,
    noised_action,
    pessimistic,
    td3_bc_loss,
)

RNG = np.random.default_rng(0)


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_forward_process_mixes_action_and_noise_row_by_row() -> None:
    action, noise = RNG.normal(size=(4, 2)), RNG.normal(size=(4, 2))
    alpha_bar = np.array([1.0, 0.8, 0.1, 0.0])
    mixed = noised_action(tensor(action), tensor(noise), tensor(alpha_bar)[:, None]).numpy()
    for row in range(4):
        signal, rest = np.sqrt(alpha_bar[row]), np.sqrt(1 - alpha_bar[row])
        np.testing.assert_allclose(mixed[row], signal * action[row] + rest * noise[row])
    np.testing.assert_array_equal(mixed[0], action[0])
    np.testing.assert_array_equal(mixed[3], noise[3])


def test_imitation_is_a_mean_over_batch_and_dimensions() -> None:
    predicted, noise = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3))
    expected = sum((predicted[i, j] - noise[i, j]) ** 2 for i in range(5) for j in range(3)) / 15
    loss = imitation_loss(tensor(predicted), tensor(noise))
    np.testing.assert_allclose(loss.item(), expected)


def test_improvement_divides_the_guide_by_the_other_critics_magnitude() -> None:
    q_values = RNG.normal(size=(2, 6))
    for guide in (0, 1):
        expected = -q_values[guide].mean() / np.abs(q_values[1 - guide]).mean()
        loss = improvement_loss(tensor(q_values[guide]), tensor(q_values[1 - guide]))
        np.testing.assert_allclose(loss.item(), expected)


def test_improvement_climbs_the_guide_and_does_not_differentiate_the_divisor() -> None:
    q_values = tensor(RNG.normal(size=(2, 6))).requires_grad_()
    for guide in (0, 1):
        loss = improvement_loss(q_values[guide], q_values[1 - guide])
        (gradient,) = torch.autograd.grad(loss, q_values)
        scale = q_values[1 - guide].detach().abs().mean().item()
        np.testing.assert_allclose(gradient[guide].numpy(), -1 / 6 / scale)
        np.testing.assert_array_equal(gradient[1 - guide].numpy(), 0.0)


def test_improvement_does_not_depend_on_the_scale_of_the_rewards() -> None:
    q_values = tensor(RNG.normal(size=(2, 6)))
    small = improvement_loss(q_values[0], q_values[1])
    torch.testing.assert_close(improvement_loss(1000 * q_values[0], 1000 * q_values[1]), small)


def test_the_target_takes_the_best_sample_of_each_critic_and_then_the_lower_critic() -> None:
    reward, bootstrap = RNG.normal(size=4), np.array([1.0, 1.0, 0.0, 1.0])
    next_q = RNG.normal(size=(2, 4, 3))
    target = bootstrapped_target(tensor(reward), tensor(bootstrap), tensor(next_q), 0.9).numpy()
    for row in range(4):
        value = min(max(next_q[critic, row]) for critic in range(2))
        np.testing.assert_allclose(target[row], reward[row] + 0.9 * bootstrap[row] * value)


def test_the_critics_together_say_the_smallest_or_the_mean_minus_deviations() -> None:
    values = RNG.normal(size=(5, 4, 3))
    np.testing.assert_array_equal(pessimistic(tensor(values)).numpy(), values.min(axis=0))
    for factor in (0.0, 0.7, 2.0):
        expected = values.mean(axis=0) - factor * values.std(axis=0)
        np.testing.assert_allclose(pessimistic(tensor(values), factor).numpy(), expected)
    np.testing.assert_allclose(
        pessimistic(tensor(values[:2]), 1.0).numpy(), values[:2].min(axis=0)
    )


def test_critics_that_agree_have_a_slope() -> None:
    equal = tensor(np.ones((3, 4))).requires_grad_()
    (slope,) = torch.autograd.grad(pessimistic(equal, 2.0).sum(), equal)
    np.testing.assert_allclose(slope.numpy(), 1 / 3)


def test_the_target_of_a_terminal_transition_is_its_reward() -> None:
    target = bootstrapped_target(tensor([2.5]), tensor([0.0]), tensor([[[9.0]], [[8.0]]]), 0.9)
    assert target.item() == 2.5


def test_the_critics_errors_are_averaged_over_the_batch_and_added() -> None:
    q_values, target = RNG.normal(size=(2, 7)), RNG.normal(size=7)
    expected = np.mean((q_values[0] - target) ** 2) + np.mean((q_values[1] - target) ** 2)
    np.testing.assert_allclose(critic_loss(tensor(q_values), tensor(target)).item(), expected)


def test_td3_bc_divides_the_value_by_its_magnitude_and_adds_the_squared_distance() -> None:
    action, data, q_values = (
        RNG.normal(size=(5, 2)),
        RNG.normal(size=(5, 2)),
        RNG.normal(size=(2, 5)),
    )
    loss, imitation = td3_bc_loss(tensor(action), tensor(data), tensor(q_values), 2.5)
    distance = np.mean((action - data) ** 2)
    np.testing.assert_allclose(imitation.item(), distance)
    expected = distance - 2.5 * q_values[0].mean() / np.abs(q_values[0]).mean()
    np.testing.assert_allclose(loss.item(), expected)


def test_td3_bc_climbs_the_first_critic_and_does_not_differentiate_the_divisor() -> None:
    action, q_values = tensor(RNG.normal(size=(5, 2))), tensor(RNG.normal(size=(2, 5)))
    loss, _ = td3_bc_loss(action, action, q_values.requires_grad_(), 2.5)
    (gradient,) = torch.autograd.grad(loss, q_values)
    scale = q_values[0].detach().abs().mean().item()
    np.testing.assert_allclose(gradient[0].numpy(), -2.5 / 5 / scale)
    np.testing.assert_array_equal(gradient[1].numpy(), 0.0)
