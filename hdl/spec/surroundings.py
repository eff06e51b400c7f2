"""What lies around a build: what it is made for, its clocks and resets, what tools do with
registers, its memory bus.

Programs, registers and results depend on none of it: two builds that differ here alone have one
configuration, one hash, and run the same programs.
"""

from dataclasses import asdict, dataclass, replace

from hdl.spec.formats import FORMATS
from hdl.spec.options import option, require_integer, require_name, require_switch
from hdl.spec.timing import BURST_BEATS, OUTSTANDING, most_outstanding

__all__ = ["POWER_UPS", "RESETS", "TARGETS", "Surroundings", "usual_of_target"]

RESETS = ("sync", "async")
POWER_UPS = ("reset", "unknown")
TARGETS = ("asic", "fpga")


@dataclass(frozen=True)
class Surroundings:
    """Everything of a build that its surroundings ask for; the values by default are those of a
    block of one clock. ``ValueError`` names a value that cannot be."""

    reset: str = option("sync", "resets: sampled with the clock, or of the registers themselves, "
                        "at any time; either way released with the clock", allowed=RESETS)
    clock_enable: bool = option(False, "an input aclken, without which no edge of aclk counts",
                                "none")
    control_clock: bool = option(
        False, "a clock and a reset of the control port's own, s_axi_ctrl_aclk and "
        "s_axi_ctrl_aresetn, which may be unrelated to aclk", "aclk")
    power_up: str = option(
        "reset", "registers at power-up: as after a reset, by initial values, or unknown, "
        "for tools that take none", allowed=POWER_UPS)
    address_bits: int = option(64, "bits of addresses on the memory bus, 32 to 64")
    outstanding: int = option(
        OUTSTANDING, "most bursts requested and not yet answered, of reads and of writes, 1 to 32; "
        "on buses of up to 128 bits 16 at most", "16, of wider buses 32")
    burst: int = option(16, "most beats of a burst, read or written, 1 to 16")
    target: str = option(
        "asic", "what sums and products are written for: gates, or chains and blocks of an FPGA",
        allowed=TARGETS)

    def __post_init__(self) -> None:
        require_name("reset", self.reset, RESETS)
        require_switch("clock_enable", self.clock_enable)
        require_switch("control_clock", self.control_clock)
        require_name("power_up", self.power_up, POWER_UPS)
        require_integer("address_bits", self.address_bits, 32, 64)
        require_integer("outstanding", self.outstanding, 1, OUTSTANDING)
        require_integer("burst", self.burst, 1, BURST_BEATS)
        require_name("target", self.target, TARGETS)

    @property
    def asynchronous(self) -> bool:
        """Whether resets act on registers without a clock."""
        return self.reset == "async"

    @property
    def fpga(self) -> bool:
        """Whether it is made for an FPGA."""
        return self.target == "fpga"

    @property
    def usual(self) -> bool:
        """Whether all of it is as by default."""
        return self == Surroundings()

    def on(self, bus_bytes: int) -> "Surroundings":
        """What a build with a bus of ``bus_bytes`` has of it: no more bursts under way than that
        bus gains by."""
        return replace(self, outstanding=min(self.outstanding, most_outstanding(bus_bytes)))

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def usual_of_target(target: str, fmt: str, dim: int, acc: str | None = None,
                    fixed: bool = False) -> dict[str, str | int]:
    """What a configuration for ``target`` has where nothing is chosen, by the names of
    ``AcceleratorConfig`` and ``Surroundings``.

    On an FPGA sums that nothing rounds are chains alone, where a rounded one is a path of its own
    in every PE; registers stand before every second row of multiplexers; the bus brings one word of
    D operands a cycle; addresses have 32 bits. ``fixed``: lanes whose sums are integers.
    """
    if target != "fpga":
        return {}
    found: dict[str, str | int] = {"lane_latency": 3, "sum_ways": 1 if fixed else 2,
                                   "address_bits": 32}
    if fmt in FORMATS:
        kind = FORMATS[fmt]
        acc = acc or ("exact" if kind.storage_bits == 8 and not kind.integer
                      else kind.default_accumulator)
        found |= {"acc": acc, "pe_latency": 2}
        if isinstance(dim, int) and dim > 0 and not dim & (dim - 1):
            found["bus_bytes"] = max(4, min(16, dim * kind.storage_bytes))
    if found.get("acc") in ("exact", "fused", "int32"):
        found["pe_latency"] = 3
    return found
