"""Transformers to run: loaders of checkpoints, what they fill, and an fp32 reference."""

from compiler.checkpoints.registry import NAMES, inputs, load

__all__ = ["NAMES", "inputs", "load"]
