import re

import pytest

from sim.harness.verilate import VerilatorMissing
from support.require import missing


def _needs_verilator():
    """Verilator is called from too deep for each test to require it."""
    try:
        return (yield)
    except VerilatorMissing as error:
        missing(str(error))


def pytest_collection_modifyitems(items):
    """A test has one name in every process: tests are shared out by name. What takes longest comes
    first, so that none of it is left to one process at the end."""
    strange = [item.nodeid for item in items if re.search(r" at 0x[0-9a-f]+>", item.nodeid)]
    if strange:
        raise pytest.UsageError(f"the name of a test must not hold an address: {strange[0]}")
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _needs_verilator())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _needs_verilator())
