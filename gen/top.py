"""``python -m gen.top``: the whole accelerator as one file of Verilog-2005.

Verilog alone goes to standard output or, with ``-o``, to a file; ``--json FILE`` records what it
holds (``gen.design``). An error is one line on standard error and exit code 2. ``--regmap
md|json|h|rdl`` prints the register map and ``--sdc`` the timing constraints instead.
"""

import gc
import sys
from collections.abc import Sequence
from functools import cache

from gen.cli import (
    Parser,
    add_config_flags,
    add_module_names,
    add_periods,
    add_record,
    add_surroundings_flags,
    alone,
    comment,
    config_from,
    deliver,
    describe,
    describe_surroundings,
    prefix_from,
    surroundings_from,
)
from gen.design import Design
from gen.leaves import Library, check_name
from gen.recorder import record
from gen.regmap import FORMS, register_map
from gen.sdc import constraints
from gen.sram import SRAM_FORMS
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["build", "design", "generate", "main"]


def build(config: AcceleratorConfig, name: str = "ottava", prefix: str = "",
          sram: str = "infer", surroundings: Surroundings | None = None) -> Library:
    """A library that holds the accelerator of ``config`` as module ``name``, and its leaves.

    ``prefix`` starts the name of every module but ``name`` itself: two builds with different
    names and prefixes fit one design. ``sram``: memories are inferred or a black box.
    ``surroundings``: clocks, resets, the memory bus.
    """
    from gen.flat import flat_accelerator

    check_name(name)  # before the prefix, which may follow from it
    library = Library(prefix, sram, surroundings=surroundings)
    library.add(flat_accelerator(config, surroundings), name)
    return library


def design(config: AcceleratorConfig, name: str = "ottava", prefix: str = "",
           sram: str = "infer", surroundings: Surroundings | None = None) -> Design:
    """The accelerator's text and the record of what it holds; arguments as of ``build``."""
    header = comment([f"{name}: Ottava accelerator", describe(config),
                      *describe_surroundings(surroundings)])
    # Of millions of objects that stay until the text is written, Python's collector would go over
    # all again and again: a third of the time at dim 16, for 75 MB.
    collects = gc.isenabled()
    gc.disable()
    try:
        return record(build(config, name, prefix, sram, surroundings), name, header, config)
    finally:
        if collects:
            gc.enable()


def generate(config: AcceleratorConfig, name: str = "ottava", prefix: str = "",
             sram: str = "infer", surroundings: Surroundings | None = None) -> str:
    """Verilog of the accelerator; the same text for the same configuration, on every machine."""
    return design(config, name, prefix, sram, surroundings).text


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="gen.top", description="Generate an accelerator in Verilog-2005.")
    add_config_flags(parser)
    add_surroundings_flags(parser)
    add_module_names(parser)
    parser.add_argument("--sram", choices=SRAM_FORMS, default="infer",
                        help="memories: storage that tools infer, the same and told that no "
                             "word is read while it is written, or a black box (infer)")
    add_record(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--regmap", choices=FORMS, help="print the register map instead")
    instead.add_argument("--sdc", action="store_true", help="print timing constraints instead")
    add_periods(parser)
    arguments = parser.parse_args(argv)
    try:
        config, surroundings = config_from(arguments), surroundings_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    if arguments.json and (arguments.regmap or arguments.sdc):
        parser.error("--json tells what Verilog holds: not allowed with --regmap or --sdc")
    if arguments.regmap:
        return deliver(parser, arguments.output,
                       lambda: register_map(arguments.regmap, config, arguments.name))
    if arguments.sdc:
        return deliver(parser, arguments.output,
                       lambda: constraints(config, arguments.name, arguments.period_ns,
                                           surroundings, arguments.control_period_ns))
    made = cache(lambda: design(config, arguments.name, prefix_from(arguments), arguments.sram,
                                surroundings))
    return deliver(parser, arguments.output, lambda: made().text,
                   beside={arguments.json: lambda: made().json()} if arguments.json else {})


if __name__ == "__main__":
    sys.exit(alone(main))
