"""Models on the accelerator from Python: compile, run, generate, and what they give."""

from sim.inference.model import CompiledModel, compile
from sim.inference.results import Result

__all__ = ["CompiledModel", "Result", "compile"]
