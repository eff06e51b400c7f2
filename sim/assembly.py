"""Programs as text: ``python -m sim.assembly dump IMAGE``, ``assemble TEXT -o FILE``.

``dump`` prints the program of an image (``sim.image``), or of a file of the program's bytes alone
that is to lie at ``--address``. ``assemble`` writes the bytes of the program, or with ``--into``
the image with the program in place of its own. Exit code 2 for a wrong argument or text.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from compiler.program.assembly.listing import AssemblyError, assemble, disassemble, program_bytes
from compiler.program.image import ImageError, ProgramImage
from gen.cli import Parser, piped, save
from hdl.spec.commands import HEADER_BYTES, MAGIC

__all__ = ["main"]


def _address(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, not {text!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.assembly", description=__doc__.split(":")[0] + ".")
    actions = parser.add_subparsers(dest="action", required=True)
    dump = actions.add_parser("dump", help="print a program, one line per command")
    dump.add_argument("file", metavar="IMAGE", help="an image, or the bytes of a program")
    dump.add_argument("--address", type=_address, default=0, metavar="N",
                      help="where the bytes of a program are to lie (0)")
    write = actions.add_parser("assemble", help="make a program from its text")
    write.add_argument("file", metavar="TEXT", help="a file, or - for standard input")
    write.add_argument("-o", "--output", metavar="FILE", required=True)
    write.add_argument("--into", metavar="IMAGE", help="write this image with the new program")
    return parser


def _dump(options: argparse.Namespace) -> None:
    raw = Path(options.file).read_bytes()
    if raw[:4] == MAGIC.to_bytes(4, "little"):
        if len(raw) < HEADER_BYTES:
            raise ImageError(f"{options.file} must be at least {HEADER_BYTES} bytes, "
                             f"not {len(raw)}")
        memory, place = np.frombuffer(raw, np.uint8), (options.address, options.address)
    else:
        image = ProgramImage.load(options.file)
        memory, place = image.memory, (image.address, image.base)
    print("\n".join(disassemble(memory, *place)))


def _into(image: ProgramImage, program: bytes) -> ProgramImage:
    """``image`` with ``program`` in place of its own; after it the memory ends or grows."""
    start = image.address - image.base
    old = len(program_bytes(image.memory, image.address, image.base))
    memory = image.memory.copy()
    memory[start:start + old] = 0
    tail = memory.size - start
    if len(program) > tail:
        memory = np.concatenate([memory, np.zeros(len(program) - tail, np.uint8)])
    memory[start:start + len(program)] = np.frombuffer(program, np.uint8)
    end = image.address + len(program)
    for tensor in image.tensors:
        if tensor.address < end and image.address < tensor.address + tensor.span:
            raise ImageError(f"program of {len(program)} bytes must end before {tensor.name} "
                             f"at {tensor.address:#x}")
    changed = replace(image, memory=memory)
    changed.check()
    return changed


def _assemble(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    text = sys.stdin.read() if options.file == "-" else Path(options.file).read_text()
    program = assemble(text)
    write = (partial(Path.write_bytes, data=program) if options.into is None
             else _into(ProgramImage.load(options.into), program).save)
    save(parser, options.output, write)
    print(f"wrote {options.output}: {len(program)} bytes of program")


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 in one line for what cannot be read, assembled or written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.action == "dump":
            _dump(options)
        else:
            _assemble(parser, options)
        return 0
    except AssemblyError as error:
        parser.error(f"{options.file}, {error}")
    except UnicodeDecodeError:
        parser.error(f"{options.file} must be text in UTF-8")
    except ImageError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{error.filename or options.file}: {error.strerror or error}")


if __name__ == "__main__":
    sys.exit(piped(main))
