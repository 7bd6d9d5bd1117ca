"""A control node whose policy misbehaves as the first number of the observation tells it to."""

import hashlib
import sys
import time

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode
from dql_ros.nodes.parameters import Parameter, value_of

ACTION = 1.5
STALL_S = 1.0
HANG_S = 3600.0
NEVER = "the policy was asked for what it will never answer"
STALL, CRASH, NAN, BEYOND, HANG = 2.5, 2.6, 2.7, 2.8, 2.9
# Computes for ever: with the interpreter's lock released, and in turns held.
SPIN, LOOP = 3.0, 3.1

PARAMETERS = (
    Parameter("num_candidates", 8, "actions sampled", (1, 1000)),
    Parameter("candidate_s", 0.0, "seconds that each takes", (0.0, 1.0)),
)


class Scripted:
    """Always acts alike, but for what the observation asks for."""

    horizon = 1

    def __init__(self, spec: PolicySpec, takes_s: float) -> None:
        self.spec = spec
        self._takes_s = takes_s
        self._stalled = False

    def reset(self) -> None:
        """Nothing to forget."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        first = round(float(observation[0]), 3)
        action = np.full(len(self.spec.action), ACTION, dtype=np.float32)
        if first == CRASH:
            raise ZeroDivisionError("the policy broke")
        if first == NAN:
            action[-1] = np.nan
        if first == BEYOND:
            action[:] = 50.0
        if first == STALL and not self._stalled:
            self._stalled = True
            time.sleep(STALL_S)
        if first == HANG:
            time.sleep(HANG_S)
        if first == SPIN:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
        while first == LOOP:
            pass
        if self._takes_s > HANG_S / 10:
            sys.stderr.write(f"{NEVER}\n")
        if self._takes_s:
            time.sleep(self._takes_s)
        return Decision(action, np.zeros(1, np.float32), action[None])


def load_scripted(node: Node, spec: PolicySpec) -> LoadedPolicy:
    """Make the policy."""

    def load(num_candidates: int) -> LoadedPolicy:
        policy = Scripted(spec, num_candidates * value_of(node, "candidate_s"))
        return LoadedPolicy(policy, None, "a script", num_candidates, reload=load)

    return load(value_of(node, "num_candidates"))


if __name__ == "__main__":
    sys.exit(run(lambda: ControlNode.started("policy", PARAMETERS, load_scripted)))
