r"""The losses of Diffusion-QL as pure functions (arXiv 2208.06193, sections 3 and 4).

Shapes: B batch, A action, E critics (2), S sampled next actions.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def noised_action(action: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    r"""Run the forward process: :math:`\sqrt{\bar\alpha_i} a + \sqrt{1 - \bar\alpha_i} \epsilon`.

    Args:
        action: Clean actions, shape (B, A).
        noise: Standard normal, shape (B, A).
        alpha_bar: Of each row's diffusion step, shape (B,).

    Returns:
        Shape (B, A).
    """
    return alpha_bar.sqrt()[:, None] * action + (1.0 - alpha_bar).sqrt()[:, None] * noise


def imitation_loss(predicted_noise: Tensor, noise: Tensor) -> Tensor:
    r"""Behaviour cloning, :math:`L_d` (equation 2), as a mean over batch and dimensions.

    Args:
        predicted_noise: The policy network's output for the noised actions, shape (B, A).
        noise: The noise that is in them, shape (B, A).

    Returns:
        Scalar.
    """
    return functional.mse_loss(predicted_noise, noise)


def improvement_loss(q_values: Tensor, guide: Tensor) -> Tensor:
    r"""Policy improvement, :math:`L_q` (equation 3), with the scale of the values divided out.

    One critic guides and the other one's mean magnitude divides, as in the paper's code; which is
    which is drawn anew for each update. The divisor is not differentiated.

    Args:
        q_values: Both critics on actions of the policy, shape (2, B).
        guide: Index of the guiding critic, 0 or 1, shape ().

    Returns:
        Scalar; to be weighted with eta.
    """
    mean_q = q_values.mean(dim=1)
    mean_magnitude = q_values.detach().abs().mean(dim=1)
    # With two critics, reversing the order pairs each with the other one's magnitude.
    return -(mean_q / mean_magnitude.flip(0))[guide]


def bootstrapped_target(
    reward: Tensor, bootstrap: Tensor, next_q_values: Tensor, discount: float
) -> Tensor:
    r"""Target of the critics: :math:`r + \gamma \min_e \max_s Q_e(s', a'_s)`.

    With S = 1 it is the paper's plain backup (section 4), else its max-Q backup.

    Args:
        reward: Shape (B,).
        bootstrap: 0 where the task terminated, else 1, shape (B,).
        next_q_values: Target critics on sampled next actions, shape (E, B, S).
        discount: gamma.

    Returns:
        Shape (B,).
    """
    best = next_q_values.amax(dim=2).amin(dim=0)
    return reward + discount * bootstrap * best


def critic_loss(q_values: Tensor, target: Tensor) -> Tensor:
    """Squared error of each critic, averaged over the batch and summed over the critics.

    Args:
        q_values: Shape (E, B).
        target: Shape (B,); gradients are the caller's to stop.

    Returns:
        Scalar.
    """
    return (q_values - target).square().mean(dim=1).sum()
