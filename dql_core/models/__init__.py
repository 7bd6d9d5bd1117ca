"""The diffusion process over actions: noise schedules and the reverse chain; no networks.

The networks: a noise model conditioned on the observation, and twin critics.
"""
