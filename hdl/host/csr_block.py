"""The registers that the host sees, behind AXI4-Lite."""

from collections.abc import Iterator

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.host.counter import INCREMENT_BITS, Counter
from hdl.host.lite_slave import LiteSlave
from hdl.lib.leaf import shared
from hdl.spec.commands import ISA_MAJOR, ISA_MINOR, ErrorCause, features_of
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTERS, IDENTITY, REGISTERS, Register, RegisterField

__all__ = ["CsrBlock"]

_CAUSES = max(ErrorCause) + 1


def _fields(*access: str) -> Iterator[tuple[Register, RegisterField]]:
    for register in REGISTERS:
        for field in register.fields:
            if field.access in access:
                yield register, field


class CsrBlock(wiring.Component):
    """``hdl.spec.registers`` as an AXI4-Lite slave of one read and one write at a time.

    Holes read 0 and ignore writes; every response is OKAY; WSTRB counts. A read answers two cycles
    after its address. The other ports:

    start, stop, soft_reset: pulses. ``start`` comes only while neither ``busy`` nor ``bus_stuck``
        nor in a soft reset, ``stop`` only while ``busy``.
    busy, bus_stuck: state of the sequencer.
    done_event, failed_event: pulses, the program ended well, or with an error.
    error_set: pulses, one bit a cause (``ErrorCause``); with the first cause since ERROR was clear
        ``error_address``, ``error_client`` and ``error_response`` are taken.
    soft_reset_done: high when a soft reset has nothing (more) to wait for; may simply be ``~busy``,
        given that the events of the stopped program come while ``busy`` or earlier. Errors,
        status, interrupts and counters are cleared then.
    program_address, watchdog_limit: as the host set them.
    interrupt: level, an enabled event is pending.
    count_x: for each counter x, in lower case, what it grows by in this cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        counts = {f"count_{name.lower()}": In(INCREMENT_BITS) for name, _ in COUNTERS}
        super().__init__(axi.lite_members() | counts | {
            "start": Out(1), "stop": Out(1), "soft_reset": Out(1),
            "program_address": Out(64), "watchdog_limit": Out(32), "interrupt": Out(1),
            "busy": In(1), "bus_stuck": In(1), "done_event": In(1), "failed_event": In(1),
            "error_set": In(_CAUSES), "error_address": In(64), "soft_reset_done": In(1),
            "error_client": In(3), "error_response": In(2),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.lite = lite = LiteSlave()
        axi.attach(m, self, "", lite, axi.lite_members())
        wipe = Signal()  # end of a soft reset
        values = self._identity()
        resetting = Signal()  # a soft reset waits: its end clears the events, nobody is told
        sets = {"ERROR.VALUE": self.error_set, "INTERRUPT.DONE": self.done_event & ~resetting,
                "INTERRUPT.FAILED": self.failed_event & ~resetting}
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
        self._read(m, lite, values)
        return m

    def _identity(self) -> dict[str, Value]:
        """What never changes, by register and field."""
        config = self._config
        constants = {
            "IDENTITY.VALUE": IDENTITY,
            "ISA_VERSION.MINOR": ISA_MINOR,
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
        idle = ~self.busy & ~self.bus_stuck & ~resetting
        m.d.comb += [
            self.soft_reset.eq(triggers["CONTROL.SOFT_RESET"]),
            self.start.eq(triggers["CONTROL.START"] & idle & ~self.soft_reset),
            self.stop.eq(triggers["CONTROL.STOP"] & self.busy),
            wipe.eq(resetting & self.soft_reset_done),
            self.program_address.eq(Cat(values["PROGRAM_LOW.VALUE"], values["PROGRAM_HIGH.VALUE"])),
            self.watchdog_limit.eq(values["WATCHDOG.VALUE"]),
            self.interrupt.eq(
                (values["INTERRUPT.DONE"] & values["INTERRUPT_ENABLE.DONE"])
                | (values["INTERRUPT.FAILED"] & values["INTERRUPT_ENABLE.FAILED"])),
        ]
        with m.If(wipe):
            m.d.sync += resetting.eq(0)
        with m.If(self.soft_reset):
            m.d.sync += resetting.eq(1)

    def _record(self, m, values, triggers, wipe):
        """Status, the address of the first error, the counters."""
        done = Signal()
        failed = Signal()
        address = Signal(64)
        client, response = Signal(3), Signal(2)
        m.d.sync += [done.eq(done | self.done_event), failed.eq(failed | self.failed_event)]
        with m.If(wipe | self.start):
            m.d.sync += [done.eq(0), failed.eq(0)]
        with m.If(self.error_set.any() & ~values["ERROR.VALUE"].any()):
            m.d.sync += [address.eq(self.error_address), client.eq(self.error_client),
                         response.eq(self.error_response)]
        with m.If(wipe):
            m.d.sync += [address.eq(0), client.eq(0), response.eq(0)]
        clear = Signal()
        m.d.comb += clear.eq(wipe | self.start | triggers["COUNTER_CONTROL.CLEAR"])
        values |= {
            "STATUS.BUSY": self.busy,
            "STATUS.DONE": done,
            "STATUS.FAILED": failed,
            "STATUS.BUS_STUCK": self.bus_stuck,
            "ERROR_ADDRESS_LOW.VALUE": address[:32],
            "ERROR_ADDRESS_HIGH.VALUE": address[32:],
            "ERROR_DETAIL.CLIENT": client,
            "ERROR_DETAIL.RESPONSE": response,
        }
        for name, _ in COUNTERS:
            counter = Counter()
            m.submodules[name.lower()] = shared(counter)
            m.d.comb += [
                counter.increment.eq(getattr(self, f"count_{name.lower()}")),
                counter.freeze.eq(values["COUNTER_CONTROL.FREEZE"]),
                counter.clear.eq(clear),
            ]
            values[f"{name}_LOW.VALUE"] = counter.value[:32]
            values[f"{name}_HIGH.VALUE"] = counter.value[32:]

    def _read(self, m, lite, values):
        """The word at ``read_word``; what no register claims reads 0."""
        with m.Switch(lite.read_word):
            for register in REGISTERS:
                with m.Case(register.offset >> 2):
                    for field in register.fields:
                        m.d.comb += lite.read_data[field.low:field.low + field.bits].eq(
                            values[f"{register.name}.{field.name}"])
