"""A device behind its registers."""

import time
from collections.abc import Callable

from gen.package.host.build import (
    Build,
    BusyError,
    EndlessError,
    FailedError,
    Memory,
    OtherBuildError,
    Registers,
    StuckError,
)
from gen.package.host.image import Image

__all__ = ["Device"]


class Device:
    """An accelerator of ``build`` behind ``registers``. ``pause()`` is called between two looks at
    STATUS: to sleep until the interrupt, say."""

    def __init__(self, registers: Registers, build: Build,
                 pause: Callable[[], object] = lambda: time.sleep(1e-4)) -> None:
        self.registers, self.build, self.pause = registers, build, pause

    def read(self, register: str, field: str = "") -> int:
        """A register, or one of its fields."""
        word = self.registers.read(self.build.registers[register])
        if not field:
            return word
        low, bits = self.build.fields[register][field]
        return word >> low & (1 << bits) - 1

    def write(self, register: str, value: int = 0, **fields: int) -> None:
        """A register: ``value`` with ``fields`` in it."""
        for name, number in fields.items():
            low, bits = self.build.fields[register][name]
            value |= (number & (1 << bits) - 1) << low
        self.registers.write(self.build.registers[register], value)

    def identify(self) -> None:
        """``OtherBuildError`` unless the device is this build."""
        for register, value in self.build.known.items():
            found = self.read(register)
            if found != value:
                raise OtherBuildError(f"{register} must be {value:#010x}, not {found:#010x}")

    def start(self, program: int) -> None:
        """Start the program whose header is at that address; what came before is forgotten.
        ``BusyError``, ``StuckError``."""
        if self.read("STATUS", "BUS_STUCK"):
            raise StuckError("the bus never answered: accelerator and memory need a reset")
        if self.read("STATUS", "BUSY"):
            raise BusyError("a program runs")
        for register in ("ERROR", "INTERRUPT"):
            self.write(register, 0xFFFFFFFF)
        self.write("INTERRUPT_ENABLE", DONE=1, FAILED=1)
        self.write("PROGRAM_LOW", program & 0xFFFFFFFF)
        self.write("PROGRAM_HIGH", program >> 32)
        self.write("CONTROL", START=1)

    def ended(self) -> bool:
        """Whether the program has ended well. ``FailedError``, ``StuckError``."""
        if self.read("STATUS", "BUSY"):
            return False
        if self.read("STATUS", "BUS_STUCK"):
            raise StuckError("the bus never answered: accelerator and memory need a reset")
        if self.read("STATUS", "FAILED"):
            raise self.failure()
        return bool(self.read("STATUS", "DONE"))

    def wait(self, seconds: float = 10.0) -> None:
        """Until the program has ended; the interrupt is then cleared. As ``ended``, and
        ``EndlessError``."""
        limit = time.monotonic() + seconds
        try:
            while not self.ended():
                if time.monotonic() > limit:
                    raise EndlessError(f"the program has not ended within {seconds} s")
                self.pause()
        finally:
            if not self.read("STATUS", "BUSY"):
                self.write("INTERRUPT", 0xFFFFFFFF)

    def stop(self) -> None:
        """Stop the program; ``wait`` then raises ``FailedError`` with the cause STOPPED."""
        self.write("CONTROL", STOP=1)

    def failure(self) -> FailedError:
        """Why the last program ended."""
        bits, client = self.read("ERROR"), self.read("ERROR_DETAIL", "CLIENT")
        causes = dict(meaning for bit, meaning in self.build.causes.items() if bits >> bit & 1)
        address = self.read("ERROR_ADDRESS_LOW") | self.read("ERROR_ADDRESS_HIGH") << 32
        return FailedError(causes, address, self.build.clients[client]
                           if client < len(self.build.clients) else "unknown client")

    def counters(self) -> dict[str, int]:
        """All counters, of one moment, by name; ``build.counters`` has their meanings."""
        before = self.read("COUNTER_CONTROL")
        self.write("COUNTER_CONTROL", FREEZE=1)
        found = {name: self.read(f"{name}_LOW") | self.read(f"{name}_HIGH") << 32
                 for name in self.build.counters}
        self.write("COUNTER_CONTROL", before)
        return found

    def run(self, image: Image, memory: Memory, seconds: float = 10.0) -> dict[str, bytes]:
        """Put an image into ``memory``, behind the weights that it finds there if it is apart from
        them, and run its program: its results by name."""
        here = image.moved(memory.address, self.build)
        memory.write(here.kept, here.memory)
        getattr(memory, "flush", lambda: None)()
        self.start(here.program)
        self.wait(seconds)
        getattr(memory, "discard", lambda: None)()
        return {name: here.result(name, memory) for name in here.results}
