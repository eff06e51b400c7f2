"""Options that choose a build: one for each value of ``AcceleratorConfig`` and of
``Surroundings``, from what these say."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gen.cli.parser import number, real
from hdl.spec.config import AcceleratorConfig, options
from hdl.spec.options import Option, options_of, require_name
from hdl.spec.surroundings import TARGETS, Surroundings, usual_of_target

__all__ = ["PERIOD_NS", "add_config_flags", "add_module_names", "add_periods",
           "add_surroundings_flags", "changed_config", "config_from", "describe",
           "describe_surroundings", "prefix_from", "surroundings_from"]

PERIOD_NS = 10.0


def add_config_flags(parser: argparse.ArgumentParser, *, output: bool = True,
                     only: Sequence[str] | None = None, **usual: object) -> None:
    """Add a flag for every value of a configuration, or for ``only`` those named.

    ``usual``: what this tool takes instead of the configuration's own; ``output``: -o too, for
    those whose product is a file.
    """
    _add_flags(parser, (option for option in options() if only is None or option.name in only),
               usual)
    if only is None:
        parser.add_argument(
            "--target", metavar="NAME", help=f"what a build is for: {', '.join(TARGETS)}; fpga "
            "has other usual values of acc, bus_bytes, address_bits and of all latencies (asic)")
    if output:
        parser.add_argument("-o", "--output", metavar="FILE",
                            help="write FILE, not standard output")


def add_surroundings_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every value of ``Surroundings`` but ``target``, which chooses values of a
    configuration too and is one of its flags."""
    _add_flags(parser, (option for option in options_of(Surroundings) if option.name != "target"),
               {})


def add_module_names(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a build's names, of which ``prefix_from`` takes the second."""
    parser.add_argument("--name", default="ottava", help="name of the top module (ottava)")
    parser.add_argument("--prefix", help="start of every other module's name (the top's and _)")


def prefix_from(arguments: argparse.Namespace) -> str:
    """The prefix that the flags name, or the top's name: builds of two names fit one design."""
    return f"{arguments.name}_" if arguments.prefix is None else arguments.prefix


def add_periods(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a build's clock periods."""
    parser.add_argument("--period-ns", type=real(0), default=PERIOD_NS, metavar="NS",
                        help=f"clock period of the constraints ({PERIOD_NS:g})")
    parser.add_argument("--control-period-ns", type=real(0), default=PERIOD_NS, metavar="NS",
                        help=f"the same of the control port's own clock ({PERIOD_NS:g})")


def _add_flags(parser: argparse.ArgumentParser, given: Iterable[Option],
               usual: dict[str, object]) -> None:
    for option in given:
        flag, told = option.flag, usual.get(option.name, option.usual)
        if option.switch:
            parser.add_argument(flag, dest=option.name, action="store_true", default=None,
                                help=option.text)
            continue
        names = f": {', '.join(option.allowed)}" if option.allowed else ""
        parser.add_argument(flag, dest=option.name, type=str if option.allowed else number,
                            default=usual.get(option.name), help=f"{option.text}{names} ({told})",
                            metavar="NAME" if option.allowed else "N")


def _chosen(arguments: argparse.Namespace, given: Iterable[Option]) -> dict[str, Any]:
    values = {option.name: getattr(arguments, option.name, None) for option in given}
    return {name: value for name, value in values.items() if value is not None}


def config_from(arguments: argparse.Namespace, **values: Any) -> AcceleratorConfig:
    """The configuration that the flags name, with ``values`` in place of theirs; ``ValueError``
    in one line."""
    chosen = _chosen(arguments, options()) | values
    usual = _usual(arguments, chosen)
    return AcceleratorConfig(**{option.name: usual[option.name] for option in options()
                                if option.name in usual} | chosen)


def surroundings_from(arguments: argparse.Namespace) -> Surroundings:
    """The surroundings that the flags name; ``ValueError`` in one line."""
    chosen, given = _chosen(arguments, options_of(Surroundings)), options_of(Surroundings)
    usual = _usual(arguments, _chosen(arguments, options()))
    return Surroundings(**{option.name: usual[option.name] for option in given
                           if option.name in usual} | chosen)


def _usual(arguments: argparse.Namespace, chosen: dict[str, Any]) -> dict[str, Any]:
    """What the flag of the target makes usual, beside what is ``chosen``."""
    target = getattr(arguments, "target", None) or "asic"
    require_name("target", target, TARGETS)
    fields = {option.name: option for option in options()}
    fmt = chosen.get("fmt", fields["fmt"].usual)
    return usual_of_target(target, fmt, chosen.get("dim", int(fields["dim"].usual)),
                           chosen.get("acc"), chosen.get("lane_kind") == "fixed"
                           or chosen.get("functions") == "linear")


def changed_config(config: AcceleratorConfig, arguments: argparse.Namespace
                   ) -> AcceleratorConfig:
    """``config`` with what the flags name; ``ValueError``. Of another format what follows from it
    is the new one's."""
    changes = _chosen(arguments, options())
    followed = set()
    if ({"fmt", "lane_kind"} & changes.keys()
            and config.functions == AcceleratorConfig(
                config.fmt, lane_kind=config.lane_kind).functions):
        followed = {"functions"}
    if "fmt" in changes:
        followed |= {"acc", "softmax", "exp_epsilon", "exp_theta", "lane_kind"}
    changes = dict.fromkeys(followed) | changes
    return replace(config, **changes)


def describe(config: AcceleratorConfig) -> str:
    """The configuration in one line, every value named that ``told`` names."""
    return " ".join(f"{name}={value}" for name, value in config.told.items())


def describe_surroundings(surroundings: Surroundings | None) -> list[str]:
    """What of them is not as usual, in a line; none where all is."""
    usual = Surroundings().as_dict()
    told = [f"{name}={value}" for name, value in (surroundings or Surroundings()).as_dict().items()
            if value != usual[name]]
    return [" ".join(told)] if told else []
