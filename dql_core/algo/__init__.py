"""The algorithms: pure losses, Diffusion-QL on one page, and Diffusion-BC."""
