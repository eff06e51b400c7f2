"""Every bench: its cocotb module, what it simulates, in which formats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gen.block import generate_block
from gen.cached import generated
from gen.cli import describe_surroundings
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS
from hdl.spec.surroundings import Surroundings

__all__ = ["BENCHES", "IMAGE", "SIMULATORS", "Bench", "Job", "jobs"]

SIMULATORS = ("icarus", "verilator")
_MAIN = ("posit8", "fp8", "bf16")
_EIGHT_BIT = tuple(name for name, fmt in FORMATS.items() if fmt.storage_bits == 8)


_SYNCHRONISER = """
`define OTTAVA_SYNCHRONISER
// A change near the clock's edge is seen at this edge or at the next one.
module ottava_synchroniser(input clk, input d, output q);
  reg seen, first, second;
  always @(posedge clk) begin
    seen <= d;
    first <= d === seen || $random % 2 != 0 ? d : first;
    second <= first;
  end
  assign q = second;
endmodule
"""


def _top(name: str, config: AcceleratorConfig) -> str:
    return generated(config, name).text


@dataclass(frozen=True)
class Bench:
    """``module``: cocotb module in sim.bench; ``toplevel``: module of the design, which
    ``generate(toplevel, config)`` gives as Verilog. ``formats``: those run by default.
    ``variants``: configuration values besides the format, one run each. ``extra``: further whole
    configurations, besides the formats' own. ``rewritten``: files whose assertions say nothing
    themselves, which pytest rewrites to show values, separated by spaces. ``surroundings``: one
    run each."""

    name: str
    formats: tuple[str, ...] = _MAIN
    variants: tuple[dict[str, Any], ...] = ({"dim": 4},)
    extra: tuple[dict[str, Any], ...] = ()
    generate: Callable[[str, AcceleratorConfig], str] = field(default=generate_block)
    toplevel: str = ""
    rewritten: str = ""
    surroundings: tuple[Surroundings, ...] = (Surroundings(),)

    @property
    def module(self) -> str:
        return f"sim.bench.{self.name}_tb"


@dataclass(frozen=True)
class Job:
    """One bench in one configuration on one simulator; ``environment`` is for the bench.

    ``surroundings``: of a bench of the whole accelerator.
    """

    bench: Bench
    config: AcceleratorConfig
    simulator: str
    environment: Mapping[str, str] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def toplevel(self) -> str:
        return self.bench.toplevel or self.bench.name

    @property
    def verilog(self) -> str:
        """The design, with synchronisers as they are when a change meets the clock's edge."""
        if self.surroundings.usual:
            return self.bench.generate(self.toplevel, self.config)
        return _SYNCHRONISER + generated(self.config, self.toplevel,
                                         surroundings=self.surroundings).text

    @property
    def label(self) -> str:
        extra = f" {self.config.softmax}" if self.bench.name in _BY_SOFTMAX else ""
        extra += " fixed" if self.config.fixed else ""
        latencies = self.config.pe_latency, self.config.lane_latency, self.config.sum_ways
        if latencies != (1, 1, 1):
            extra += " latency {}, {}, ways {}".format(*latencies)
        return " ".join([f"{self.bench.name} {self.config.fmt}{extra}",
                         *describe_surroundings(self.surroundings)])


_BY_SOFTMAX = ("exp", "reciprocal")
_SMALL = {"dim": 4, "input_depth": 64, "weight_depth": 64, "acc_depth": 64}
_MODES = tuple({"dim": 4, "softmax": mode} for mode in SOFTMAX_MODES)

_FIXED: dict[str, Any] = {"fmt": "int8", "dim": 4, "lane_kind": "fixed"}

BENCHES: dict[str, Bench] = {bench.name: bench for bench in (
    Bench("decoder", formats=(*_EIGHT_BIT, "bf16")),
    Bench("encoder", formats=(*_EIGHT_BIT, "bf16")),
    Bench("multiplier"),
    Bench("mac", extra=({"fmt": "bf16", "dim": 4, "pe_latency": 2},)),
    Bench("pe", extra=({"fmt": "posit8", "dim": 4, "pe_latency": 2},)),
    Bench("array", extra=({"fmt": "posit8", "dim": 4, "pe_latency": 2},)),
    Bench("exp", formats=("posit8", "bf16"), variants=_MODES),
    Bench("reciprocal", formats=("posit8", "bf16"), variants=_MODES),
    Bench("lane", extra=(_FIXED, {"fmt": "fp8", "dim": 4, "lane_latency": 2},)),
    Bench("vector", extra=(_FIXED, {"fmt": "posit8", "dim": 4, "lane_latency": 2},
                           {"fmt": "fp8", "dim": 4, "lane_latency": 3, "sum_ways": 4})),
    Bench("top", generate=_top, toplevel="ottava", variants=(_SMALL,), extra=(_FIXED | _SMALL,),
          rewritten="top_tb.py client.py"),
    Bench("clocks", formats=("posit8",), generate=_top, toplevel="ottava", variants=(_SMALL,),
          rewritten="clocks_tb.py client.py", surroundings=(
              Surroundings(control_clock=True),
              Surroundings(reset="async", control_clock=True, power_up="unknown",
                           address_bits=40, outstanding=3, burst=5))),
)}

# Runs the program image that the environment's OTTAVA_IMAGE names (sim.image).
IMAGE = Bench("image", generate=_top, toplevel="ottava", rewritten="image_tb.py client.py")


def jobs(names: list[str], simulators: list[str], fmt: str | None) -> list[Job]:
    """What to run; ``fmt`` replaces the benches' own formats.

    From the last bench to the first: the longest begin, so that none is left to one processor.
    """
    return [Job(bench, AcceleratorConfig(**values), simulator, surroundings=around)
            for bench in map(BENCHES.__getitem__, reversed(names)) for simulator in simulators
            for values in _configurations(bench, fmt) for around in bench.surroundings]


def _configurations(bench: Bench, fmt: str | None) -> list[dict[str, Any]]:
    own = [{"fmt": name, **variant} for name in bench.formats for variant in bench.variants]
    if fmt is None:
        return [*own, *bench.extra]
    extra = [values for values in bench.extra if "lane_kind" not in values or fmt == values["fmt"]]
    return [{**variant, "fmt": fmt} for variant in (*bench.variants, *extra)]
