"""Transformers to run: loaders of checkpoints, what they fill, and an fp32 reference."""

from compiler.checkpoints.registry import NAMES, load, model_inputs

__all__ = ["NAMES", "load", "model_inputs"]
