"""The diffusion process over actions: noise schedules and the reverse chain; no networks."""
