"""Writes a policy bundle as C99, from the ONNX graph that the bundle holds."""
