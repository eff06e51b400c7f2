"""Every net of a mapped netlist in every cycle of a run: ``Trace``; and with delays: ``timed``.

The cells' functions are the Liberty file's. A net is one integer whose bit c is its value in cycle
c, so that one operation works for all cycles. Flops take what came in the cycle before, which is
not known at first: they are computed anew until nothing changes, each time right for one cycle more
at least.

A ``Trace`` has settled values alone: no glitches. ``timed`` starts from it and lets the changes of
all cycles run through the gates, each with one delay, that of its slowest arc; a pulse shorter than
the delay of a gate does not pass it (inertial delays, as of Verilog's ``assign #``).
"""

from collections.abc import Callable, Mapping

import numpy as np

from synth.gates import Gate, Gates

__all__ = ["TICK", "Trace", "timed"]

TICK = 0.02
"""ns to which delays are rounded, one tick at least."""


def _columns(name: str, values: np.ndarray, width: int) -> list[int]:
    """An integer for each bit of a port from its word of each cycle."""
    words = np.asarray(values)
    if words.dtype.kind not in "iub" or words.ndim != 1:
        raise ValueError(f"input {name} must be an integer a cycle, not {words.dtype} of shape "
                         f"{words.shape}")
    octets = np.ascontiguousarray(words.astype(np.int64)).view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, :width]
    if bits.shape[1] < width:
        raise ValueError(f"input {name} must have 64 bits at most, not {width}")
    packed = np.packbits(bits, axis=0, bitorder="little")
    return [int.from_bytes(packed[:, index].tobytes(), "little") for index in range(width)]


class Trace:
    """``nets``: of each net its values, bit c in cycle c of ``cycles``.

    ``inputs``: of each port but the clock's an integer a cycle, or one for all; ``ValueError``
    where one is missing or too long. Flops begin at zero.
    """

    def __init__(self, gates: Gates, inputs: Mapping[str, np.ndarray | int]) -> None:
        self.gates = gates
        if set(inputs) != set(gates.inputs):
            raise ValueError(f"inputs must be {', '.join(gates.inputs)}, not {', '.join(inputs)}")
        lengths = {len(value) for value in map(np.asarray, inputs.values()) if value.ndim}
        if len(lengths) != 1:
            raise ValueError(f"inputs must be arrays of one length, not of {sorted(lengths)}")
        self.cycles = lengths.pop()
        self.mask = (1 << self.cycles) - 1
        nets = [0] * gates.count
        nets[Gates.ONE] = self.mask
        for name, own in gates.inputs.items():
            given = np.broadcast_to(np.asarray(inputs[name]), (self.cycles,))
            for net, column in zip(own, _columns(name, given, len(own)), strict=True):
                nets[net] = column
        settle = _settler(gates)
        for _ in range(self.cycles + 1):
            before = nets
            nets = settle(before, self.mask)
            if nets == before:
                break
        self.nets = nets

    def output(self, name: str) -> np.ndarray:
        """An output port's word in each cycle: int64."""
        found = np.zeros(self.cycles, np.int64)
        for index, net in enumerate(self.gates.ports[name][1]):
            octets = self.nets[net].to_bytes((self.cycles + 7) // 8, "little")
            bits = np.unpackbits(np.frombuffer(octets, np.uint8), bitorder="little")
            found |= bits[:self.cycles].astype(np.int64) << index
        return found

    @property
    def edges(self) -> int:
        """Changes from one cycle to the next: bit c of what ``rises`` and ``falls`` give is from
        cycle c to c + 1."""
        return self.cycles - 1

    def rises(self, net: int) -> int:
        return (self.nets[net] >> 1) & ~self.nets[net] & (self.mask >> 1)

    def falls(self, net: int) -> int:
        return self.nets[net] & ~(self.nets[net] >> 1) & (self.mask >> 1)

    def toggles(self, net: int) -> int:
        """How often it changes; the clock's net twice a cycle."""
        if net == self.gates.clock:
            return 2 * self.edges
        return ((self.nets[net] ^ self.nets[net] >> 1) & (self.mask >> 1)).bit_count()


def _settler(gates: Gates) -> Callable[[list[int], int], list[int]]:
    """A function that gives all nets with gates settled and flops a cycle further."""
    lines = ["def settle(n, mask):", " n = list(n)"]
    for gate in gates.flops:
        flop = gate.cell.flop
        assert flop is not None
        own = _names(gate)
        lines.append(f" q = (({flop.next.over(own)}) << 1) & mask")
        lines += _written(gate, own | {flop.state: "q", flop.inverse: "(~q & mask)"})
    for gate in gates.gates:
        lines += _written(gate, _names(gate))
    space: dict[str, Callable[[list[int], int], list[int]]] = {}
    exec("\n".join([*lines, " return n"]), {}, space)
    return space["settle"]


def _names(gate: Gate) -> dict[str, str]:
    return {pin: f"n[{net}]" for pin, net in gate.nets.items()}


def _written(gate: Gate, given: Mapping[str, str]) -> list[str]:
    made = []
    for pin in gate.cell.outputs:
        function = gate.cell.pins[pin].function
        if pin in gate.nets and function is not None:
            made.append(f" n[{gate.nets[pin]}] = {function.over(given)} & mask")
    return made


def timed(trace: Trace) -> list[int]:
    """How often each net changes over ``trace.edges`` changes of cycle, with delays."""
    gates, mask = trace.gates, trace.mask >> 1
    run = _Run(gates, [net & mask for net in trace.nets], mask)
    for net, after in enumerate(trace.nets):
        if net not in run.function and net != gates.clock:
            run.change(net, (after >> 1) & mask)
    run.settle()
    counts = run.counts
    if gates.clock is not None:
        counts[gates.clock] = 2 * trace.edges
    return counts


class _Run:
    """Changes on their way through the gates. A net's ``values`` hold a bit for each change of
    cycle; all go on at once."""

    def __init__(self, gates: Gates, values: list[int], mask: int) -> None:
        self.values, self.counts = values, [0] * len(values)
        self._mask = mask
        self._follow: list[list[int]] = [[] for _ in values]  # outputs of gates that a net goes to
        self.function: dict[int, Callable[[list[int]], int]] = {}
        self._delay: dict[int, int] = {}
        self._touched: dict[int, int] = {}  # outputs to compute anew, and for which changes
        self._pending: dict[int, dict[int, tuple[int, int]]] = {}  # by tick and net: bits, values
        self._waiting: dict[int, list[int]] = {}  # ticks at which a net is pending
        for gate in gates.gates:
            for pin in gate.cell.outputs:
                text = gate.cell.pins[pin].function
                if pin in gate.nets and text is not None:
                    output = gate.nets[pin]
                    self.function[output] = eval(f"lambda n: {text.over(_names(gate))}")
                    self._delay[output] = _ticks(gates, gate, pin)
                    for source in {gate.nets[name] for name in text.names}:
                        self._follow[source].append(output)

    def change(self, net: int, value: int) -> None:
        flips = self.values[net] ^ value
        if flips:
            self.counts[net] += flips.bit_count()
            self.values[net] = value
            for output in self._follow[net]:
                self._touched[output] = self._touched.get(output, 0) | flips

    def settle(self) -> None:
        """Until nothing changes any more."""
        tick = 0
        while True:
            self._compute(tick)
            if not self._pending:
                return
            tick = min(self._pending)
            for net, (bits, value) in self._pending.pop(tick).items():
                self._waiting[net].remove(tick)
                self.change(net, self.values[net] & ~bits | value & bits)

    def _compute(self, tick: int) -> None:
        for output, bits in self._touched.items():
            made, old = self.function[output](self.values), bits
            for other in self._waiting.setdefault(output, []):
                before, value = self._pending[other][output]
                # What is on its way to the same value goes on; else it was too short a pulse.
                self._pending[other][output] = before & ~(old & (value ^ made)), value
                bits &= ~(before & ~(value ^ made))
            at = tick + self._delay[output]
            self._pending.setdefault(at, {})[output] = bits, made
            self._waiting[output].append(at)
        self._touched = {}


def _ticks(gates: Gates, gate: Gate, pin: str) -> int:
    load = gates.loads[gate.nets[pin]]
    delays = [table.at(load, slew) for arc in gate.cell.pins[pin].arcs
              for table in (arc.rise, arc.fall) for slew in gates.slew(gate.nets[arc.related])]
    return max(1, round(max(delays, default=0) / TICK))
