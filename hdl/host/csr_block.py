"""The registers that the host sees, on an AXI4-Lite slave port."""

from collections.abc import Iterator

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.host.counters import Counters
from hdl.host.lite_crossing import LiteCrossing
from hdl.host.lite_slave import LiteSlave
from hdl.ports.counts import AllCounts
from hdl.ports.host import ProgramPort
from hdl.spec.commands import ISA_MAJOR, features_of, isa_minor
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import (
    CLIENTS,
    COUNTER_BASE,
    COUNTERS,
    IDENTITY,
    REGISTERS,
    Register,
    RegisterField,
)

__all__ = ["CsrBlock"]


def _fields(*access: str) -> Iterator[tuple[Register, RegisterField]]:
    for register in REGISTERS:
        for field in register.fields:
            if field.access in access:
                yield register, field


class CsrBlock(wiring.Component):
    """``hdl.spec.registers`` as an AXI4-Lite slave of one read and one write at a time.

    Holes read 0 and ignore writes; every response is OKAY; WSTRB counts. A read answers three
    cycles after its address. With the first failure since ERROR was clear its address, client and
    response are taken. The end of a soft reset clears errors, status, interrupts and counters.

    Members
    -------
    axi: In(``axi.LiteSignature``).
    program: Out(``ProgramPort``), the sequencer; ``reset_done`` may simply be ``~busy``, given that
        the events of the stopped program come while ``busy`` or earlier.
    counts: In(``AllCounts``).
    interrupt: Out(1), level, an enabled event is pending.

    ``control_clock``: ``axi`` is in domain ``control``; then accesses take longer.
    """

    def __init__(self, config: AcceleratorConfig, control_clock: bool = False) -> None:
        self._config = config
        self._slave = LiteCrossing if control_clock else LiteSlave
        super().__init__({"axi": In(axi.LiteSignature()), "program": Out(ProgramPort()),
                          "counts": In(AllCounts()), "interrupt": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.lite = lite = self._slave()
        wiring.connect(m, wiring.flipped(self.axi), lite.axi)
        program = self.program
        wipe = Signal()  # end of a soft reset
        values = self._identity()
        resetting = Signal()  # a soft reset waits: its end clears the events, none is reported
        sets = {"ERROR.VALUE": program.failure.causes, "INTERRUPT.DONE": program.done & ~resetting,
                "INTERRUPT.FAILED": program.failed & ~resetting}
        triggers = {}
        for register, field in _fields("rw", "w1s", "w1c"):
            key = f"{register.name}.{field.name}"
            name = f"{register.name}_{field.name}".lower()
            mask = lite.write_mask[field.low:field.low + field.bits]
            written = lite.write_data[field.low:field.low + field.bits]
            here = lite.write & (lite.write_word == register.offset >> 2)
            if field.access == "w1s":
                triggers[key] = trigger = Signal(name=name)
                m.d.comb += trigger.eq(here & (mask & written).any())
                values[key] = Const(0, field.bits)
                continue
            values[key] = stored = Signal(
                field.bits if field.access == "rw" else len(sets[key]), name=name)
            if field.access == "rw":
                with m.If(here):
                    m.d.sync += stored.eq((stored & ~mask) | (written & mask))
            else:
                done = mask & written & here.replicate(field.bits)
                m.d.sync += stored.eq((stored & ~done) | sets[key])
                with m.If(wipe):
                    m.d.sync += stored.eq(0)
        self._control(m, values, triggers, resetting, wipe)
        self._record(m, values, triggers, wipe)
        self._read(m, lite, values, self._count(m, lite, values, triggers, wipe))
        return m

    def _identity(self) -> dict[str, Value]:
        """What never changes, by register and field."""
        config = self._config
        constants = {
            "IDENTITY.VALUE": IDENTITY,
            "ISA_VERSION.MINOR": isa_minor(config),
            "ISA_VERSION.MAJOR": ISA_MAJOR,
            "CONFIG_HASH_LOW.VALUE": config.hash & 0xFFFF_FFFF,
            "CONFIG_HASH_HIGH.VALUE": config.hash >> 32,
            "FEATURES.VALUE": int(features_of(config)),
            "SHAPE.DIM": config.dim,
            "SHAPE.LANES": config.lanes,
            "SHAPE.BUS_BYTES": config.bus_bytes,
            "SHAPE.COUNTERS": len(COUNTERS),
        }
        return {key: Const(value, 32) for key, value in constants.items()}

    def _control(self, m, values, triggers, resetting, wipe):
        """Pulses to the sequencer, settings, the interrupt."""
        program = self.program
        idle = ~program.busy & ~program.bus_stuck & ~resetting
        m.d.comb += [
            program.soft_reset.eq(triggers["CONTROL.SOFT_RESET"]),
            program.start.eq(triggers["CONTROL.START"] & idle & ~program.soft_reset),
            program.stop.eq(triggers["CONTROL.STOP"] & program.busy),
            wipe.eq(resetting & program.reset_done),
            program.address.eq(Cat(values["PROGRAM_LOW.VALUE"], values["PROGRAM_HIGH.VALUE"])),
            program.watchdog_limit.eq(values["WATCHDOG.VALUE"]),
            self.interrupt.eq(
                (values["INTERRUPT.DONE"] & values["INTERRUPT_ENABLE.DONE"])
                | (values["INTERRUPT.FAILED"] & values["INTERRUPT_ENABLE.FAILED"])),
        ]
        with m.If(wipe):
            m.d.sync += resetting.eq(0)
        with m.If(program.soft_reset):
            m.d.sync += resetting.eq(1)

    def _record(self, m, values, triggers, wipe):
        """Status, the address of the first error."""
        done = Signal()
        failed = Signal()
        program, failure = self.program, self.program.failure
        address = Signal(64)
        client, response = Signal(range(len(CLIENTS))), Signal(2)
        m.d.sync += [done.eq(done | program.done), failed.eq(failed | program.failed)]
        with m.If(wipe | program.start):
            m.d.sync += [done.eq(0), failed.eq(0)]
        with m.If(failure.causes.any() & ~values["ERROR.VALUE"].any()):
            m.d.sync += [address.eq(failure.address), client.eq(failure.client),
                         response.eq(failure.response)]
        with m.If(wipe):
            m.d.sync += [address.eq(0), client.eq(0), response.eq(0)]
        values |= {
            "STATUS.BUSY": program.busy,
            "STATUS.DONE": done,
            "STATUS.FAILED": failed,
            "STATUS.BUS_STUCK": program.bus_stuck,
            "ERROR_ADDRESS_LOW.VALUE": address[:32],
            "ERROR_ADDRESS_HIGH.VALUE": address[32:],
            "ERROR_DETAIL.CLIENT": client,
            "ERROR_DETAIL.RESPONSE": response,
        }

    def _count(self, m, lite, values, triggers, wipe) -> Counters:
        """The counters, of which the one at ``read_word`` is looked at."""
        m.submodules.counters = counters = Counters()
        wiring.connect(m, wiring.flipped(self.counts), counters.counts)
        begun, first = Signal(), COUNTER_BASE >> 2
        m.d.sync += begun.eq(lite.read_begins)
        m.d.comb += [
            counters.freeze.eq(values["COUNTER_CONTROL.FREEZE"]),
            counters.clear.eq(wipe | self.program.start | triggers["COUNTER_CONTROL.CLEAR"]),
            counters.pause.eq(lite.read_begins),
            counters.look.eq(begun & (lite.read_word >= first)
                             & (lite.read_word < first + 2 * len(COUNTERS))),
            counters.index.eq((lite.read_word - first)[1:]),
        ]
        return counters

    def _read(self, m, lite, values, counters):
        """The word at ``read_word``; what no register claims reads 0."""
        with m.Switch(lite.read_word):
            for register in REGISTERS:
                with m.Case(register.offset >> 2):
                    if register.offset >= COUNTER_BASE:
                        m.d.comb += lite.read_data.eq(
                            counters.value.word_select(register.offset >> 2 & 1, 32))
                        continue
                    for field in register.fields:
                        m.d.comb += lite.read_data[field.low:field.low + field.bits].eq(
                            values[f"{register.name}.{field.name}"])
