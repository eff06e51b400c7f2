"""The cycle model's front: a configuration and commands in, cycles by command and cause out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hdl.spec import timing
from hdl.spec.commands import Opcode
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import (
    INDEX_BYTES,
    READERS,
    bank_cycles,
    landing_beats,
    lane_cycles,
    most_outstanding,
    strip_tiles,
    sums_cycles,
)
from sim.cycles.bound import Bound, program_bound
from sim.cycles.plan import plans
from sim.harness.dram import Dram

__all__ = ["IDEAL", "Memory", "Run", "simulate"]

_TOLD_EVERY = 1 << 20  # cycles, half a second


@dataclass(frozen=True)
class Memory:
    """What the bus gives: cycles from an address, or a last datum, to the answer; bursts accepted
    and not answered, per direction; one beat per cycle and channel, or as few as a ``dram`` gives,
    whose latency then counts."""

    latency: int = 30
    outstanding: int = 32
    dram: Dram | None = None

    def __post_init__(self) -> None:
        if self.dram is not None:
            object.__setattr__(self, "latency", self.dram.latency)
        for name in ("latency", "outstanding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")

    def __str__(self) -> str:
        kind = "ideal" if self.dram is None else f"DRAM of {self.dram.burst} cycles a burst"
        return f"memory {kind}, latency {self.latency}"


IDEAL = Memory()


@dataclass(frozen=True)
class Run:
    """What a program costs.

    Attributes
    ----------
    memory: what it ran on. cycles: from START's effect to END, as the counter CYCLES. active: as
        ACTIVE.
    counts: one record (``machine.COUNTS``) per command, in the program's order.
    """

    config: AcceleratorConfig
    memory: Memory
    commands: list[Mapping[str, int]]
    cycles: int
    active: int
    counts: np.ndarray

    @property
    def bound(self) -> Bound:
        """What ``active`` is at least."""
        return program_bound(self.config, self.commands, self.memory.latency)

    def total(self, name: str) -> int:
        """The sum of a count over all commands, as the hardware's counter of that name."""
        return int(self.counts[name].sum())


def _configure(state, config: AcceleratorConfig, memory: Memory, address: int) -> None:
    dim, element = config.dim, config.format.storage_bytes
    lane_bytes = config.lanes * element
    bus, word = config.bus_bytes, config.word_bytes
    state["sequencer"]["address"] = address
    for part in ("read", "write"):
        for name, value in (("bus", bus), ("bus_log2", log2_exact(bus)),
                            ("latency", memory.latency), ("outstanding", memory.outstanding)):
            state[part][name] = value
        state[part]["most"] = most_outstanding(bus)
    if memory.dram is not None:
        for name, value in asdict(memory.dram).items():
            state["dram"][name] = value
        state["dram"]["there"], state["dram"]["started"] = 1, -1
    for client, name in zip(state["read"]["clients"], READERS, strict=True):
        client["depth"] = client["free"] = landing_beats(name, bus)
    state["read"]["clients"]["repeats_rows"][READERS.index("y")] = 1
    state["weights"]["first_panel"] = config.first_panel * dim
    state["loader"]["word_bytes"] = word
    state["loader"]["gather"]["room"] = word // INDEX_BYTES
    for part in ("loader", "feeder"):
        state[part]["operand_depth"] = config.operand_depth
    state["feeder"]["token_delay"] = sums_cycles(config)
    for part in ("loader", "shifter", "feeder", "drain"):
        state[part]["dim"] = dim
    for part in ("loader", "weights", "drain", "vector"):
        state[part]["element"] = element
    state["drain"]["strip_columns"] = strip_tiles(config) * dim
    state["drain"]["lanes"] = state["vector"]["lanes"] = config.lanes
    state["vector"]["lane_bytes"] = lane_bytes
    state["vector"]["latency"] = bank_cycles(config) + lane_cycles(config)
    for name in ("tree_cycles", "across_cycles", "scale_cycles", "result_cycles"):
        state["vector"][name] = getattr(timing, name)(config)
    for resizer, i_bytes, o_bytes in (
            (state["loader"]["resizer"], bus, word), (state["weights"]["resizer"], bus, word),
            (state["y_resizer"], bus, lane_bytes), (state["c_resizer"], lane_bytes, bus)):
        resizer["i_bytes"], resizer["o_bytes"] = i_bytes, o_bytes
    for part in ("loader", "weights", "shifter", "feeder", "drain"):
        state[part]["nest"]["idle"] = 1


def simulate(config: AcceleratorConfig, commands: Sequence[Mapping[str, int]], *,
             memory: Memory = IDEAL, address: int = 0, limit: int = 1 << 40,
             tell: Callable[[float, str], None] = lambda share, where: None) -> Run:
    """Run the fields of ``commands`` (``hdl.spec.commands.COMMAND``; END is added where missing)
    as a program whose header is at ``address``.

    ``tell`` hears how far it is, by the lower bound. ``ValueError`` where the accelerator would
    refuse a command; ``TimeoutError`` beyond ``limit`` cycles.
    """
    # Imported by what is simulated alone: to be decorated makes the folder of compiled code.
    from sim.cycles import drain, machine

    listed = [dict(fields) for fields in commands]
    if not listed or listed[-1].get("opcode") != Opcode.END:
        listed.append({"opcode": int(Opcode.END)})
    table = plans(config, listed)
    state = np.zeros(1, machine.MACHINE)
    _configure(state[0], config, memory, address)
    state["drain"]["state"] = drain.IDLE
    counts = np.zeros(len(listed), machine.COUNTS)
    counts["start"] = counts["first"] = counts["last"] = -1
    least, reached = 0, min(_TOLD_EVERY, limit)
    while not machine.run(state, table, counts, reached):
        if reached == limit:
            raise TimeoutError(f"the program must end within {limit} cycles, but did not")
        least = least or program_bound(config, listed, memory.latency).cycles
        tell(min(reached / least, 0.99), f"cycle {reached:,}")
        reached = min(reached + _TOLD_EVERY, limit)
    final = state[0]
    return Run(config, memory, [*listed], int(final["cycle"]), int(final["active"]), counts)
