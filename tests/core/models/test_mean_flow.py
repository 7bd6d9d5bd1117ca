"""The mean flow identity, on networks and on a flow whose average velocity is known."""

import pytest
import torch
from torch import Tensor

from dql_core.algo.losses import mean_flow_target
from dql_core.models.layers import mish_slope
from dql_core.models.mean_flow import AverageVelocity, draw_spans, num_spans

# What torch.func imports is deprecated by torch itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture(name="network")
def _network() -> AverageVelocity:
    torch.manual_seed(0)
    return AverageVelocity(observation_size=3, action_size=2, width=16, depth=3).double()


def somewhere(rows: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return points, spans, observations and directions."""
    spans = draw_spans(rows, torch.Generator().manual_seed(1)).double()
    point, observation, direction = (torch.randn(rows, n).double() for n in (2, 3, 2))
    return point, spans, observation, direction


def test_the_slope_of_mish_is_that_of_autograd() -> None:
    x = torch.linspace(-90.0, 90.0, 2001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(torch.nn.functional.mish(x).sum(), x)
    torch.testing.assert_close(mish_slope(x.detach()), slope)


def test_the_rate_is_the_numeric_derivative_along_the_path(network: AverageVelocity) -> None:
    point, span, observation, direction = somewhere()
    velocity, rate = network.velocity_and_rate(point, span, observation, direction[:3])
    torch.testing.assert_close(velocity, network.velocity(point, span, observation))
    step = 1e-5
    later, earlier = (
        network.velocity(
            point + sign * step * direction,
            span + sign * step * torch.tensor([0.0, 1.0]).double(),
            observation,
        )
        for sign in (1, -1)
    )
    torch.testing.assert_close(rate, ((later - earlier) / (2 * step))[:3], atol=1e-8, rtol=1e-6)
    assert not rate.requires_grad
    assert velocity.requires_grad


def test_the_rate_is_torchs_own_forward_derivative(network: AverageVelocity) -> None:
    point, span, observation, direction = somewhere()

    def plain(at: Tensor, times: Tensor) -> Tensor:
        end = times[:, 1:]
        features = torch.cat([at, end, end - times[:, :1], observation], dim=1)
        for layer in (network.first, *network.hidden):
            features = torch.nn.functional.mish(layer(features))
        result: Tensor = network.last(features)
        return result

    only_t = torch.tensor([0.0, 1.0]).double().expand(5, 2)
    velocity, rate = torch.func.jvp(plain, (point, span), (direction, only_t))[:2]
    ours = network.velocity_and_rate(point, span, observation, direction)
    torch.testing.assert_close(ours, (velocity, rate))


def test_an_action_is_noise_minus_the_average_velocity_over_the_whole_span(
    network: AverageVelocity,
) -> None:
    observation, noise = torch.randn(4, 3).double(), torch.randn(1, 4, 2).double()
    whole = torch.tensor([0.0, 1.0]).double().expand(4, 2)
    expected = noise[0] - network.velocity(noise[0], whole, observation)
    torch.testing.assert_close(network(observation, noise), expected.clamp(-1, 1))
    for_all = network(observation[:1], noise)
    torch.testing.assert_close(for_all, network(observation[:1].expand(4, -1), noise))
    assert network(observation, 99.0 * noise).abs().max() == 1.0


class GaussianFlow:
    r"""Actions from :math:`N(m, s^2)`: path, velocity and average velocity are known.

    The marginal at t is a Gaussian with mean (1 - t) m and variance (1 - t)^2 s^2 + t^2, and the
    flow keeps how many standard deviations a point is from the mean.
    """

    mean, spread = 0.4, 0.3

    def location(self, t: Tensor) -> Tensor:
        return (1 - t) * self.mean

    def scale(self, t: Tensor) -> Tensor:
        return ((1 - t) ** 2 * self.spread**2 + t**2).sqrt()

    def average(self, z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        standard = (z - self.location(t)) / self.scale(t)
        return (z - self.location(r) - self.scale(r) * standard) / (t - r)

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        rate = (t - (1 - t) * self.spread**2) / self.scale(t)
        return -self.mean + rate * (z - self.location(t)) / self.scale(t)


def test_the_target_is_the_average_velocity_of_a_flow_that_is_known() -> None:
    flow = GaussianFlow()
    columns = [0.3, -1.0, 2.0], [0.1, 0.0, 0.5], [0.6, 1.0, 0.9]
    z, r, t = (torch.tensor([values], dtype=torch.float64).T for values in columns)
    velocity = flow.velocity(z, t)
    average, rate = torch.func.jvp(
        lambda at, end: flow.average(at, r, end), (z, t), (velocity, torch.ones_like(t))
    )[:2]
    target = mean_flow_target(velocity, rate, torch.cat([r, t], dim=1))
    torch.testing.assert_close(target, average)
    # One step from noise gives the data's distribution: here a line.
    noise = torch.tensor([[1.5]]).double()
    action = noise - flow.average(noise, torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    torch.testing.assert_close(action, flow.mean + flow.spread * noise)


@pytest.mark.parametrize("rows", [1, 6, 256])
def test_a_share_of_the_rows_has_spans_and_the_others_have_none(rows: int) -> None:
    spans = draw_spans(rows, torch.Generator().manual_seed(0))
    again = draw_spans(rows, torch.Generator().manual_seed(0))
    assert torch.equal(spans, again)
    start, end = spans.T
    count = num_spans(rows)
    assert 1 <= count <= rows / 2 + 1
    assert (start[:count] < end[:count]).all()
    assert torch.equal(start[count:], end[count:])
    assert spans.min() >= 0
    assert spans.max() <= 1
