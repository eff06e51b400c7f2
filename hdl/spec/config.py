"""The one frozen description of a build, from which everything else is derived."""

import hashlib
import json
from dataclasses import asdict, dataclass

from hdl.spec.formats import FIXED32, FORMATS, FixedType, Format, LaneType, format_named
from hdl.spec.options import (
    Option,
    option,
    options_of,
    require_integer,
    require_name,
    require_power_of_two,
)
from hdl.spec.panels import PanelSizes

__all__ = ["ACCUMULATORS", "COUNT_BITS", "COUNT_MOST", "FUNCTION_SETS", "INT32_PRODUCTS",
           "LANES", "SOFTMAX_MODES", "SOFTMAX_TRICKS", "AcceleratorConfig",
           "Option", "accumulators", "ceil_log2", "log2_exact", "options"]

ACCUMULATORS = ("bf16", "fp32", "exact", "fused", "int32")
SOFTMAX_MODES = ("pwl", "approx", "approx_shifted", "linear")
SOFTMAX_TRICKS = ("approx", "approx_shifted")
"""Those of the paper, with ε, θ and a choice of the reciprocal."""
FUNCTION_SETS = ("all", "softmax", "training", "scales", "linear")
LANES = ("bf16", "fp32", "fixed")
INT32_PRODUCTS = ((1 << 31) - 1) // (1 << 14)
"""Products of int8 that 32 bits can add: the largest is (-128) * (-128)."""
COUNT_BITS = 24
COUNT_MOST = (1 << COUNT_BITS) - 1
"""The largest M, K and N: what the hardware's counters of rows and columns hold."""


_LATER: dict[str, tuple[object, ...]] = {"sum_ways": (1,), "lane_kind": ("bf16", "fp32")}
"""Values that came after builds were in use, each with what it is where nobody chose it."""


def log2_exact(value: int) -> int:
    """log2 of a power of two."""
    if value <= 0 or value & (value - 1):
        raise ValueError(f"value must be a power of two, not {value!r}")
    return value.bit_length() - 1


def ceil_log2(value: int) -> int:
    """⌈log2⌉ of a positive integer."""
    return (value - 1).bit_length()


def accumulators(fmt: Format) -> tuple[str, ...]:
    """Those that can hold products of ``fmt`` and that it has a use for."""
    if fmt.integer:
        return ("int32",)
    return ("bf16", "fp32", "exact", "fused") if fmt.storage_bits == 8 else ("fp32",)


@dataclass(frozen=True)
class AcceleratorConfig(PanelSizes):
    """Everything that a build is made from; every other figure is a property.

    What each value is stands with it, and nowhere else (``options``). ``None`` takes what
    follows from the others: it is never left in a configuration, but in ``exp_theta`` of a mode
    that has no θ.
    """

    fmt: str = option("posit8", "number format", allowed=tuple(FORMATS))
    dim: int = option(16, "D, rows and columns of the array, a power of two")
    lanes: int = option(None, "L, lanes of the vector unit, a power of two, at most D",
                        "the smaller of 16 and D")
    acc: str = option(None, "accumulator", "the format's own", ACCUMULATORS)
    k_max: int = option(4096, "largest K of a GEMM with the exact accumulator, whose width "
                        "follows from it; int32 takes 131071, the others any K")
    softmax: str = option(None, "exp and 1/x", "the format's own", SOFTMAX_MODES)
    functions: str = option(None, "functions of the vector unit: all of inference, exp and 1/x "
                            "alone, all with those of training, all with scales of rows, or "
                            "scales of rows and no function",
                            "all; scales of int8; linear of fixed lanes", FUNCTION_SETS)
    exp_epsilon: int = option(
        None, "epsilon of the bit-trick exponential in units of 2^-7, 0 to 255",
        "144 for approx_shifted, else 128")
    exp_theta: int | None = option(
        None, "theta of the bit-trick exponential in units of 2^-7, -32640 to 0",
        "-640 for approx, else none")
    exact_power_reciprocal: bool = option(
        False, "bit-trick reciprocal by two's complement, exact at powers of two", "not so")
    input_depth: int = option(1024, "words of D operands in each of the two input banks")
    weight_depth: int = option(1024, "words of D operands in the weight buffer, both halves")
    acc_depth: int = option(512, "words of D accumulators in each of the two accumulation banks")
    row_depth: int = option(128, "rows of a block whose reductions are held at once")
    bus_bytes: int = option(16, "bytes of the AXI4 data bus")
    stuck_cycles: int = option(
        1 << 16, "cycles without a transfer after which a bus that owes one counts as stuck")
    pe_latency: int = option(
        1, "registers of a multiply-accumulate unit, 1 or 2: the psum's, and one after the "
        "multiplier; of exact columns also 3: and one after the shift")
    lane_latency: int = option(1, "registers of each of a lane's four stages, 1 to 4")
    sum_ways: int = option(
        1, "partial sums of a row's sum, 1, 2 or 4, which the beats join in turn: cycles that an "
        "addition of the reductions may take")
    lane_kind: str = option(None, "what the lanes compute in, fixed: integers of 32 bits, of int8 "
                            "alone", "fixed with functions linear, fp32 of bf16, else bf16", LANES,
                            flag="lane")

    def __post_init__(self) -> None:
        fmt = format_named(self.fmt)
        require_power_of_two("dim", self.dim, 4, 128)
        if self.lanes is None:
            object.__setattr__(self, "lanes", min(16, self.dim))
        require_power_of_two("lanes", self.lanes, 4, self.dim)
        if self.acc is None:
            object.__setattr__(self, "acc", fmt.default_accumulator)
        require_name("acc", self.acc, ACCUMULATORS)
        self._check_accumulator(fmt)
        require_integer("k_max", self.k_max, 1, COUNT_MOST)
        if self.softmax is None:
            object.__setattr__(self, "softmax", fmt.default_softmax)
        require_name("softmax", self.softmax, SOFTMAX_MODES)
        if self.lane_kind is None:
            object.__setattr__(self, "lane_kind",
                               "fixed" if self.functions == "linear" and fmt.integer
                               else fmt.lane.name)
        require_name("lane", self.lane_kind, LANES)
        self._check_lane(fmt)
        if self.functions is None:
            object.__setattr__(self, "functions",
                               "linear" if self.fixed else fmt.default_functions)
        require_name("functions", self.functions, FUNCTION_SETS)
        if self.fixed != (self.functions == "linear"):
            raise ValueError(
                f"functions must be linear with lane fixed, not {self.functions!r}: its lanes "
                "have no exp, reciprocal or other function" if self.fixed else
                f"functions must be {', '.join(FUNCTION_SETS[:-1])} with lane {self.lane_kind}, "
                "not 'linear': lanes without a function are those of lane fixed")
        if fmt.integer and self.functions == "training":
            raise ValueError(f"functions must be all, softmax or scales for format {fmt.name}, "
                             "not 'training': gradients are no integers")
        if self.exp_epsilon is None:
            epsilon = 144 if self.softmax == "approx_shifted" else 128
            object.__setattr__(self, "exp_epsilon", epsilon)
        if self.exp_theta is None and self.softmax == "approx":
            object.__setattr__(self, "exp_theta", -640)
        require_integer("exp_epsilon", self.exp_epsilon, 0, 255)
        if self.exp_theta is not None:
            require_integer("exp_theta", self.exp_theta, -32640, 0)
        elif self.softmax in SOFTMAX_TRICKS and self.exp_epsilon < 128:
            raise ValueError(f"exp_epsilon must be at least 128 without exp_theta, not "
                             f"{self.exp_epsilon}: what a mask hides would have weight")
        require_power_of_two("input_depth", self.input_depth, 64, 1 << 16)
        require_power_of_two("weight_depth", self.weight_depth, 2 * self.dim, 1 << 16)
        require_power_of_two("acc_depth", self.acc_depth, 16, 1 << 16)
        require_power_of_two("row_depth", self.row_depth, 4, 1 << 12)
        require_power_of_two("bus_bytes", self.bus_bytes, 4, 64)
        require_power_of_two("stuck_cycles", self.stuck_cycles, 1 << 8, 1 << 24)
        require_integer("pe_latency", self.pe_latency, 1, 3 if self.exact_columns else 2)
        require_integer("lane_latency", self.lane_latency, 1, 4)
        require_power_of_two("sum_ways", self.sum_ways, 1, 4)

    def _check_lane(self, fmt: Format) -> None:
        """Refuse lanes that ``fmt`` has no use for, or that the options bar."""
        allowed = (fmt.lane.name, *(("fixed",) if fmt.integer else ()))
        if self.lane_kind not in allowed:
            raise ValueError(f"lane must be {' or '.join(allowed)} for format {fmt.name}, not "
                             f"{self.lane_kind!r}")
        if not self.fixed:
            return
        if self.softmax != fmt.default_softmax:
            raise ValueError(f"softmax must be {fmt.default_softmax} with lane fixed, not "
                             f"{self.softmax!r}: its lanes have no exp, and 1/x by the table alone")
        require_power_of_two("lanes of lane fixed", self.lanes, 4, 64)
        if self.sum_ways != 1:
            raise ValueError(f"sum_ways must be 1 with lane fixed, not {self.sum_ways!r}: its sums "
                             "are exact in any order, and take a cycle")

    def _check_accumulator(self, fmt: Format) -> None:
        """Refuse an accumulator that cannot hold products of ``fmt``, or that it has no use for."""
        allowed = accumulators(fmt)
        if self.acc not in allowed:
            reason = ("an integer sum is exact as it is" if fmt.integer
                      else "it adds integers" if self.acc == "int32"
                      else "an exact sum of BF16 products needs more than 500 bits"
                      if self.acc in ("exact", "fused")
                      else "a BF16 product alone has 16 significand bits")
            where = ("where the format is not int8" if len(allowed) > 1
                     else f"for format {fmt.name}")
            raise ValueError(f"acc must be {', '.join(allowed)} {where}, not {self.acc!r}: "
                             f"{reason}")

    @property
    def format(self) -> Format:
        return format_named(self.fmt)

    @property
    def lane(self) -> LaneType:
        """The float that operands are as lanes take them; of all but fixed lanes also what these
        compute in."""
        return self.format.lane

    @property
    def word(self) -> LaneType | FixedType:
        """What the lanes compute in."""
        return FIXED32 if self.fixed else self.lane

    @property
    def fixed(self) -> bool:
        """Whether the lanes compute in integers, and nothing in floats."""
        return self.lane_kind == "fixed"

    @property
    def infers(self) -> bool:
        """Whether the vector unit has all functions of inference."""
        return self.functions not in ("softmax", "linear")

    @property
    def squares(self) -> bool:
        """Whether it has products of a word with itself, and means of rows."""
        return self.functions != "softmax"

    @property
    def scales(self) -> bool:
        """Whether rows of tensors may have scales: operands of one item a row, reductions of
        magnitudes. Integers, which have no exponent, can do little without."""
        return self.functions in ("scales", "linear")

    @property
    def trains(self) -> bool:
        """Whether it has those of training too, and commands take scalars from memory."""
        return self.functions == "training"

    @property
    def exact_sums(self) -> bool:
        """Whether accumulators are integers that no sum rounds."""
        return self.acc in ("exact", "int32")

    @property
    def exact_columns(self) -> bool:
        """Whether a column adds all its products at once, and exactly; ``fused`` rounds that sum to
        FP32 at the column's foot."""
        return self.exact_sums or self.acc == "fused"

    @property
    def k_most(self) -> int:
        """The largest K that an accumulator can hold; ``COUNT_MOST`` where any will do."""
        return {"exact": self.k_max, "int32": INT32_PRODUCTS}.get(self.acc, COUNT_MOST)

    @property
    def acc_bits(self) -> int:
        """Bits of an accumulator in the accumulation buffer. An exact one is wide enough for
        ``k_max`` products and has a NaR bit."""
        if self.acc == "exact":
            return self.format.product_bits + ceil_log2(self.k_max) + 1
        return {"bf16": 16, "fp32": 32, "fused": 32, "int32": 32}[self.acc]

    @property
    def tile_bits(self) -> int:
        """Bits of what the array gives for a tile and a column: an accumulator, or the exact sum of
        ``dim`` products, with a carry and a NaR bit unless these are integers."""
        return self.column_bits(self.dim) if self.exact_sums else self.acc_bits

    def column_bits(self, rows: int) -> int:
        """Bits of what the first ``rows`` rows of a column give: as ``tile_bits``, of ``fused`` the
        exact sum."""
        if self.exact_columns:
            return (self.format.product_bits + ceil_log2(rows)
                    + (0 if self.format.integer else 2))
        return self.acc_bits

    @property
    def array_latency(self) -> int:
        """Cycles from a row of operands to its sums: decode, D rows down (1 for an exact sum,
        added at once, and 2 for its rounding, where ``fused``), D − 1 columns across; a product's
        register delays all rows alike."""
        rows = 1 if self.exact_sums else 3 if self.exact_columns else self.dim
        return self.dim + rows + self.pe_latency - 1

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @property
    def told(self) -> dict[str, object]:
        """``as_dict`` without the values of ``_LATER`` that are as usual: a build that such a value
        leaves as it was keeps its text and its hash, and so its programs."""
        return {name: value for name, value in self.as_dict().items()
                if value not in _LATER.get(name, ())}

    @property
    def hash(self) -> int:
        """64-bit digest of the configuration, in the CSRs and in program headers."""
        text = json.dumps(self.told, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def options() -> tuple[Option, ...]:
    """Every value of a configuration, in their order."""
    return options_of(AcceleratorConfig)
