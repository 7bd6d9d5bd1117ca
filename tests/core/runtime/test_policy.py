import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dql_core.errors import ConfigError, SpecMismatchError
from dql_core.runtime.bundle_policy import BundlePolicy, load_policy
from dql_core.runtime.policy import Decision, Selection
from dql_core.spec import FieldSpec, PolicySpec

OBSERVATION = np.array([0.5, -1.0, 3.0], dtype=np.float32)


def act(policy: BundlePolicy, seed: int = 0) -> Decision:
    return policy.act(OBSERVATION, np.random.default_rng(seed))


def test_equal_generators_give_equal_decisions(tiny_bundle: Path) -> None:
    policy = load_policy(tiny_bundle)
    first = act(policy, seed=1)
    policy.act(OBSERVATION, np.random.default_rng(7))
    again = act(load_policy(tiny_bundle), seed=1)
    for name, values in vars(first).items():
        np.testing.assert_array_equal(getattr(again, name), values)
    assert not np.array_equal(act(policy, seed=2).candidates, first.candidates)


def test_one_generator_gives_other_noise_at_each_step(tiny_bundle: Path) -> None:
    policy, rng = load_policy(tiny_bundle), np.random.default_rng(0)
    first = policy.act(OBSERVATION, rng)
    assert not np.array_equal(policy.act(OBSERVATION, rng).candidates, first.candidates)


def test_actions_are_within_the_bounds_of_the_spec(tiny_bundle: Path) -> None:
    decision = act(load_policy(tiny_bundle, num_candidates=200))
    spec = load_policy(tiny_bundle).spec
    assert decision.action.dtype == np.float32
    assert (decision.candidates >= spec.action_low).all()
    assert (decision.candidates <= spec.action_high).all()


@pytest.mark.parametrize("num_candidates", [1, 2, 33])
def test_number_of_candidates_can_be_chosen_at_load(
    tiny_bundle: Path, num_candidates: int
) -> None:
    decision = act(load_policy(tiny_bundle, num_candidates=num_candidates))
    assert decision.candidates.shape == (num_candidates, 2)
    assert decision.q_values.shape == (num_candidates,)
    assert decision.action.shape == (2,)


def test_greedy_takes_the_candidate_of_the_highest_value(tiny_bundle: Path) -> None:
    policy = load_policy(tiny_bundle, selection="greedy")
    for seed in range(10):
        decision = act(policy, seed)
        best = decision.candidates[decision.q_values.argmax()]
        np.testing.assert_array_equal(decision.action, best)


def test_softmax_prefers_high_values_but_takes_others_too(tiny_bundle: Path) -> None:
    policy = load_policy(tiny_bundle)
    ranks = []
    for seed in range(200):
        decision = act(policy, seed)
        chosen = (decision.candidates == decision.action).all(axis=1).argmax()
        ranks.append(int((decision.q_values > decision.q_values[chosen]).sum()))
    counts = np.bincount(ranks, minlength=8)
    assert counts[0] == counts.max()
    assert counts[1:].sum() > 0
    assert counts[:4].sum() > counts[4:].sum()


def test_first_samples_a_single_candidate(tiny_bundle: Path) -> None:
    decision = act(load_policy(tiny_bundle, selection="first"))
    assert decision.candidates.shape == (1, 2)
    np.testing.assert_array_equal(decision.action, decision.candidates[0])


@pytest.mark.parametrize(
    ("num_candidates", "selection", "words"),
    [(0, None, "num_candidates is 0"), (5, "first", "selection 'first' looks at one only")],
)
def test_impossible_choice_is_refused_at_load(
    tiny_bundle: Path, num_candidates: int, selection: Selection | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_policy(tiny_bundle, num_candidates=num_candidates, selection=selection)


def test_matching_spec_is_accepted(tiny_bundle: Path, tiny_spec: PolicySpec) -> None:
    assert load_policy(tiny_bundle, spec=tiny_spec).spec == tiny_spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate_hz": 50.0}, "rate_hz is 50.0 in the former and 20.0 in the latter"),
        ({"contract_hash": "0" * 60}, "tiny.* is of an older version, which kept .* only a hash"),
        ({"action": (FieldSpec("grip", "", 0.0, 0.1),)}, r"action field 0 \('grip'\) name"),
    ],
)
def test_bundle_made_for_another_contract_is_refused_with_the_first_difference(
    tiny_bundle: Path, tiny_spec: PolicySpec, change: dict[str, object], words: str
) -> None:
    other = replace(tiny_spec, **change)  # type: ignore[arg-type]
    with pytest.raises(SpecMismatchError, match=f"the contract and bundle .*{words}"):
        load_policy(tiny_bundle, spec=other)


def test_observation_of_another_width_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(
        SpecMismatchError, match=r"shape \(4,\), the policy of 'tiny' needs \(3,\)"
    ):
        load_policy(tiny_bundle).act(np.zeros(4, np.float32), np.random.default_rng(0))


ACT_WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {
            "torch", "onnx", "onnxscript", "gymnasium", "minari", "rclpy", "scipy"
        }:
            raise ImportError(f"{name} must not be imported to run a policy")

sys.meta_path.insert(0, Refuse())

from pathlib import Path
import numpy as np
import dql_core.runtime.controller, dql_core.runtime.guard
from dql_core.runtime.bundle_policy import load_policy

policy = load_policy(Path(sys.argv[1]))
decision = policy.act(np.array([0.5, -1.0, 3.0], np.float32), np.random.default_rng(0))
print(decision.action.tolist())
"""


def test_policy_runs_in_a_process_that_cannot_import_torch(tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", ACT_WITHOUT_TORCH, str(tiny_bundle)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == str(act(load_policy(tiny_bundle)).action.tolist())
