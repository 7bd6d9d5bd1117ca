"""A naive second implementation of Diffusion-QL's update, and small agents to compare it with.

The paper's networks and chain as its code has them, with plain autograd and the first step of
Adam: nothing is shared with the implementation but the weights.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dql_core.algo.agent import Agent
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.noise import UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.critic import CriticEnsemble
from dql_core.models.denoiser import Denoiser, sinusoids

B, O, A, N = 6, 3, 2, 5  # noqa: E741 - the axes' names everywhere else


def make_config(**sections: Any) -> TrainConfig:
    """Return a tiny configuration near the paper's, with what ``sections`` add to it."""
    tiny: dict[str, dict[str, Any]] = {
        "run": {"steps": 100},
        "diffusion": {"schedule": "vp"},
        "policy": {
            "width": 8,
            "learning_rate": 3e-4,
            "max_imitation_ratio": None,
            "ema_every": 1,
        },
        "critic": {"width": 8, "learning_rate": 3e-4, "layer_norm": False},
    }
    merged = {name: tiny.get(name, {}) | values for name, values in sections.items()}
    return TrainConfig.model_validate(tiny | merged)


def make_agent(config: TrainConfig) -> DiffusionQL:
    torch.manual_seed(0)
    return DiffusionQL(config, O, A, torch.Generator().manual_seed(1))


def make_batch(seed: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        observation=torch.randn(B, O, generator=generator),
        action=torch.rand(B, A, generator=generator) * 2 - 1,
        reward=torch.randn(B, generator=generator),
        next_observation=torch.randn(B, O, generator=generator),
        bootstrap=torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
    )


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    after = module.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def vp_alpha_bars() -> Tensor:
    """Return what the vp schedule of five steps leaves of the signal's variance, shape (N,)."""
    exponent = [-0.1 / N - 0.5 * 9.9 * (2 * i - 1) / N**2 for i in range(1, N + 1)]
    return torch.tensor(exponent, dtype=torch.float64).cumsum(0).exp()


def naive_denoiser(net: nn.Module) -> Callable[[Tensor, int, Tensor], Tensor]:
    assert isinstance(net, Denoiser)

    def predict(action: Tensor, step: int, observation: Tensor) -> Tensor:
        time = net.step_embedding(sinusoids(N, 16)[step]).expand(len(action), -1)
        features = net.first(torch.cat([action, time, observation], dim=1))
        for layer in net.hidden:
            features = layer(nn.functional.mish(features))
        result: Tensor = net.last(nn.functional.mish(features))
        return result

    return predict


def naive_critic(net: CriticEnsemble, index: int, observation: Tensor, action: Tensor) -> Tensor:
    features = torch.cat([observation, action], dim=1)
    for depth, layer in enumerate(net.layers):
        if depth > 0 and net.layer_norm:
            mean = features.mean(dim=1, keepdim=True)
            variance = features.var(dim=1, keepdim=True, correction=0)
            features = (features - mean) / (variance + 1e-5).sqrt()
        features = features if depth == 0 else nn.functional.mish(features)
        weights = dict(layer.named_parameters())
        features = features @ weights["weight"][index] + weights["bias"][index]
    values: Tensor = features[:, 0]
    if net.state_value is not None:
        values = values + naive_state_value(net, observation).detach()
    return values


def naive_state_value(net: CriticEnsemble, observation: Tensor) -> Tensor:
    assert net.state_value is not None
    return naive_critic(net.state_value.network, 0, observation, observation[:, :0])


def naive_clean(
    config: TrainConfig, action: Tensor, predicted: Tensor, alpha_bar: Tensor
) -> Tensor:
    """Return the clipped clean action that a network's output implies."""
    if config.diffusion.prediction == "x0":
        return predicted.clamp(-1, 1)
    if config.diffusion.prediction == "v":
        return (alpha_bar.sqrt() * action - (1 - alpha_bar).sqrt() * predicted).clamp(-1, 1)
    clean = action / alpha_bar.sqrt() - (1 / alpha_bar - 1).sqrt() * predicted
    return clean.clamp(-1, 1)


def naive_chain(config: TrainConfig, net: nn.Module, observation: Tensor, noise: Tensor) -> Tensor:
    alpha_bar = vp_alpha_bars()
    earlier = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    beta = 1 - alpha_bar / earlier
    clean_weight = beta * earlier.sqrt() / (1 - alpha_bar)
    noisy_weight = (1 - earlier) * (1 - beta).sqrt() / (1 - alpha_bar)
    variance = {"beta": beta, "posterior": beta * (1 - earlier) / (1 - alpha_bar)}
    spread = variance[config.diffusion.variance].sqrt()
    action = noise[0]
    for i in reversed(range(N)):
        predicted = naive_denoiser(net)(action, i, observation)
        clean = naive_clean(config, action, predicted, alpha_bar[i].float())
        action = clean_weight[i].float() * clean + noisy_weight[i].float() * action
        if i > 0:
            action = action + spread[i].float() * noise[N - i]
    return action.clamp(-1, 1)


def naive_together(values: list[Tensor], lower_bound: float | None) -> Tensor:
    """Return the smallest of the critics' values, or their mean minus some deviations."""
    if lower_bound is None:
        return torch.stack(values).min(dim=0).values
    deviation = torch.stack(values).std(dim=0, correction=0)
    return torch.stack(values).mean(dim=0) - lower_bound * deviation


def naive_target(
    agent: DiffusionQL, batch: Batch, noise: UpdateNoise, config: TrainConfig
) -> Tensor:
    """Return the bootstrapped values, one row and one sampled next action after the other."""
    samples, values = config.critic.max_q_samples, []
    for row in range(B):
        observation = batch.next_observation[row : row + 1].expand(samples, -1)
        own = noise.target[:, row * samples : (row + 1) * samples]
        action = naive_chain(config, agent.policy.average, observation, own)
        each = [
            naive_critic(agent.critics.target, e, observation, action).max()
            for e in range(config.critic.num_critics)
        ]
        values.append(naive_together(each, config.critic.lower_bound))
    discounted = config.critic.discount * batch.bootstrap * torch.stack(values)
    return (batch.reward + discounted).detach()


def naive_update(
    agent: DiffusionQL, batch: Batch, noise: UpdateNoise, config: TrainConfig
) -> None:
    """The update of the paper's code, section 1.4 of its description, without any short cut."""
    online, critic = agent.policy.online, agent.critics.online
    target = naive_target(agent, batch, noise, config)
    critics = range(config.critic.num_critics)
    q_values = [naive_critic(critic, e, batch.observation, batch.action) for e in critics]
    loss_critic = sum(nn.functional.mse_loss(q, target) for q in q_values)
    if config.critic.dueling:
        loss_critic += nn.functional.mse_loss(naive_state_value(critic, batch.observation), target)
    naive_step(critic, loss_critic, config.critic.learning_rate, config.critic.gradient_clip)

    alpha_bar = vp_alpha_bars()[noise.time][:, None].float()
    noisy = alpha_bar.sqrt() * batch.action + (1 - alpha_bar).sqrt() * noise.imitation
    rows = [
        naive_denoiser(online)(noisy[b : b + 1], int(noise.time[b]), batch.observation[b : b + 1])
        for b in range(B)
    ]
    predicted = torch.cat(rows)
    wanted = {
        "epsilon": noise.imitation,
        "x0": batch.action,
        "v": alpha_bar.sqrt() * noise.imitation - (1 - alpha_bar).sqrt() * batch.action,
    }[config.diffusion.prediction]
    # What noise is in the noisy action, if its other part is what the network says.
    implied = {
        "epsilon": predicted,
        "x0": (noisy - alpha_bar.sqrt() * predicted) / (1 - alpha_bar).sqrt(),
        "v": (1 - alpha_bar).sqrt() * noisy + alpha_bar.sqrt() * predicted,
    }[config.diffusion.prediction]
    errors = {
        "noise": (implied - noise.imitation).square(),
        "prediction": (predicted - wanted).square(),
    }
    errors["larger"] = torch.maximum(errors["noise"], errors["prediction"])
    imitation = errors[config.diffusion.loss].mean()
    if config.policy.policy_gradient == "one_step":
        action = naive_clean(config, noisy, predicted, alpha_bar)
    else:
        action = naive_chain(config, online, batch.observation, noise.policy)
    values = [naive_critic(critic, e, batch.observation, action) for e in critics]
    guiding = values[int(noise.guide)]
    other = values[(int(noise.guide) + 1) % len(values)]
    if config.critic.lower_bound is not None:
        guiding = other = naive_together(values, config.critic.lower_bound)
    improvement = -guiding.mean() / other.abs().mean().detach()
    loss_policy = imitation + config.policy.eta * improvement
    naive_step(online, loss_policy, config.policy.learning_rate, config.policy.gradient_clip)

    average, target_critic = agent.policy.average, agent.critics.target
    naive_follow(average, online, config.policy.ema_rate)
    naive_follow(target_critic, critic, config.critic.tau)


def naive_step(net: nn.Module, loss: object, rate: float, clip: float | None) -> None:
    assert isinstance(loss, Tensor)
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    scale = 1.0 if clip is None else min(1.0, clip / (norm.item() + 1e-6))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        clipped = scale * gradient
        # Adam's first step: both moments are corrected to the gradient itself.
        parameter.data -= rate * clipped / (clipped.abs() + 1e-8)
        parameter.grad = clipped


def naive_follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    for its, mine in zip(slow.parameters(), fast.parameters(), strict=True):
        its.data = (1 - rate) * its.data + rate * mine.data


def first_gradient(optimizers: Mapping[str, Optimizer], parameter: Tensor) -> Tensor:
    """Return the gradient of an agent's only update so far, from Adam's first moment."""
    for optimizer in optimizers.values():
        for index, moved_by_it in enumerate(optimizer.parameters):
            if moved_by_it is parameter:
                return optimizer.state_dict()[f"{index}.exp_avg"] / 0.1
    raise AssertionError("no optimiser moves this parameter")


def require_equal_updates(ours: Agent, naive: Agent) -> None:
    """Compare every tensor, and the gradients, which Adam's first step reduces to their sign."""
    for name, module in ours.modules.items():
        reference = dict(naive.modules[name].named_parameters())
        for key, value in module.named_parameters():
            where, wanted = f"{name}.{key}", reference[key]
            clear = torch.ones_like(value, dtype=torch.bool)
            if wanted.grad is not None:
                gradient = first_gradient(ours.optimizers, value)
                torch.testing.assert_close(gradient, wanted.grad, msg=where)
                # The sign of a gradient that is all but zero is anyone's guess.
                clear = wanted.grad.abs() > 1e-6
            torch.testing.assert_close(value[clear], wanted[clear], atol=2e-6, rtol=0, msg=where)
