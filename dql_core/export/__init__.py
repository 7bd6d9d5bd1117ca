"""Turn a trained policy into a self-contained bundle that the runtime needs no torch to run.

How long decisions take on this machine, and plain eager PyTorch to compare with.
"""
