"""The networks: a noise model conditioned on the observation, and twin critics."""
