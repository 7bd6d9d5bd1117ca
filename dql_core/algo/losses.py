r"""The losses of Diffusion-QL as pure functions (arXiv 2208.06193, sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Where critics agree to below its root, they count as agreeing: the root has a slope there.
MIN_VARIANCE = 1e-12
Mean = Callable[[Tensor], Tensor]


def _alone(mean: Tensor) -> Tensor:
    return mean


def noised_action(action: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    r"""Run the forward process: :math:`\sqrt{\bar\alpha_i} a + \sqrt{1 - \bar\alpha_i} \epsilon`.

    Args:
        action: Clean actions, shape (B, A).
        noise: Standard normal, shape (B, A).
        alpha_bar: Of each row's diffusion step, shape (B, 1).

    Returns:
        Shape (B, A).
    """
    return alpha_bar.sqrt() * action + (1.0 - alpha_bar).sqrt() * noise


def imitation_loss(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Behaviour cloning, :math:`L_d` (equation 2): a scalar, the mean over batch and dimensions.

    Args:
        predicted: The policy network's output for the noised actions, shape (B, A).
        target: The noise that is in them, or the clean actions, shape (B, A).
        mask: 1 for what there is to imitate, 0 for what counts as predicted, shape (B, A).
    """
    if mask is not None:
        predicted, target = predicted * mask, target * mask
    return functional.mse_loss(predicted.float(), target)


def mean_flow_target(velocity: Tensor, rate: Tensor, span: Tensor) -> Tensor:
    r"""Target of an average velocity (arXiv 2505.13447, equation 11): :math:`v - (t - r) u'_t`.

    Args:
        velocity: Of the path at the span's end, v, shape (B, A).
        rate: How fast the network's average velocity changes with t, shape (B, A); gradients are
            the caller's to stop.
        span: r and t, shape (B, 2).
    """
    return velocity - (span[:, 1:] - span[:, :1]) * rate


def improvement_loss(guiding: Tensor, other: Tensor, over_ranks: Mean = _alone) -> Tensor:
    r"""Policy improvement, :math:`L_q` (equation 3), a scalar: the scale of values is divided out.

    One critic guides and the other one's mean magnitude divides, as in the paper's code; which is
    which is drawn anew for each update. The divisor is not differentiated.

    Args:
        guiding: The guiding critic on actions of the policy, shape (B,).
        other: The other critic on the same actions, shape (B,).
        over_ranks: Makes the mean over a batch of those over the shares of several processes.
    """
    return -guiding.mean() / over_ranks(other.detach().abs().mean())


def pessimistic(q_values: Tensor, lower_bound: float | None = None) -> Tensor:
    r"""Return what E critics say together, (E, ...) -> (...).

    The smallest of them, as in the paper, or :math:`\mathrm{mean}_e Q_e - k\, \mathrm{std}_e Q_e`
    (of the population, so that two critics with k = 1 say the smaller).

    Args:
        q_values: Shape (E, ...).
        lower_bound: k; None takes the smallest.
    """
    if lower_bound is None:
        return q_values.amin(dim=0)
    mean = q_values.mean(dim=0)
    variance = (q_values - mean).square().mean(dim=0)
    return mean - lower_bound * variance.clamp(min=MIN_VARIANCE).sqrt()


def bootstrapped_target(
    reward: Tensor,
    bootstrap: Tensor,
    next_q_values: Tensor,
    discount: float,
    lower_bound: float | None = None,
) -> Tensor:
    r"""Target of the critics, shape (B,): :math:`r + \gamma \min_e \max_s Q_e(s', a'_s)`.

    With S = 1 it is the paper's plain backup (section 4), else its max-Q backup.

    Args:
        reward: Shape (B,).
        bootstrap: 0 where the task terminated, else 1, shape (B,).
        next_q_values: Target critics on sampled next actions, shape (E, B, S).
        discount: gamma.
        lower_bound: Of the critics in place of the minimum, as `pessimistic`.
    """
    best = pessimistic(next_q_values.amax(dim=2), lower_bound)
    return reward + discount * bootstrap * best


def critic_loss(q_values: Tensor, target: Tensor) -> Tensor:
    """Squared error, a scalar: averaged over the batch and summed over the critics.

    Args:
        q_values: Shape (E, B).
        target: Shape (B,); gradients are the caller's to stop.
    """
    return (q_values - target).square().mean(dim=1).sum()


def expectile_loss(value: Tensor, q_values: Tensor, expectile: float) -> Tensor:
    r"""Expectile regression (arXiv 2110.06169, equation 5), a scalar.

    :math:`\overline{|\tau - 1(u < 0)| u^2}` with :math:`u = Q(s, a) - V(s)`: the larger tau, the
    nearer V is to the best of the data's actions; 0.5 is their mean.

    Args:
        value: V, shape (B,).
        q_values: Q of the data's actions, shape (B,); gradients are the caller's to stop.
        expectile: tau.
    """
    above = q_values - value
    weight = torch.where(above < 0, 1.0 - expectile, expectile)
    return (weight * above.square()).mean()


def td3_bc_loss(
    action: Tensor,
    data_action: Tensor,
    q_values: Tensor,
    alpha: float,
    over_ranks: Mean = _alone,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Policy loss of TD3+BC (arXiv 2106.06860, equations 4 and 5).

    :math:`-\lambda\, \overline{Q_1(s, \pi(s))} + \overline{(\pi(s) - a)^2}` with
    :math:`\lambda = \alpha / \overline{|Q_1|}`, which is not differentiated.

    Args:
        action: Of the policy, shape (B, A).
        data_action: Of the data, shape (B, A).
        q_values: The critics on `action`, shape (E, B); the first counts.
        alpha: Weight of the values.
        over_ranks: As in `improvement_loss`.
        mask: As in `imitation_loss`.

    Returns:
        The loss and its imitation part, scalars.
    """
    first = q_values[0]
    imitation = imitation_loss(action, data_action, mask)
    magnitude = over_ranks(first.detach().abs().mean())
    return imitation - alpha * first.mean() / magnitude, imitation
