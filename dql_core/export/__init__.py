"""Turn a trained policy into a self-contained bundle that the runtime needs no torch to run."""
