from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dql_core.algo.policy_graph import PolicyGraph
from dql_core.errors import BundleError
from dql_core.export.bundle import measure_parity, require_parity
from dql_core.models.actors import DiffusionSampler
from dql_core.models.critic import CriticEnsemble
from dql_core.models.denoiser import Denoiser
from dql_core.models.sampler import make_process
from dql_core.models.schedule import NoiseSchedule
from dql_core.normalize import Normalizer
from dql_core.runtime.manifest import Parity
from dql_core.runtime.policy import Choice, Committed, Decision, Noise, Selection

OBSERVATIONS = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Distortion = Callable[[Decision], Decision]


@pytest.fixture
def graph() -> PolicyGraph:
    torch.manual_seed(0)
    return PolicyGraph(
        DiffusionSampler(
            Denoiser(3, 2, 5, width=16, depth=2), make_process(NoiseSchedule.make("vp", 5))
        ),
        CriticEnsemble(3, 2, width=16, depth=2),
        Normalizer.for_actions_only(3, [-2.0, 0.0], [2.0, 0.1]),
        temperature=0.5,
    )


def parity(graph: PolicyGraph, distort: Distortion, selection: Selection = "softmax") -> Parity:
    def exported(
        observation: NDArray[np.float32], noise: Noise, committed: Committed | None = None
    ) -> Decision:
        return distort(graph.decide(observation, noise, committed))

    return measure_parity(graph, exported, OBSERVATIONS, "ten draws", Choice(6, selection))


def unchanged(decision: Decision) -> Decision:
    return decision


def take_another(decision: Decision) -> Decision:
    chosen = (decision.candidates == decision.action).all(axis=1).argmax()
    return replace(decision, action=decision.candidates[(chosen + 1) % 6])


def shift_candidates(decision: Decision) -> Decision:
    # 1e-3 is a hundredth of the second action's range and far less of the first's.
    return replace(decision, candidates=decision.candidates + np.float32(1e-3))


def shift_values(decision: Decision) -> Decision:
    return replace(decision, q_values=decision.q_values + np.float32(0.01))


def lose_a_value(decision: Decision) -> Decision:
    return replace(decision, q_values=np.full_like(decision.q_values, np.nan))


def test_a_policy_is_at_parity_with_itself(graph: PolicyGraph) -> None:
    measured = parity(graph, unchanged)
    assert measured == Parity(
        observations=10,
        source="ten draws",
        action_error=0.0,
        candidate_error=0.0,
        q_error=0.0,
        ties=0,
    )
    require_parity(measured, "checkpoint")


@pytest.mark.parametrize(
    ("distort", "what"),
    [
        (take_another, "chosen actions"),
        (shift_candidates, "candidate actions"),
        (shift_values, "Q values"),
        (lose_a_value, "chosen actions .* differ from the policy's by inf"),
    ],
)
@pytest.mark.parametrize("selection", ["softmax", "greedy"])
def test_another_policy_is_refused_and_what_differs_is_named(
    graph: PolicyGraph, distort: Distortion, what: str, selection: Selection
) -> None:
    with pytest.raises(BundleError, match=f"^checkpoint: the {what}.*no bundle was written"):
        require_parity(parity(graph, distort, selection), "checkpoint")


def test_errors_are_shares_of_each_actions_own_range(graph: PolicyGraph) -> None:
    assert parity(graph, shift_candidates).candidate_error == pytest.approx(1e-2, rel=1e-3)


def test_choice_that_rounding_can_explain_is_accepted_and_counted(graph: PolicyGraph) -> None:
    # All candidates are worth the same, so the last bit of a Q value decides.
    assert graph.critic is not None
    for parameter in graph.critic.parameters():
        torch.nn.init.zeros_(parameter)

    def round_differently(decision: Decision) -> Decision:
        q_values = decision.q_values.copy()
        q_values[4] = np.float32(1e-7)
        return replace(decision, q_values=q_values, action=decision.candidates[4])

    measured = parity(graph, round_differently, "greedy")
    require_parity(measured, "checkpoint")
    assert measured.ties == len(OBSERVATIONS)
    assert measured.action_error == 0.0


def test_choice_that_rounding_cannot_explain_is_refused(graph: PolicyGraph) -> None:
    def round_and_take_another(decision: Decision) -> Decision:
        q_values = decision.q_values * np.float32(1 + 1e-7)
        return take_another(replace(decision, q_values=q_values))

    with pytest.raises(BundleError, match="chosen actions"):
        require_parity(parity(graph, round_and_take_another, "greedy"), "checkpoint")
