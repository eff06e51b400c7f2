"""What lies around a build: its clocks and resets, what tools do with registers, its memory bus.

Programs, registers and results depend on none of it: two builds that differ here alone have one
configuration, one hash, and run the same programs.
"""

from dataclasses import asdict, dataclass

from hdl.spec.options import option, require_integer, require_name, require_switch

__all__ = ["POWER_UPS", "RESETS", "Surroundings"]

RESETS = ("sync", "async")
POWER_UPS = ("reset", "unknown")


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
    outstanding: int = option(16, "most bursts requested and not yet answered, of reads and of "
                              "writes, 1 to 16")

    def __post_init__(self) -> None:
        require_name("reset", self.reset, RESETS)
        require_switch("clock_enable", self.clock_enable)
        require_switch("control_clock", self.control_clock)
        require_name("power_up", self.power_up, POWER_UPS)
        require_integer("address_bits", self.address_bits, 32, 64)
        require_integer("outstanding", self.outstanding, 1, 16)

    @property
    def asynchronous(self) -> bool:
        """Whether resets act on registers without a clock."""
        return self.reset == "async"

    @property
    def usual(self) -> bool:
        """Whether all of it is as by default."""
        return self == Surroundings()

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
