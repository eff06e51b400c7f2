"""Builds that the tests of several files share."""

from hdl.spec.config import AcceleratorConfig
from sim.campaigns.regression import small_accelerator
from sim.harness.accelerator import Accelerator

__all__ = ["tiny", "with_functions"]


def with_functions(functions: str) -> AcceleratorConfig:
    """The smallest build with a set of functions: of posit8, or of fixed lanes."""
    return AcceleratorConfig("int8" if functions == "linear" else "posit8", dim=4,
                             functions=functions)


def tiny(fmt: str) -> Accelerator:
    """D = 4 and small buffers, for inference in posit8.

    Of the other formats the build that trains, which campaigns need anyway and which has all that
    the one for inference has: each build that is not compiled saves 15 s of a processor.
    """
    return small_accelerator(fmt, functions="all" if fmt == "posit8" else "training")
