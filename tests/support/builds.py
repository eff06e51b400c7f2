"""Builds that the tests of several files share."""

from sim.campaigns.regression import small_accelerator
from sim.harness.accelerator import Accelerator

__all__ = ["tiny"]


def tiny(fmt: str) -> Accelerator:
    """D = 4 and small buffers, for inference in posit8.

    Of the other formats the build that trains, which campaigns need anyway and which has all that
    the one for inference has: each build that is not compiled saves 15 s of a processor.
    """
    return small_accelerator(fmt, functions="all" if fmt == "posit8" else "training")
