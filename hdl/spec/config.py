"""The one frozen description of a build, from which everything else is derived."""

import hashlib
import json
from dataclasses import asdict, dataclass

from hdl.spec.formats import Format, LaneType, format_named

__all__ = ["ACCUMULATORS", "COUNT_BITS", "COUNT_MOST", "FUNCTION_SETS", "SOFTMAX_MODES",
           "AcceleratorConfig", "ceil_log2", "log2_exact"]

ACCUMULATORS = ("bf16", "fp32", "exact")
SOFTMAX_MODES = ("pwl", "approx", "approx_shifted")
FUNCTION_SETS = ("all", "softmax")
COUNT_BITS = 24
COUNT_MOST = (1 << COUNT_BITS) - 1
"""The largest M, K and N: what the hardware's counters of rows and columns hold."""


def log2_exact(value: int) -> int:
    """log2 of a power of two."""
    if value <= 0 or value & (value - 1):
        raise ValueError(f"value must be a power of two, not {value!r}")
    return value.bit_length() - 1


def ceil_log2(value: int) -> int:
    """⌈log2⌉ of a positive integer."""
    return (value - 1).bit_length()


def _require_power_of_two(name: str, value: object, low: int, high: int) -> None:
    if (not isinstance(value, int) or isinstance(value, bool)
            or not low <= value <= high or value & (value - 1)):
        raise ValueError(f"{name} must be a power of two from {low} to {high}, not {value!r}")


def _require_integer(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, not {value!r}")


@dataclass(frozen=True)
class AcceleratorConfig:
    """Everything that a build is made from; every other figure is a property.

    Attributes
    ----------
    fmt: name of the format (``hdl.spec.formats``).
    dim: D, rows and columns of the array; a power of two.
    lanes: L, lanes of the vector unit; a power of two, at most ``dim``. ``None``: min(16, dim).
    acc: accumulator, ``bf16``, ``fp32`` or ``exact``; ``None`` takes the format's own.
    k_max: the largest K of a GEMM with the ``exact`` accumulator, whose width follows from it;
        the others take any K.
    softmax: ``pwl``, ``approx`` or ``approx_shifted``; ``None`` takes the format's own.
    functions: ``all`` that ``hdl.spec.commands.Function`` and ``Post`` name, or those of the
        ``softmax``, exp and reciprocal, alone.
    exp_epsilon, exp_theta: ε and θ of the bit-trick exponential in units of 2^-7; ``None`` takes
        the mode's own (ε 128 with θ −640 for ``approx``, ε 144 and no θ for ``approx_shifted``).
        ε from 0 to 255, θ from −32640 to 0.
    exact_power_reciprocal: take the two's complement reciprocal, exact at powers of two.
    input_depth: words of D operands in each of the two input banks.
    weight_depth: words of D operands in the weight buffer, both halves together.
    acc_depth: words of D accumulators in each of the two accumulation banks.
    row_depth: rows of a block whose reductions (maximum, sum) are held at once.
    bus_bytes: width of the AXI4 data bus in bytes.
    stuck_cycles: cycles without a transfer after which a bus that owes one counts as stuck.
    pe_latency: registers of a MAC, 1 or 2: the psum's, and one behind the multiplier.
    lane_latency: pipeline registers in a lane's stage, 1 or 2.
    """

    fmt: str = "posit8"
    dim: int = 16
    # None stands for what __post_init__ puts there.
    lanes: int = None  # type: ignore[assignment]
    acc: str = None  # type: ignore[assignment]
    k_max: int = 4096
    softmax: str = None  # type: ignore[assignment]
    functions: str = "all"
    exp_epsilon: int = None  # type: ignore[assignment]
    exp_theta: int | None = None
    exact_power_reciprocal: bool = False
    input_depth: int = 1024
    weight_depth: int = 1024
    acc_depth: int = 512
    row_depth: int = 128
    bus_bytes: int = 16
    stuck_cycles: int = 1 << 16
    pe_latency: int = 1
    lane_latency: int = 1

    def __post_init__(self) -> None:
        fmt = format_named(self.fmt)
        _require_power_of_two("dim", self.dim, 4, 128)
        if self.lanes is None:
            object.__setattr__(self, "lanes", min(16, self.dim))
        _require_power_of_two("lanes", self.lanes, 4, self.dim)
        if self.acc is None:
            object.__setattr__(self, "acc", fmt.default_accumulator)
        if self.acc not in ACCUMULATORS:
            raise ValueError(f"acc must be one of {', '.join(ACCUMULATORS)}, not {self.acc!r}")
        if fmt.name == "bf16" and self.acc != "fp32":
            reason = ("an exact sum of BF16 products needs more than 500 bits"
                      if self.acc == "exact" else "a BF16 product alone has 16 significand bits")
            raise ValueError(f"acc must be fp32 for format bf16, not {self.acc!r}: {reason}")
        _require_integer("k_max", self.k_max, 1, COUNT_MOST)
        if self.softmax is None:
            object.__setattr__(self, "softmax", fmt.default_softmax)
        if self.softmax not in SOFTMAX_MODES:
            raise ValueError(
                f"softmax must be one of {', '.join(SOFTMAX_MODES)}, not {self.softmax!r}")
        if self.functions not in FUNCTION_SETS:
            raise ValueError(
                f"functions must be one of {', '.join(FUNCTION_SETS)}, not {self.functions!r}")
        if self.exp_epsilon is None:
            epsilon = 144 if self.softmax == "approx_shifted" else 128
            object.__setattr__(self, "exp_epsilon", epsilon)
        if self.exp_theta is None and self.softmax == "approx":
            object.__setattr__(self, "exp_theta", -640)
        _require_integer("exp_epsilon", self.exp_epsilon, 0, 255)
        if self.exp_theta is not None:
            _require_integer("exp_theta", self.exp_theta, -32640, 0)
        _require_power_of_two("input_depth", self.input_depth, 64, 1 << 16)
        _require_power_of_two("weight_depth", self.weight_depth, 2 * self.dim, 1 << 16)
        _require_power_of_two("acc_depth", self.acc_depth, 16, 1 << 16)
        _require_power_of_two("row_depth", self.row_depth, 4, 1 << 12)
        _require_power_of_two("bus_bytes", self.bus_bytes, 4, 64)
        _require_power_of_two("stuck_cycles", self.stuck_cycles, 1 << 8, 1 << 24)
        _require_integer("pe_latency", self.pe_latency, 1, 2)
        _require_integer("lane_latency", self.lane_latency, 1, 2)

    @property
    def format(self) -> Format:
        return format_named(self.fmt)

    @property
    def lane(self) -> LaneType:
        return self.format.lane

    @property
    def acc_bits(self) -> int:
        """Bits of an accumulator in the accumulation buffer. An exact one is wide enough for
        ``k_max`` products and has a NaR bit."""
        if self.acc == "exact":
            return self.format.product_bits + ceil_log2(self.k_max) + 1
        return {"bf16": 16, "fp32": 32}[self.acc]

    @property
    def tile_bits(self) -> int:
        """Bits of what a column of the array gives for a tile: an accumulator, or the exact sum of
        ``dim`` products with a carry and a NaR bit."""
        return self.column_bits(self.dim)

    def column_bits(self, rows: int) -> int:
        """``tile_bits`` of the first ``rows`` rows of a column."""
        if self.acc == "exact":
            return self.format.product_bits + ceil_log2(rows) + 2
        return self.acc_bits

    @property
    def array_latency(self) -> int:
        """Cycles from a row of operands to its sums: decode, D rows down (1 for an ``exact`` sum,
        added at once), D − 1 columns across; a product's register delays all rows alike."""
        rows = 1 if self.acc == "exact" else self.dim
        return self.dim + rows + self.pe_latency - 1

    @property
    def word_bytes(self) -> int:
        """Bytes of one buffer word: D stored operands."""
        return self.dim * self.format.storage_bytes

    @property
    def panel_columns(self) -> int:
        """Column tiles of a weight panel (one half of the weight buffer), at most 4."""
        return min(4, self._panel_tiles)

    @property
    def panel_depth(self) -> int:
        """K-tiles of a weight panel."""
        return min(4, self._panel_tiles // self.panel_columns)

    @property
    def operand_depth(self) -> int:
        """K-tiles of a panel of A: rows of two bus beats, the least that 16 bursts under way need
        to keep a bus of 30 cycles latency busy."""
        return min(self.panel_depth, max(1, 2 * self.bus_bytes // self.word_bytes))

    @property
    def _panel_tiles(self) -> int:
        return self.weight_depth // 2 // self.dim

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @property
    def hash(self) -> int:
        """64-bit digest of the configuration, in the CSRs and in program headers."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
