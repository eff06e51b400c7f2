"""A driver in Python for a build: one file, the standard library alone."""

import ast
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from gen.cli import describe
from gen.identification import whole_registers
from gen.package.host import build, device, image, memories
from gen.package.host.build import Build
from hdl.spec.command_fields import Role
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    ErrorCause,
    Opcode,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import CLIENTS, COUNTERS, REGISTERS

__all__ = ["build_of", "python_driver"]

_PARTS = (build, image, device, memories)
_TEXT = '''\
"""Driver of the Ottava accelerator {name}: the standard library alone. Generated.

{config}

A device needs an object with ``read(offset)`` and ``write(offset, word)`` for its registers, and
one for the memory that it works on: ``address``, what the device calls its first byte,
``read(offset, count)`` and ``write(offset, data)``. ``PynqMemory``, ``Remote`` and
``RemoteMemory`` are such objects.

    device = Device(registers, BUILD)
    device.identify()
    results = device.run(Image.load("head.image"), memory)      # bytes by name
    print(device.counters())
"""

{imports}

{code}

BUILD = Build(
{constants}
)
'''


def build_of(config: AcceleratorConfig, name: str = "ottava") -> Build:
    """What a driver knows of the build."""
    return Build(
        name=name,
        registers={register.name: register.offset for register in REGISTERS},
        fields={register.name: {field.name: (field.low, field.bits) for field in register.fields}
                for register in REGISTERS},
        known=whole_registers(config),
        causes={int(cause): (cause.name, cause.doc) for cause in ErrorCause},
        clients=tuple(doc for _, doc in CLIENTS),
        counters=dict(COUNTERS),
        header=HEADER_BYTES, command=COMMAND_BYTES,
        places={name: field.offset // 8 for name, field in HEADER.items()},
        addresses=tuple(field.offset // 8 for field in COMMAND.values()
                        if field.role is Role.ADDRESS),
        magic=MAGIC, end=int(Opcode.END))


def python_driver(config: AcceleratorConfig, name: str = "ottava") -> str:
    """The driver as one file, the constants of a build of ``config`` at its end."""
    texts = [Path(str(part.__file__)).read_text(encoding="utf-8") for part in _PARTS]
    return _TEXT.format(
        name=name, config=textwrap.fill(describe(config), 99), imports="\n".join(_imports(texts)),
        code="\n\n".join(map(_code, texts)),
        constants="\n".join(_constants(build_of(config, name))))


def _imports(texts: Iterable[str]) -> Iterator[str]:
    """What the parts import, but for one another."""
    modules: set[str] = set()
    names: dict[str, set[str]] = defaultdict(set)
    for node in (node for text in texts for node in ast.parse(text).body):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("gen."):
            names[str(node.module)] |= {alias.name for alias in node.names}
    yield from (f"import {module}" for module in sorted(modules))
    yield from (f"from {module} import {', '.join(sorted(names[module]))}"
                for module in sorted(names))


def _code(text: str) -> str:
    """What follows after a part's imports and ``__all__``."""
    last = max(node.end_lineno or 0 for node in ast.parse(text).body
               if isinstance(node, ast.Import | ast.ImportFrom | ast.Assign)
               and ast.unparse(node).startswith(("import", "from", "__all__")))
    return "\n" + "\n".join(text.splitlines()[last:]).strip("\n")


def _constants(made: Build) -> Iterator[str]:
    for name, value in vars(made).items():
        if not isinstance(value, dict):
            yield f"    {name}={value!r},"
            continue
        yield f"    {name}={{"
        yield from (f"        {key!r}: {item!r}," for key, item in value.items())
        yield "    },"
