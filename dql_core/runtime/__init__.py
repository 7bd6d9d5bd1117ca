"""Run an exported policy on a robot: numpy and ONNX Runtime only, torch is never imported."""
