"""``python -m gen.package -o FOLDER``: a build as a package for other people's tools.

The folder gets the accelerator and, all named after it, the record of what it holds (JSON), the C
header, drivers in C and Python, the register map in SystemRDL, timing constraints, waivers for
Verilator, an instance to copy, a test bench, FuseSoC's core, a module of LiteX, an IP-XACT
component and a script that makes an IP of Vivado. Each file is written whole or not at all, all of
them or none.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gen.cli import (
    PERIOD_NS,
    Parser,
    add_config_flags,
    add_module_names,
    add_periods,
    add_surroundings_flags,
    alone,
    config_from,
    deliver,
    make_folder,
    prefix_from,
    surroundings_from,
)
from gen.design import Design
from gen.package import WAIVERS
from gen.package.driver import driver
from gen.package.ip_xact import component
from gen.package.litex import litex_module
from gen.package.python_driver import python_driver
from gen.package.testbench import self_test
from gen.package.texts import core, instance, vivado_script
from gen.regmap import register_map
from gen.sdc import constraints
from gen.sram import SRAM_FORMS
from gen.top import design
from hdl.spec.config import AcceleratorConfig

__all__ = ["main", "package"]

_XML_TYPES = {".v": "verilogSource", ".h": "cSource", ".rdl": "systemRDL", ".sdc": "SDC"}


def package(config: AcceleratorConfig, made: Design, period_ns: float = PERIOD_NS,
            control_period_ns: float = PERIOD_NS) -> dict[str, Callable[[], str]]:
    """Every file of the package by its name, and what writes it."""
    name = made.top
    listed = [(name + ending, kind) for ending, kind in _XML_TYPES.items()]
    return {
        f"{name}.v": lambda: made.text,
        f"{name}.json": made.json,
        f"{name}.h": lambda: register_map("h", config, name),
        f"{name}_driver.h": lambda: driver(config, name),
        f"{name}_driver.py": lambda: python_driver(config, name),
        f"{name}.rdl": lambda: register_map("rdl", config, name),
        f"{name}.sdc": lambda: constraints(config, name, period_ns, made.surroundings,
                                            control_period_ns),
        f"{name}.vlt": lambda: WAIVERS.read_text(encoding="utf-8"),
        f"{name}_instance.v": lambda: instance(made),
        f"{name}_tb.sv": lambda: self_test(made, config),
        f"{name}_litex.py": lambda: litex_module(made, config),
        f"{name}.core": lambda: core(made, config),
        f"{name}_vivado.tcl": lambda: vivado_script(made, config),
        f"{name}.xml": lambda: component(made, config, listed),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="gen.package", description="Package an accelerator for other tools.")
    add_config_flags(parser, output=False)
    add_surroundings_flags(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER",
                        help="where the files go; made if it is not there")
    add_module_names(parser)
    parser.add_argument("--sram", choices=SRAM_FORMS[:2], default="infer",
                        help="memories: as of gen.top (infer)")
    add_periods(parser)
    arguments = parser.parse_args(argv)
    folder = Path(arguments.output)
    try:
        config = config_from(arguments)
        # First of all: a name that cannot be leaves no folder behind.
        made = design(config, arguments.name, prefix_from(arguments),
                      sram=arguments.sram, surroundings=surroundings_from(arguments))
    except ValueError as error:
        parser.error(str(error))
    make_folder(parser, folder)
    files = package(config, made, arguments.period_ns, arguments.control_period_ns)
    return deliver(parser, None, lambda: f"{len(files)} files in {folder}\n",
                   beside={str(folder / name): write for name, write in files.items()})


if __name__ == "__main__":
    sys.exit(alone(main))
