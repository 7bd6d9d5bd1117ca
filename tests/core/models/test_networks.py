import math
from typing import Any

import pytest
import torch

from dql_core.models.critic import CriticEnsemble
from dql_core.models.denoiser import Denoiser, sinusoids
from dql_core.models.ema import MovingAverage, frozen_copy
from dql_core.models.layers import mish


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def parameter_count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("sizes", "policy", "critics"),
    [((11, 3), 141_363, 271_362), ((17, 6), 144_438, 275_970), ((29, 8), 148_536, 283_138)],
)
def test_the_networks_have_the_papers_number_of_parameters(
    sizes: tuple[int, int], policy: int, critics: int
) -> None:
    assert parameter_count(Denoiser(*sizes, num_steps=5)) == policy
    assert parameter_count(CriticEnsemble(*sizes)) == critics


def test_mish_and_its_slope_equal_torchs_own() -> None:
    x = torch.linspace(-90.0, 90.0, 10_001).requires_grad_()
    values, reference = mish(x), torch.nn.functional.mish(x)
    torch.testing.assert_close(values, reference, rtol=1e-6, atol=1e-30)
    weight = torch.cos(x.detach())
    (slope,) = torch.autograd.grad((weight * values).sum(), x)
    (reference_slope,) = torch.autograd.grad((weight * reference).sum(), x)
    torch.testing.assert_close(slope, reference_slope)
    with torch.no_grad():
        assert torch.equal(mish(x), values)


def test_the_step_embedding_is_sine_and_cosine_of_falling_frequencies() -> None:
    table = sinusoids(5, 16)
    frequency = [math.exp(-k * math.log(10_000) / 7) for k in range(8)]
    for step in range(5):
        expected = [math.sin(step * f) for f in frequency] + [
            math.cos(step * f) for f in frequency
        ]
        torch.testing.assert_close(table[step], torch.tensor(expected))


def test_the_split_first_layer_equals_one_layer_on_the_concatenation() -> None:
    denoiser = Denoiser(3, 2, num_steps=5, width=8).double()
    action = torch.randn(6, 2, dtype=torch.float64)
    observation = torch.randn(6, 3, dtype=torch.float64)
    step = torch.tensor([0, 1, 2, 3, 4, 2])
    embedding = denoiser.step_embedding(sinusoids(5, 16).double())[step]
    features = denoiser.first(torch.cat([action, embedding, observation], dim=-1))
    for layer in denoiser.hidden:
        features = layer(torch.nn.functional.mish(features))
    expected = denoiser.last(torch.nn.functional.mish(features))
    torch.testing.assert_close(denoiser(action, step, observation), expected)


def test_conditioning_once_equals_asking_each_time() -> None:
    denoiser = Denoiser(3, 2, num_steps=5, width=8)
    action, observation = torch.randn(6, 2), torch.randn(6, 3)
    predict = denoiser.condition(observation)
    for step in range(5):
        direct = denoiser(action, torch.tensor(step), observation)
        torch.testing.assert_close(predict(action, step), direct)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_critic_equals_an_mlp_of_its_own(layer_norm: bool, number: int) -> None:
    settings: dict[str, Any] = {"layer_norm": layer_norm, "num_critics": number}
    critic = CriticEnsemble(3, 2, width=8, depth=2, **settings).double()
    observation = torch.randn(6, 3, dtype=torch.float64)
    action = torch.randn(6, 2, dtype=torch.float64)
    values = critic(observation, action)
    assert values.shape == (number, 6)
    weights = dict(critic.named_parameters())
    for index in range(number):
        alone = critic.one(torch.tensor(index), observation, action)
        torch.testing.assert_close(alone, values[index])
        features = torch.cat([observation, action], dim=-1)
        for layer in range(3):
            weight, bias = weights[f"layers.{layer}.weight"], weights[f"layers.{layer}.bias"]
            features = features @ weight[index] + bias[index]
            if layer < 2:
                if layer_norm:
                    spread = features.var(dim=-1, keepdim=True, unbiased=False)
                    features = features - features.mean(dim=-1, keepdim=True)
                    features = features / torch.sqrt(spread + 1e-5)
                features = features * torch.tanh(torch.log1p(torch.exp(features)))
        torch.testing.assert_close(values[index], features.squeeze(-1))


def test_dueling_critics_add_the_value_of_the_state_which_takes_no_gradient_from_them() -> None:
    critic = CriticEnsemble(3, 2, width=8, depth=2, num_critics=3, layer_norm=True, dueling=True)
    observation, action = torch.randn(6, 3), torch.randn(6, 2)
    assert critic.state_value is not None
    summed = critic.state_value(observation) + critic.advantages(observation, action)
    values = critic(observation, action)
    torch.testing.assert_close(values, summed)
    torch.testing.assert_close(critic.one(torch.tensor(1), observation, action), summed[1])
    own = action.expand(3, -1, -1)
    torch.testing.assert_close(critic.each(observation, own), summed)
    values.sum().backward()
    assert all(parameter.grad is None for parameter in critic.state_value.parameters())
    assert all(parameter.grad is not None for parameter in critic.layers.parameters())


def test_the_two_critics_start_apart() -> None:
    values = CriticEnsemble(3, 2)(torch.randn(6, 3), torch.randn(6, 2))
    assert (values[0] - values[1]).abs().min() > 0


def test_a_frozen_copy_is_equal_and_takes_no_gradient() -> None:
    critic = CriticEnsemble(3, 2, width=8)
    twin = frozen_copy(critic)
    for mine, its in zip(critic.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.requires_grad
        assert not its.requires_grad


def test_an_average_moves_by_its_rate_towards_the_source() -> None:
    target, source = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in target.parameters()]
    MovingAverage(target, source, 0.25).move()
    for old, new, its in zip(before, target.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * its)
