import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dql_core.models.denoiser import Denoiser
from dql_core.models.sampler import StepPrediction, make_process
from dql_core.models.schedule import NoiseSchedule, Sampler, Variance

VP = NoiseSchedule.make("vp", 5)
DDPM = make_process(VP)
Array = NDArray[np.float64]


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(observation_size=3, action_size=2, num_steps=5, width=16).double()


def numpy_chain(
    denoiser: Denoiser, observation: Array, noise: Array, variance: Variance, clip: bool
) -> Array:
    """The reverse process written a second time, from algorithm to arrays."""
    alpha, beta, alpha_bar = VP.alphas, VP.betas, VP.alpha_bars
    action: Array = noise[0]
    for i in range(4, -1, -1):
        step = torch.full((len(action),), i)
        with torch.no_grad():
            epsilon = denoiser(torch.tensor(action), step, torch.tensor(observation)).numpy()
        clean = (action - np.sqrt(1 - alpha_bar[i]) * epsilon) / np.sqrt(alpha_bar[i])
        clean = np.clip(clean, -1, 1) if clip else clean
        if i == 0:
            action = clean
            break
        before = alpha_bar[i - 1]
        mean = beta[i] * np.sqrt(before) * clean + (1 - before) * np.sqrt(alpha[i]) * action
        mean /= 1 - alpha_bar[i]
        spread = (
            beta[i] * (1 - before) / (1 - alpha_bar[i]) if variance == "posterior" else beta[i]
        )
        action = mean + np.sqrt(spread) * noise[5 - i]
    result: Array = np.clip(action, -1, 1)
    return result


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("clip", [True, False])
def test_sampling_agrees_with_a_chain_in_numpy(
    denoiser: Denoiser, variance: Variance, clip: bool
) -> None:
    rng = np.random.default_rng(1)
    observation, noise = rng.normal(size=(7, 3)), rng.normal(size=(5, 7, 2))
    process = make_process(VP, variance=variance, clip_denoised=clip)
    actions = process.sample(denoiser, torch.tensor(observation), torch.tensor(noise))
    expected = numpy_chain(denoiser, observation, noise, variance, clip)
    np.testing.assert_allclose(actions.detach().numpy(), expected, atol=1e-12)


def test_without_clipping_a_reverse_step_is_the_papers_equation() -> None:
    rng = np.random.default_rng(2)
    action, epsilon = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    process = make_process(VP, clip_denoised=False)
    for step in process.steps:
        alpha, beta = VP.alphas[step.index], VP.betas[step.index]
        paper = action / np.sqrt(alpha) - beta / np.sqrt(alpha * (1 - step.alpha_bar)) * epsilon
        clean = process.clean_action(torch.tensor(action), torch.tensor(epsilon), step.alpha_bar)
        mean = step.noisy_weight * action + step.clean_weight * clean.numpy()
        np.testing.assert_allclose(mean, paper, atol=1e-12)


def test_a_perfect_noise_model_recovers_the_action_from_any_noise() -> None:
    wanted = torch.tensor([[0.3, -0.7]], dtype=torch.float64)

    class Oracle:
        def condition(self, observation: torch.Tensor) -> StepPrediction:
            def predict(action: torch.Tensor, step: int) -> torch.Tensor:
                alpha_bar = float(VP.alpha_bars[step])
                return torch.div(action - alpha_bar**0.5 * wanted, (1 - alpha_bar) ** 0.5)

            return predict

    noise = torch.randn(5, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    action = DDPM.sample(Oracle(), torch.zeros(1, 3), noise)
    torch.testing.assert_close(action, wanted)


def test_actions_stay_in_the_normalised_bounds(denoiser: Denoiser) -> None:
    generator = torch.Generator().manual_seed(4)
    noise = 10 * torch.randn(5, 50, 2, dtype=torch.float64, generator=generator)
    observation = torch.zeros(50, 3, dtype=torch.float64)
    process = make_process(VP, clip_denoised=False)
    assert process.sample(denoiser, observation, noise).abs().max() <= 1.0


def test_every_row_of_the_noise_moves_the_action(denoiser: Denoiser) -> None:
    torch.nn.init.zeros_(denoiser.last.weight)
    torch.nn.init.zeros_(denoiser.last.bias)  # so that no step is clipped
    noise = (0.01 * torch.randn(5, 4, 2, dtype=torch.float64)).requires_grad_()
    actions = DDPM.sample(denoiser, torch.zeros(4, 3, dtype=torch.float64), noise)
    (gradient,) = torch.autograd.grad(actions.sum(), noise)
    assert bool((gradient.abs() > 0).all())


def test_gradients_reach_every_parameter_through_the_whole_chain(denoiser: Denoiser) -> None:
    noise = torch.randn(5, 4, 2, dtype=torch.float64) * 0.1
    actions = DDPM.sample(denoiser, torch.ones(4, 3, dtype=torch.float64), noise)
    names, parameters = zip(*denoiser.named_parameters(), strict=True)
    gradients = torch.autograd.grad(actions.sum(), parameters)
    for name, gradient in zip(names, gradients, strict=True):
        assert gradient.abs().sum() > 0, name


def ddim_chain(denoiser: Denoiser, observation: Array, noise: Array, indices: list[int]) -> Array:
    """DDIM written a second time: the implied noise is kept while the noise level falls."""
    action: Array = noise[0]
    for position, i in enumerate(indices):
        step = torch.full((len(action),), i)
        with torch.no_grad():
            epsilon = denoiser(torch.tensor(action), step, torch.tensor(observation)).numpy()
        clean = (action - np.sqrt(1 - VP.alpha_bars[i]) * epsilon) / np.sqrt(VP.alpha_bars[i])
        clean = np.clip(clean, -1, 1)
        implied = (action - np.sqrt(VP.alpha_bars[i]) * clean) / np.sqrt(1 - VP.alpha_bars[i])
        last = position + 1 == len(indices)
        level = 1.0 if last else VP.alpha_bars[indices[position + 1]]
        action = np.sqrt(level) * clean + np.sqrt(1 - level) * implied
    result: Array = np.clip(action, -1, 1)
    return result


@pytest.mark.parametrize(
    ("count", "indices"), [(None, [4, 3, 2, 1, 0]), (3, [4, 2, 0]), (2, [4, 0]), (1, [4])]
)
def test_ddim_agrees_with_a_chain_in_numpy(
    denoiser: Denoiser, count: int | None, indices: list[int]
) -> None:
    rng = np.random.default_rng(5)
    observation, noise = rng.normal(size=(7, 3)), rng.normal(size=(1, 7, 2))
    process = make_process(VP, sampler="ddim", num_sampling_steps=count)
    assert process.num_noises == 1
    actions = process.sample(denoiser, torch.tensor(observation), torch.tensor(noise))
    expected = ddim_chain(denoiser, observation, noise, indices)
    np.testing.assert_allclose(actions.detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_model_of_the_clean_action_is_the_model_of_the_noise_in_other_words(
    denoiser: Denoiser, sampler: Sampler
) -> None:
    by_noise = make_process(VP, sampler=sampler)

    class CleanModel:
        def condition(self, observation: torch.Tensor) -> StepPrediction:
            predict_noise = denoiser.condition(observation)

            def predict(action: torch.Tensor, step: int) -> torch.Tensor:
                alpha_bar = float(VP.alpha_bars[step])
                epsilon = predict_noise(action, step)
                return torch.div(action - (1 - alpha_bar) ** 0.5 * epsilon, alpha_bar**0.5)

            return predict

    by_clean = make_process(VP, sampler=sampler, prediction="x0")
    noise = torch.randn(5, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    observation = torch.ones(6, 3, dtype=torch.float64)
    torch.testing.assert_close(
        by_clean.sample(CleanModel(), observation, noise),
        by_noise.sample(denoiser, observation, noise),
    )


@pytest.mark.parametrize(("num_steps", "weight"), [(5, 2.7), (10, 5.5), (20, 10.5)])
def test_the_larger_error_of_a_clean_action_weighs_what_the_training_page_says(
    num_steps: int, weight: float
) -> None:
    schedule = NoiseSchedule.make("cosine", num_steps)
    scale = make_process(schedule, prediction="x0").error_scale(
        "larger", torch.tensor(schedule.alpha_bars)
    )
    assert scale.square().mean().item() == pytest.approx(weight, rel=0.02)
