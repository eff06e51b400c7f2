"""The accelerator in the harness as a Python driver has it: registers by offset, a memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from gen.package.host.device import Device
from gen.package.python_driver import build_of
from hdl.spec.registers import REGISTERS
from sim.harness.accelerator import Accelerator, Fault

__all__ = ["HarnessMemory", "HarnessRegisters", "hosted"]

_PAUSE_CYCLES = 200
_NAMES = {register.offset: register.name for register in REGISTERS}


class HarnessRegisters:
    """Registers behind AXI4-Lite; ``HungError`` where they do not answer."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator

    def read(self, offset: int) -> int:
        return self.accelerator.read(_NAMES[offset])

    def write(self, offset: int, value: int) -> None:
        self.accelerator.write(_NAMES[offset], value)


class HarnessMemory:
    """``count`` bytes that the accelerator sees from ``address`` on."""

    def __init__(self, count: int, address: int) -> None:
        self.bytes, self.address = np.zeros(count, np.uint8), address

    def read(self, offset: int, count: int) -> bytes:
        return self.bytes[offset:offset + count].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        self.bytes[offset:offset + len(data)] = np.frombuffer(data, np.uint8)


@contextmanager
def hosted(accelerator: Accelerator, count: int, address: int, *, faults: Iterable[Fault] = ()
           ) -> Iterator[tuple[Device, HarnessMemory]]:
    """A driver of ``accelerator`` and the memory that it works on, within a ``with``.

    Time passes while registers are accessed and, between two looks at STATUS, a little more.
    """
    memory = HarnessMemory(count, address)
    device = Device(HarnessRegisters(accelerator), build_of(accelerator.config),
                    lambda: accelerator.run_for(_PAUSE_CYCLES))
    with accelerator.attached(memory.bytes, address, faults=faults):
        yield device, memory
