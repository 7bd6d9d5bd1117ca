"""The diffusion process over actions, and the networks: noise models, actors, twin critics."""
