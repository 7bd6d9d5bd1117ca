"""How long decisions take on this machine, and plain eager PyTorch to compare with."""
