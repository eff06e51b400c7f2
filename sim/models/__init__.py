"""Transformers to run: loaders of checkpoints, what they fill, and an fp32 reference."""

from .registry import NAMES, load

__all__ = ["NAMES", "load"]
