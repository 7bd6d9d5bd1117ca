"""Diffusion-QL against a naive second implementation, and what an update may and may not move."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.noise import UpdateNoise
from dql_core.config import CriticConfig, PolicyConfig, RunConfig, TrainConfig
from dql_core.data.batches import Batch
from dql_core.networks.critic import TwinCritic
from dql_core.networks.denoiser import Denoiser, sinusoids

B, O, A, N = 6, 3, 2, 5  # noqa: E741 - the axes' names everywhere else


def make_config(
    policy: dict[str, object] | None = None, critic: dict[str, object] | None = None
) -> TrainConfig:
    return TrainConfig(
        run=RunConfig(steps=100),
        policy=PolicyConfig.model_validate({"width": 8, "ema_every": 1, **(policy or {})}),
        critic=CriticConfig.model_validate({"width": 8, **(critic or {})}),
    )


def make_agent(config: TrainConfig) -> DiffusionQL:
    torch.manual_seed(0)
    return DiffusionQL(config, O, A, torch.Generator().manual_seed(1))


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
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


# --- The naive second implementation: the paper's networks and chain, plain autograd and Adam. ---


def naive_denoiser(net: Denoiser) -> Callable[[Tensor, int, Tensor], Tensor]:
    def predict(action: Tensor, step: int, observation: Tensor) -> Tensor:
        time = net.step_embedding(sinusoids(N, 16)[step]).expand(len(action), -1)
        features = net.first(torch.cat([action, time, observation], dim=1))
        for layer in net.hidden:
            features = layer(nn.functional.mish(features))
        result: Tensor = net.last(nn.functional.mish(features))
        return result

    return predict


def naive_critic(net: TwinCritic, index: int, observation: Tensor, action: Tensor) -> Tensor:
    features = torch.cat([observation, action], dim=1)
    for depth, layer in enumerate(net.layers):
        features = features if depth == 0 else nn.functional.mish(features)
        weights = dict(layer.named_parameters())
        features = features @ weights["weight"][index] + weights["bias"][index]
    return features[:, 0]


def naive_chain(net: Denoiser, observation: Tensor, noise: Tensor) -> Tensor:
    beta = torch.tensor([0.19587, 0.45882, 0.63578, 0.75488, 0.83503], dtype=torch.float64)
    exponent = [-0.1 / N - 0.5 * 9.9 * (2 * i - 1) / N**2 for i in range(1, N + 1)]
    exact = 1 - torch.tensor(exponent, dtype=torch.float64).exp()
    torch.testing.assert_close(exact, beta, atol=1e-5, rtol=0)
    alpha_bar = (1 - exact).cumprod(0)
    action = noise[0]
    for i in reversed(range(N)):
        epsilon = naive_denoiser(net)(action, i, observation)
        clean = (action - (1 - alpha_bar[i]).sqrt().float() * epsilon) / alpha_bar[
            i
        ].sqrt().float()
        clean = clean.clamp(-1, 1)
        if i == 0:
            return clean
        earlier = alpha_bar[i - 1]
        mean = exact[i] * earlier.sqrt() * clean + (1 - earlier) * (1 - exact[i]).sqrt() * action
        spread = exact[i] * (1 - earlier) / (1 - alpha_bar[i])
        action = (mean / (1 - alpha_bar[i])).float() + spread.sqrt().float() * noise[N - i]
    raise AssertionError


def naive_update(
    agent: DiffusionQL, batch: Batch, noise: UpdateNoise, config: TrainConfig
) -> None:
    """The update of the paper's code, section 1.4 of its description, without any short cut."""
    online, critic = agent.policy.online, agent.critics.online
    average, target_critic = agent.policy.average, agent.critics.target

    next_action = naive_chain(average, batch.next_observation, noise.target)
    next_q = [naive_critic(target_critic, e, batch.next_observation, next_action) for e in (0, 1)]
    discounted = config.critic.discount * batch.bootstrap * torch.minimum(*next_q)
    target = (batch.reward + discounted).detach()
    q_values = [naive_critic(critic, e, batch.observation, batch.action) for e in (0, 1)]
    loss_critic = sum(nn.functional.mse_loss(q, target) for q in q_values)
    naive_step(critic, loss_critic, config.critic.learning_rate, config.critic.gradient_clip)

    beta_products = agent.policy.schedule.alpha_bars[noise.step.numpy()]
    alpha_bar = torch.tensor(beta_products, dtype=torch.float32)[:, None]
    noisy = alpha_bar.sqrt() * batch.action + (1 - alpha_bar).sqrt() * noise.imitation
    rows = [
        naive_denoiser(online)(noisy[b : b + 1], int(noise.step[b]), batch.observation[b : b + 1])
        for b in range(B)
    ]
    imitation = nn.functional.mse_loss(torch.cat(rows), noise.imitation)
    action = naive_chain(online, batch.observation, noise.policy)
    values = [naive_critic(critic, e, batch.observation, action) for e in (0, 1)]
    guide = int(noise.guide)
    improvement = -values[guide].mean() / values[1 - guide].abs().mean().detach()
    loss_policy = imitation + config.policy.eta * improvement
    naive_step(online, loss_policy, config.policy.learning_rate, config.policy.gradient_clip)

    rates = ((average, online, config.policy.ema_rate), (target_critic, critic, config.critic.tau))
    for slow, fast, rate in rates:
        for its, mine in zip(slow.parameters(), fast.parameters(), strict=True):
            its.data = (1 - rate) * its.data + rate * mine.data


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


def first_gradient(agent: DiffusionQL, parameter: Tensor) -> Tensor:
    """Return the gradient of an agent's only update so far, from Adam's first moment."""
    for descent in agent.descents.values():
        for index, moved in enumerate(descent.parameters):
            if moved is parameter:
                return descent.state_dict()[f"{index}.exp_avg"] / 0.1
    raise AssertionError("no optimiser moves this parameter")


@pytest.mark.parametrize("eta", [0.5, 5.0])
@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("guide", [0, 1])
def test_a_whole_update_equals_the_naive_one_tensor_by_tensor(
    batch: Batch, eta: float, clip: float | None, guide: int
) -> None:
    config = make_config({"eta": eta, "gradient_clip": clip}, {"gradient_clip": clip})
    ours = make_agent(config)
    naive = copy.deepcopy(ours)
    drawn = ours.noise.draw(B)
    noise = UpdateNoise(**{**vars(drawn), "guide": torch.tensor(guide)})
    ours.update(batch, noise)
    naive_update(naive, batch, noise, config)
    for name, module in ours.modules.items():
        reference = dict(naive.modules[name].named_parameters())
        for key, value in module.named_parameters():
            torch.testing.assert_close(
                value, reference[key], atol=2e-6, rtol=0, msg=f"{name}.{key}"
            )
            if value.requires_grad:
                # Adam's first step shows little more than the gradient's sign.
                gradient = first_gradient(ours, value)
                torch.testing.assert_close(gradient, reference[key].grad, msg=f"{name}.{key}")


# --- What moves, what does not, and what an update depends on. ---


def test_every_tensor_moves_in_one_update(batch: Batch) -> None:
    agent = make_agent(make_config())
    before = {name: snapshot(module) for name, module in agent.modules.items()}
    agent.update(batch)
    for name, module in agent.modules.items():
        assert moved(before[name], module) == set(before[name]), name


def test_the_average_equals_the_policy_at_first_and_moves_only_every_so_often(
    batch: Batch,
) -> None:
    agent = make_agent(make_config({"ema_every": 3, "ema_rate": 0.25}))
    assert not moved(snapshot(agent.policy.average), agent.policy.online)
    for step in range(7):
        before = snapshot(agent.policy.average)
        agent.update(batch)
        rate = 0.25 if step in (0, 3, 6) else 0.0
        for name, value in agent.policy.average.state_dict().items():
            expected = (1 - rate) * before[name] + rate * agent.policy.online.state_dict()[name]
            torch.testing.assert_close(value, expected)


def test_the_average_of_the_papers_code_stays_the_random_network_for_a_thousand_updates(
    batch: Batch,
) -> None:
    agent = make_agent(make_config({"ema_start": 1000}))
    start = snapshot(agent.policy.average)
    for step in (0, 1, 995, 999):
        agent.step = step
        agent.update(batch)
    assert not moved(start, agent.policy.average)
    assert agent.step == 1000
    agent.update(batch)
    assert moved(start, agent.policy.average)


def test_target_critics_follow_at_their_rate_every_update(batch: Batch) -> None:
    agent = make_agent(make_config(critic={"tau": 0.25}))
    start = snapshot(agent.critics.target)
    agent.update(batch)
    for name, value in agent.critics.target.state_dict().items():
        expected = 0.75 * start[name] + 0.25 * agent.critics.online.state_dict()[name]
        torch.testing.assert_close(value, expected)


def test_the_policys_step_leaves_the_critics_alone(batch: Batch) -> None:
    timid, bold = make_agent(make_config({"eta": 0.0})), make_agent(make_config({"eta": 9.0}))
    timid.update(batch)
    bold.update(batch)
    assert not moved(snapshot(timid.critics.online), bold.critics.online)
    assert moved(snapshot(timid.policy), bold.policy)


def test_without_guidance_it_is_diffusion_bc(batch: Batch) -> None:
    config = make_config({"eta": 0.0})
    guided = make_agent(config)
    torch.manual_seed(0)
    imitator = DiffusionBC(config, O, A, torch.Generator().manual_seed(1))
    for seed in range(3):
        noise = make_agent(config).noise.draw(B)
        torch.manual_seed(seed)
        losses = guided.update(batch, noise)
        assert torch.equal(losses.imitation, imitator.update(batch, noise).imitation)
    assert not moved(snapshot(guided.policy), imitator.policy)


def test_targets_come_from_the_slow_copies_alone(batch: Batch) -> None:
    agent = make_agent(make_config())
    disturbed = make_agent(make_config())
    noise = agent.noise.draw(B)
    for fast in (disturbed.policy.online, disturbed.critics.online):
        for parameter in fast.parameters():
            nn.init.normal_(parameter)
    expected = agent.update(batch, noise).q_target
    assert torch.equal(disturbed.update(batch, noise).q_target, expected)


def test_terminal_transitions_are_worth_their_reward(batch: Batch) -> None:
    ended = Batch(**{**vars(batch), "bootstrap": torch.zeros(B)})
    losses = make_agent(make_config()).update(ended)
    torch.testing.assert_close(losses.q_target, batch.reward.mean())


@pytest.mark.parametrize("samples", [1, 4])
def test_max_q_backup_takes_the_best_of_several_next_actions(batch: Batch, samples: int) -> None:
    config = make_config(critic={"max_q_samples": samples})
    agent = make_agent(config)
    noise = agent.noise.draw(B)
    assert noise.target.shape == (N, B * samples, A)
    values = torch.empty(B)
    with torch.no_grad():
        for row in range(B):
            observation = batch.next_observation[row : row + 1].expand(samples, -1)
            own = noise.target[:, row * samples : (row + 1) * samples]
            action = naive_chain(agent.policy.average, observation, own)
            each = [naive_critic(agent.critics.target, e, observation, action) for e in (0, 1)]
            values[row] = min(q.max() for q in each)
    target = batch.reward + config.critic.discount * batch.bootstrap * values
    torch.testing.assert_close(agent.update(batch, noise).q_target, target.mean())


def test_equal_seeds_give_equal_updates(batch: Batch) -> None:
    first, second = make_agent(make_config()), make_agent(make_config())
    for agent in (first, second):
        for _ in range(3):
            agent.update(batch)
    for name, module in first.modules.items():
        assert not moved(snapshot(module), second.modules[name])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_update_on_cuda_equals_the_one_on_the_cpu(batch: Batch) -> None:
    here = make_agent(make_config())
    torch.manual_seed(0)
    there = DiffusionQL(make_config(), O, A, torch.Generator("cuda").manual_seed(1))
    noise = here.noise.draw(B)
    here.update(batch, noise)
    there.update(
        Batch(**{key: value.cuda() for key, value in vars(batch).items()}),
        UpdateNoise(**{key: value.cuda() for key, value in vars(noise).items()}),
    )
    for name, module in here.modules.items():
        for key, value in module.state_dict().items():
            theirs = there.modules[name].state_dict()[key].cpu()
            torch.testing.assert_close(value, theirs, atol=1e-5, rtol=1e-4, msg=f"{name}.{key}")


def test_the_learning_rate_falls_along_a_cosine_to_the_end_of_the_run() -> None:
    descent = make_agent(make_config({"learning_rate": 0.1})).descents["policy"]
    assert descent.learning_rate(0) == pytest.approx(0.1)
    assert descent.learning_rate(50) == pytest.approx(0.05)
    assert descent.learning_rate(100) == pytest.approx(0.0)
    config = make_config().model_copy(
        update={"run": RunConfig(steps=100, learning_rate_decay="constant")}
    )
    assert make_agent(config).descents["critic"].learning_rate(99) == 3e-4


def test_the_noise_of_an_update_has_the_shapes_it_says() -> None:
    noise = make_agent(make_config()).noise.draw(1000)
    assert noise.imitation.shape == (1000, A)
    assert noise.policy.shape == noise.target.shape == (N, 1000, A)
    assert noise.guide.shape == ()
    assert sorted(set(noise.step.tolist())) == list(range(N))
