"""Options of tools that take a model: which one, which part of it, how it is rounded."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from gen.cli.parser import add_offline, integer

__all__ = ["add_adapter", "add_balance", "add_centring", "add_fusion", "add_model",
           "add_model_flags", "add_scales", "layers"]

_LAYERS = re.compile(r"(\d*)(:?)(\d*)")


def layers(text: str) -> slice:
    """A type of option: ``A:B`` layers A to B − 1, ``:B`` those before B, ``A:`` those from A on,
    ``A`` that one alone."""
    found = _LAYERS.fullmatch(text)
    if found is None or not any(found.groups()):
        raise argparse.ArgumentTypeError(
            f"must be A:B, :B, A: or A, layers as whole numbers from 0 up, not {text!r}")
    first, colon, last = found.groups()
    if not colon:
        return slice(int(first), int(first) + 1)
    return slice(int(first or 0), int(last) if last else None)


def add_model(parser: argparse.ArgumentParser, models: Sequence[str], optional: bool = False
              ) -> None:
    """MODEL; ``models``: names that are known; ``optional``: it may be left out."""
    parser.add_argument("model", metavar="MODEL", nargs="?" if optional else None,
                        help=f"{', '.join(models)}, or the path of a checkpoint")


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """``--adapter``."""
    parser.add_argument("--adapter", type=Path, metavar="PATH",
                        help="merge these adapters into the model: a folder or a file of peft, or "
                        "what python -m sim.train wrote")


def add_balance(parser: argparse.ArgumentParser) -> None:
    """``--balance``."""
    parser.add_argument("--balance", action="store_true",
                        help="move powers of two between layers, by what the model reaches on the "
                        "project's sentences, to where formats of few digits are precise")


def add_centring(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """``--centring``, the first of ``names`` unless chosen."""
    parser.add_argument("--centring", choices=tuple(names), default=names[0], metavar="TIMES",
                        help=f"{' or '.join(names)}: how often norms take the mean of a row away, "
                        "for rows whose mean is many times their deviation, on lanes of BF16 "
                        f"({names[0]})")


def add_fusion(parser: argparse.ArgumentParser, levels: Sequence[str]) -> None:
    """``--fusion``, the last of ``levels`` unless chosen."""
    parser.add_argument("--fusion", choices=tuple(levels), default=levels[-1], metavar="LEVEL",
                        help=f"what is rounded to 8 bits: {', '.join(levels)} ({levels[-1]})")


def add_scales(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """``--scales``: one of ``names``, or a file."""
    parser.add_argument("--scales", metavar="WHICH",
                        help="of operands of products, in builds with functions scales: "
                        f"{', '.join(names)}, or a file of python -m sim.quantise, or ONNX (row of "
                        "int8, else unit)")


def add_model_flags(parser: argparse.ArgumentParser, models: Sequence[str],
                    levels: Sequence[str], *, tokens: str, optional: bool = False) -> None:
    """MODEL and the part of it; ``models``, ``levels``: names that are known; ``tokens``: how many
    there are unless chosen; ``optional``: MODEL may be left out."""
    add_model(parser, models, optional)
    parser.add_argument("--layers", type=layers, metavar="A:B",
                        help="layers A to B − 1 alone; :B, A: and A too (all)")
    parser.add_argument("--tokens", type=integer(1), metavar="N", help=f"positions ({tokens})")
    parser.add_argument("--decode", type=integer(0), default=0, metavar="N",
                        help="pass the last N positions one by one, with a cache of keys and "
                        "values (0)")
    add_fusion(parser, levels)
    add_offline(parser)
