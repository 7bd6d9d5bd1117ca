"""An episode in which MuJoCo loses the physics ends as failed, and leaves no file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from dql_core.errors import ConfigError
from dql_core.evaluation.rollout import ParallelRollouts, evaluate
from dql_core.runtime.policy import Committed, Decision
from dql_core.sim import FAILURE_KEY
from dql_core.sim.physics import PhysicsWatch, watch_physics
from dql_core.spec import FieldSpec, PolicySpec

# A pendulum with a motor that is too strong for its time step.
MODEL = """
<mujoco><option timestep="0.01"/>
  <worldbody><body name="arm"><joint name="shoulder" axis="0 1 0"/>
    <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02"/></body></worldbody>
  <actuator><motor joint="shoulder"/></actuator></mujoco>
"""
SPEC = PolicySpec(
    "arm", 0.0, (FieldSpec("angle"), FieldSpec("rate")), (FieldSpec("torque", "", -1e9, 1e9),)
)


class Arm(gymnasium.Env[Any, Any]):
    """As somebody else would write it: it looks at no warning."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(MODEL)
        self.data = mujoco.MjData(self.model)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = gymnasium.spaces.Box(-1e9, 1e9, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data)
        return self._observation(), 1.0, False, False, {"is_success": True}

    def _observation(self) -> Any:
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)


gymnasium.register("UnstableArm-v0", entry_point=lambda **_: Arm(), max_episode_steps=20)


class Constant:
    """A policy of one torque, for one observation or many."""

    spec = SPEC
    horizon = 1

    def __init__(self, torque: float) -> None:
        self._action = np.array([torque], np.float32)

    def reset(self) -> None:
        pass

    def act(
        self,
        observation: Any,
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        return Decision(self._action, np.zeros(1, np.float32), self._action[None])

    def act_for_each(self, observations: Any, rngs: Any) -> Any:
        return np.tile(self._action, (len(observations), 1))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_episode_ends_as_failed_with_the_warning_and_the_time(tmp_path: Path) -> None:
    environment = watch_physics(Arm())
    before, _ = environment.reset(seed=0)
    for _ in range(3):
        before, _, _, truncated, info = environment.step(np.array([0.0]))
        assert not truncated
    assert FAILURE_KEY not in info
    after, reward, terminated, truncated, info = environment.step(np.array([1e9]))
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, True, False)
    assert info[FAILURE_KEY].startswith("the physics was lost after 0.030 s: MuJoCo warns BAD")
    assert "(joint 'shoulder')" in info[FAILURE_KEY]
    np.testing.assert_array_equal(after, before)
    environment.reset(seed=0)
    assert not environment.step(np.array([0.0]))[3]
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_sets_its_state_itself_is_watched_anew() -> None:
    arm = Arm()
    environment = watch_physics(arm)
    environment.reset(seed=0)
    assert environment.step(np.array([1e9]))[3]

    def set_state(model: Any, data: Any) -> None:
        data.qpos[:] = data.qvel[:] = 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mujoco, "mj_resetData", set_state)
        environment.reset(seed=0)
    assert arm.data.warning.number.any()
    for _ in range(3):
        assert not environment.step(np.array([0.0]))[3]
    _, _, _, truncated, info = environment.step(np.array([1e9]))
    assert truncated
    assert "MuJoCo warns BAD" in info[FAILURE_KEY]


def test_other_environments_are_left_alone() -> None:
    pendulum = gymnasium.make("Pendulum-v1")
    assert watch_physics(pendulum) is pendulum


def test_an_evaluation_reports_failed_episodes(tmp_path: Path) -> None:
    lost = evaluate(Constant(1e9), "UnstableArm-v0", 2)
    assert lost.lengths == (1, 1)
    assert lost.successes == (False, False)
    assert [line.partition(":")[0] for line in lost.failures] == ["episode 0", "episode 1"]
    assert "the physics was lost" in lost.to_json()["failures"][0]
    sound = evaluate(Constant(0.0), "UnstableArm-v0", 2, max_episode_steps=5)
    assert (sound.lengths, sound.successes, sound.failures) == ((5, 5), (True, True), ())
    assert list(tmp_path.iterdir()) == []


def test_episodes_side_by_side_report_them_alike() -> None:
    rollouts = ParallelRollouts("UnstableArm-v0", SPEC, 3, seed=0)
    lost = rollouts.run(Constant(1e9))
    assert lost is not None
    assert (lost.lengths, lost.successes) == ((1, 1, 1), (False, False, False))
    assert len(lost.failures) == 3
    sound = rollouts.run(Constant(0.0))
    rollouts.close()
    assert sound is not None
    assert (sound.lengths, sound.failures) == ((20, 20, 20), ())


def test_the_watch_wraps_what_mujoco_simulates() -> None:
    assert isinstance(watch_physics(gymnasium.make("UnstableArm-v0")), PhysicsWatch)


def test_an_mjcf_file_alone_is_no_environment() -> None:
    with pytest.raises(ConfigError, match=r"'arm.xml' is an MJCF file.* 'dql closed-loop"):
        evaluate(Constant(0.0), "arm.xml", 1)


def test_a_warning_at_the_making_of_an_environment_leaves_no_file(tmp_path: Path) -> None:
    """Of an attribute of HalfCheetah's model that MuJoCo will not have for ever."""
    code = "from dql_core.data.spaces import make_env; make_env('HalfCheetah-v5', '').close()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
