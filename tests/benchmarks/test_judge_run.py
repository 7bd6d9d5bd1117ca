"""The whole way on a small set, and the parts whose truth is known."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.judge import policies, recipes
from benchmarks.judge import run as running
from benchmarks.judge.d3rlpy_fqe import Answers, KnownActions, fit
from benchmarks.judge.policies import POLICIES_FILE, read_policies
from benchmarks.judge.recipes import Recipe, Variant, method
from benchmarks.judge.rows import Row
from benchmarks.judge.splits import ARM, Split, find_judged_set
from benchmarks.judge.truth import recorded_return, roll_out
from benchmarks.suite.data import main as make_data
from benchmarks.suite.methods import configuration
from benchmarks.suite.rows import ROWS_FILE, read_rows_of
from dql_core.data.dataset import Episode, LoadedDataset, load_dataset
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.loop import train

NAME = "hopper-mixed"
TINY = {
    "run.execution": "eager",
    "run.batch_size": 16,
    "policy.width": 8,
    "critic.width": 8,
    "selection.num_candidates": 2,
}
SPEC = PolicySpec("walk", 10.0, (FieldSpec("place"),), (FieldSpec("step", "", -1.0, 1.0),))
DISCOUNT = 0.5


class Walk(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Earns each step's size, for ever."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.zeros(1, np.float32), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), float(action[0]), False, False, {}


class Steady:
    """Takes the same step always."""

    def act_for_each(self, observations: NDArray[np.float32], rngs: Any) -> NDArray[np.float32]:
        return np.full((len(observations), 1), 0.5, np.float32)


def test_the_truth_is_discounted_beyond_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    gymnasium.register("JudgedWalk-v0", entry_point=lambda **_: Walk(), max_episode_steps=4)
    try:
        truth = roll_out(Steady(), "JudgedWalk-v0", SPEC, DISCOUNT, 3)
    finally:
        del gymnasium.registry["JudgedWalk-v0"]
    assert truth.returns == (2.0, 2.0, 2.0)
    # All but a thousandth of what follows for ever, 0.5 / (1 - 0.5).
    assert truth.discounted == pytest.approx((1.0, 1.0, 1.0), abs=2e-3)


def episode(rewards: list[float], *, terminated: bool) -> Episode:
    steps = len(rewards)
    return Episode(
        np.arange(steps + 1, dtype=np.float32)[:, None],
        np.full((steps, 1), 0.5, np.float32),
        np.array(rewards),
        terminated,
        not terminated,
    )


def test_a_recorded_episode_that_was_cut_off_goes_on_as_it_ended() -> None:
    ended, cut = episode([4.0, 2.0], terminated=True), episode([4.0, 2.0], terminated=False)
    assert recorded_return([ended, cut], DISCOUNT) == pytest.approx((5.0, 5.0 + 0.25 * 2.0 / 0.5))


def test_known_actions_are_found_by_their_states() -> None:
    observations = np.arange(6, dtype=np.float32).reshape(3, 2) + 1.0
    known = KnownActions(observations, np.array([[0.1], [0.2], [0.3]], np.float32))
    asked = torch.as_tensor(observations[[2, 0]])
    np.testing.assert_allclose(known.impl.predict_best_action(asked), [[0.3], [0.1]])
    with pytest.raises(KeyError):
        known.predict_best_action(asked + 1e-3)


def test_d3rlpy_evaluates_what_the_policy_does() -> None:
    pytest.importorskip("d3rlpy", reason="d3rlpy is not installed")
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (200, 1)).astype(np.float32)
    # One step each, which earns its action: the value of a policy is what it does at first.
    episodes = tuple(
        Episode(np.array([[0.0], [1.0]], "f4"), each[None], each.astype(float), True, False)
        for each in actions
    )
    data = LoadedDataset(SPEC, episodes, "walk")
    states = np.array([[0.0], [1.0]], np.float32)
    values = [
        fit(data, Answers(states, np.full((2, 1), step, np.float32)), 0.9, 1000, 0).value
        for step in (-0.5, 0.5)
    ]
    np.testing.assert_allclose(values, [-0.5, 0.5], atol=0.15)


def test_recipes_are_configurations_of_every_agent() -> None:
    for name in (NAME, ARM):
        for recipe in recipes.RECIPES:
            config = configuration(
                method(recipe, name), find_judged_set(name), [], dataset="d", steps=7, seed=3
            )
            assert (config.run.steps, config.run.seed) == (7, 3)
            assert config.agent == recipe.settings["agent"]
            assert config.diffusion.schedule == "cosine"
    names = [recipe.name for recipe in recipes.RECIPES]
    assert len(set(names)) == len(names)
    assert all(variant.recipe in names for variant in recipes.VARIANTS)
    assert sum(len(recipe.steps) for recipe in recipes.RECIPES) + len(recipes.VARIANTS) >= 12


@pytest.fixture
def small(agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, and recipes of a few updates."""
    make_data(["--agents", str(agents), "--sets", NAME, "--size", "300", "--out", str(tmp_path)])
    made = (
        Recipe("bc", {"agent": "diffusion_bc"}, (2, 4)),
        Recipe("ql", {"agent": "diffusion_ql"}, (2, 4), "negated"),
    )
    monkeypatch.setattr(policies, "RECIPES", made)
    variant = Variant("ql_first", "ql", -1, {"rule": "first", "num_candidates": 1})
    monkeypatch.setattr(policies, "VARIANTS", (variant,))
    return tmp_path


def make(small: Path) -> None:
    overrides = [f"--override={key}={value}" for key, value in TINY.items()]
    policies.main(["--set", NAME, "--data", str(small), "--out", str(small / "out"), *overrides])


def judge(small: Path, *more: str) -> dict[str, Row]:
    fixed = ["--set", NAME, "--out", str(small / "out"), "--episodes", "2"]
    running.main([*fixed, "--warm-up", "4", "--updates", "20", "--without-d3rlpy", *more])
    return read_rows_of(Row, small / "out" / ROWS_FILE)


def test_policies_are_made_and_judged_by_episodes_that_they_did_not_learn_from(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(small)
    parts = Split(small / "out" / NAME / "data")
    learned, negated = (load_dataset(parts.part(name)) for name in ("learned", "negated"))
    held_out, whole = parts.held_out(), load_dataset(small / NAME)
    assert len(learned.episodes) + len(held_out.episodes) == len(whole.episodes)
    starts = [
        {each.observations[0].tobytes() for each in part.episodes} for part in (learned, held_out)
    ]
    assert not starts[0] & starts[1]
    np.testing.assert_array_equal(negated.episodes[0].rewards, -learned.episodes[0].rewards)
    made = read_policies(small / "out" / NAME)
    assert [each.name for each in made] == ["bc@2", "bc@4", "ql@2", "ql@4", "ql_first"]

    rows = judge(small)
    assert set(rows) == {f"{NAME}_{each.name}" for each in made}
    assert all(len(row.truth.returns) == 2 and row.together == 5 for row in rows.values())
    assert rows[f"{NAME}_bc@4"].td_error is None
    assert rows[f"{NAME}_ql@4"].td_error is not None
    # The same weights with one candidate, drawn with other noise.
    assert rows[f"{NAME}_ql_first"].truth != rows[f"{NAME}_ql@4"].truth
    assert "lacks" not in capsys.readouterr().err

    # Nothing is done twice.
    monkeypatch.delattr(running, "estimate")
    monkeypatch.delattr(running, "roll_out")
    path = small / "out" / ROWS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    assert judge(small).keys() == rows.keys()
    with pytest.raises(SystemExit):
        judge(small, "--updates", "30")
    assert "give another --out" in capsys.readouterr().err


def test_an_interrupted_making_goes_on(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        trained: list[str] = []

        def once(config: Any, run: Path, *more: Any, **settings: Any) -> Any:
            if trained:
                raise KeyboardInterrupt
            trained.append(run.name)
            return train(config, run, *more, **settings)

        broken.setattr(policies, "train", once)
        with pytest.raises(SystemExit) as ended:
            make(small)
        assert ended.value.code == 130
        assert not (small / "out" / NAME / POLICIES_FILE).exists()
    make(small)
    assert len(read_policies(small / "out" / NAME)) == 5


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (
        (["--set", NAME, "--out", str(tmp_path)], "make it by benchmarks.judge.policies"),
        (["--set", "hoper-mixed", "--out", str(tmp_path)], "make it by benchmarks.judge.policies"),
        (["--set", NAME, "--episodes", "1"], "--episodes at least 2"),
    ):
        with pytest.raises(SystemExit) as ended:
            running.main(command)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        policies.main(["--set", "hoper-mixed", "--out", str(tmp_path)])
    assert "did you mean" in capsys.readouterr().err
