"""What a closed loop may be asked for; known also where nothing that simulates is installed."""

from __future__ import annotations

from typing import Literal

# What the scripted operator of the simulated arm does: it drives in a policy's place, or watches.
Operator = Literal["none", "drives", "watches"]
# Limit of an episode in an MJCF file, as most of Gymnasium's MuJoCo environments have it.
MODEL_EPISODE_STEPS = 1000
