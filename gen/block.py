"""``python -m gen.block NAME``: one building block as Verilog-2005, in a module called NAME.

The header comment holds the block's contract, its ports and, for clocked blocks, LATENCY: clock
cycles from an input to the output that it causes. Clocked blocks have ``clk`` and ``rst``
(synchronous, active high), combinational ones neither.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module

from amaranth.lib import data, wiring

from gen.cli import (
    Parser,
    add_config_flags,
    add_record,
    alone,
    comment,
    config_from,
    deliver,
    describe,
    prefix_from,
)
from gen.design import Design
from gen.flat import Flat
from gen.identity import latency_of
from gen.leaves import Library, component_ports
from gen.recorder import record
from hdl.spec.activations import ACTIVATIONS, activations
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["BLOCKS", "build_block", "component_of", "design_block", "flat_block",
           "generate_block", "main"]


def _by_format(config: AcceleratorConfig) -> tuple:
    return (config.format,)


def _by_config(config: AcceleratorConfig) -> tuple:
    return (config,)


def _by_function(function: Function) -> Callable[[AcceleratorConfig], tuple]:
    return lambda config: (config.lane, (function,))


BLOCKS: dict[str, tuple[str, str, Callable[[AcceleratorConfig], tuple]]] = {
    "decoder": ("hdl.codec.decoder", "Decoder", _by_format),
    "encoder": ("hdl.codec.encoder", "Encoder", _by_format),
    "multiplier": ("hdl.arith.multiplier", "Multiplier", _by_format),
    "exp": ("hdl.arith.exp", "Exp", _by_config),
    "reciprocal": ("hdl.arith.reciprocal", "Reciprocal", _by_config),
    **{function.name.lower(): ("hdl.arith.activation", "Activation", _by_function(function))
       for function in ACTIVATIONS},
    "activation": ("hdl.arith.activation", "Activation",
                   lambda config: (config.lane, activations(config))),
    "inverse_sqrt": ("hdl.arith.inverse_sqrt", "InverseSqrt", lambda config: (config.lane,)),
    "mac": ("hdl.arith.mac", "Mac",
            lambda config: (config.format, config.acc, config.pe_latency, config.k_max)),
    "pe": ("hdl.array.pe", "PE", _by_config),
    "lane": ("hdl.vector.lane", "Lane", _by_config),
    "array": ("hdl.array.array", "Array", _by_config),
    # The address that passes through with a beat names a word of an accumulation bank.
    "vector": ("hdl.vector.vector_unit", "VectorUnit",
               lambda config: (config, log2_exact(config.acc_depth))),
}
_FIXED: dict[str, tuple[str, str, Callable[[AcceleratorConfig], tuple]]] = {
    **{name: BLOCKS[name] for name in ("decoder", "multiplier", "mac", "pe", "array",
                                       "reciprocal")},
    "encoder": ("hdl.arith.fixed_codec", "FixedEncoder", _by_format),
    "lane": ("hdl.vector.fixed_lane", "FixedLane", _by_config),
    "vector": ("hdl.vector.fixed_vector_unit", "FixedVectorUnit", BLOCKS["vector"][2]),
}
"""Those of fixed lanes."""

# Members whose parts are ports of the block, and how the names of these start (``gen.flat``).
_FLAT: dict[str, dict[str, str]] = {
    "decoder": {"o": ""},
    "multiplier": {"a": "a_", "b": "b_", "o": ""},
    "mac": {"a": "a_", "b": "b_"},
    "lane": {"control": ""},
    "vector": {"control": ""},
}


def component_of(name: str, config: AcceleratorConfig) -> wiring.Component:
    """The component that block ``name`` is made of; ``ValueError`` names the allowed ones."""
    known = _FIXED if config.fixed else BLOCKS
    if name not in known:
        where = " with lane fixed" if name in BLOCKS else ""
        raise ValueError(f"block must be one of {', '.join(known)}{where}, not {name!r}")
    module, cls, arguments = known[name]
    return getattr(import_module(module), cls)(*arguments(config))


def flat_block(name: str, config: AcceleratorConfig) -> Flat:
    """Block ``name`` with the ports that its file has."""
    return Flat(component_of(name, config), _FLAT.get(name, {}))


def build_block(name: str, config: AcceleratorConfig, prefix: str = "") -> Library:
    """A library that holds block ``name`` as a module of that name, and its leaves."""
    library = Library(prefix)
    library.add(flat_block(name, config), name)
    return library


def design_block(name: str, config: AcceleratorConfig, prefix: str = "") -> Design:
    """Text of block ``name`` and the record of what it holds; arguments as of ``build_block``."""
    block = flat_block(name, config)
    library = Library(prefix)
    library.add(block, name)
    header = _header(name, block, config, "clk" in library.modules[name].ports)
    return record(library, name, header, config)


def generate_block(name: str, config: AcceleratorConfig, prefix: str = "") -> str:
    """Verilog of block ``name``; ``prefix`` starts the names of its submodules."""
    return design_block(name, config, prefix).text


def _header(name: str, block: Flat, config: AcceleratorConfig, clocked: bool) -> str:
    component = block.component
    lines = [*(inspect.getdoc(type(component)) or "").replace("``", "").splitlines(), ""]
    if clocked:
        lines.append(f"LATENCY {latency_of(component)}")
    lines += ["Flat ports, vectors lowest element first; signed numbers are two's complement:"]
    layouts = {"__".join(map(str, path)): member.shape
               for path, member, _ in block.signature.flatten(block)}
    for port, (signal, flow) in component_ports(block).items():
        kind = "input" if flow == wiring.In else "output"
        sign = " signed" if signal.shape().signed else ""
        lines.append(f"  {kind:6} [{len(signal) - 1}:0] {port}{sign}")
        if isinstance(layouts.get(port), data.StructLayout):
            lines += [f"         [{item.offset + item.width - 1}:{item.offset}] of it: {key}"
                      for key, item in layouts[port]]
    if clocked:
        lines += ["  input  [0:0] clk", "  input  [0:0] rst synchronous, active high"]
    return comment([f"{name}: {describe(config)}", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="gen.block", description="Generate one block in Verilog-2005.")
    parser.add_argument("name", metavar="NAME", help=", ".join(BLOCKS))
    add_config_flags(parser)
    parser.add_argument("--prefix", help="start of every submodule's name (NAME and _)")
    add_record(parser)
    arguments = parser.parse_args(argv)
    try:
        config = config_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    made = cache(lambda: design_block(arguments.name, config, prefix_from(arguments)))
    return deliver(parser, arguments.output, lambda: made().text,
                   beside={arguments.json: lambda: made().json()} if arguments.json else {})


if __name__ == "__main__":
    sys.exit(alone(main))
