import pytest

from sim.harness.verilate import VerilatorMissing
from support.require import missing


def _needs_verilator():
    """Verilator is called from too deep for each test to require it."""
    try:
        return (yield)
    except VerilatorMissing as error:
        missing(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _needs_verilator())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _needs_verilator())
