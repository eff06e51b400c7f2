"""Options that choose a build: one for each value of ``AcceleratorConfig``, from what it says."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gen.cli.parser import number
from hdl.spec.config import AcceleratorConfig, options

__all__ = ["add_config_flags", "changed_config", "config_from", "describe"]


def add_config_flags(parser: argparse.ArgumentParser, *, output: bool = True,
                     only: Sequence[str] | None = None, **usual: object) -> None:
    """Add a flag for every value of a configuration, or for ``only`` those named.

    ``usual``: what this tool takes instead of the configuration's own; ``output``: -o too, for
    those whose product is a file.
    """
    for option in options():
        if only is not None and option.name not in only:
            continue
        flag, told = "--" + option.name.replace("_", "-"), usual.get(option.name, option.usual)
        if option.switch:
            parser.add_argument(flag, action="store_true", default=None, help=option.text)
            continue
        names = f": {', '.join(option.allowed)}" if option.allowed else ""
        parser.add_argument(flag, type=str if option.allowed else number,
                            default=usual.get(option.name), help=f"{option.text}{names} ({told})",
                            metavar="NAME" if option.allowed else "N")
    if output:
        parser.add_argument("-o", "--output", metavar="FILE",
                            help="write FILE, not standard output")


def _chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    values = {option.name: getattr(arguments, option.name, None) for option in options()}
    return {name: value for name, value in values.items() if value is not None}


def config_from(arguments: argparse.Namespace, **values: Any) -> AcceleratorConfig:
    """The configuration that the flags name, with ``values`` in place of theirs; ``ValueError``
    in one line."""
    return AcceleratorConfig(**_chosen(arguments) | values)


def changed_config(config: AcceleratorConfig, arguments: argparse.Namespace
                   ) -> AcceleratorConfig:
    """``config`` with what the flags name; ``ValueError``. Of another format what follows from it
    is the new one's."""
    changes = _chosen(arguments)
    if "fmt" in changes:
        followed = {"functions"} if config.functions == config.format.default_functions else set()
        followed |= {"acc", "softmax", "exp_epsilon", "exp_theta"}
        changes = dict.fromkeys(followed) | changes
    return replace(config, **changes)


def describe(config: AcceleratorConfig) -> str:
    """The configuration in one line, every value named."""
    return " ".join(f"{name}={value}" for name, value in config.as_dict().items())
