"""What a generated text holds, as the writer knows it: modules, ports, instances, memories, leaves.

Readers of a generated text ask this record instead of searching the text again.
``gen.top`` and ``gen.block`` write it next to the text with ``--json`` (docs/integration.md).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

from gen import __version__
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["Design", "Leaf", "Memory", "Module", "Port"]


@dataclass(frozen=True)
class Port:
    """A port of a module.

    Attributes
    ----------
    direction: input or output. width: bits. signed: whether they are two's complement; the
        declaration never says so.
    bus: the interface that the port is part of, ``m_axi_gmem`` or a stream's name, else empty.
    role: what it is there: ``awaddr``, ``payload`` ...; without a bus ``clock``, ``reset``,
        ``enable`` (of a clock), ``interrupt`` or ``data``.
    """

    name: str
    direction: str
    width: int
    signed: bool = False
    bus: str = ""
    role: str = "data"

    @property
    def declaration(self) -> str:
        """The port as Verilog declares it."""
        return f"{self.direction} {self.wire}"

    @property
    def wire(self) -> str:
        """Range and name, as a declaration of any kind has them."""
        return f"{f'[{self.width - 1}:0] ' if self.width > 1 else ''}{self.name}"


@dataclass(frozen=True)
class Memory:
    """``depth`` words of ``width`` bits, of which a write replaces ``granularity`` bits or more.

    ``macro``: the module that stands for it, empty where the module declares it as an array.
    """

    name: str
    width: int
    depth: int
    granularity: int
    write_ports: int = 1
    read_ports: int = 1
    macro: str = ""

    @property
    def bits(self) -> int:
        return self.width * self.depth


@dataclass(frozen=True)
class Leaf:
    """The component that a module was converted from.

    ``parameters``: what its class was made with; a configuration is its hash, a format its name.
    ``latency``: clock cycles from an input to the output that it causes, where that is one number.
    ``rtlil_sha256``: equal ones are equal hardware, whatever the build.
    """

    component: str
    parameters: Mapping[str, object]
    latency: int | None
    rtlil_sha256: str


@dataclass(frozen=True)
class Module:
    """One module of the text.

    ``cells``: how often it instantiates each other module itself. ``memories``: those declared in
    it or made of the macro. ``leaf``: ``None`` for a component's private submodule and for a macro.
    ``macro``: a module that a user may replace; its ports are those of its parameters' defaults.
    ``is_memory``: nothing but a memory. ``box``: its black box, where ``ports`` cannot tell it.
    ``definitions``: what drives each wire that has no name of its own, only ``_`` and a number.
    """

    name: str
    text: str = field(repr=False)
    ports: tuple[Port, ...] = field(repr=False)
    cells: Mapping[str, int] = field(default_factory=dict)
    memories: tuple[Memory, ...] = ()
    leaf: Leaf | None = None
    macro: bool = False
    is_memory: bool = False
    box: str = field(default="", repr=False)
    definitions: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def black_box(self) -> str:
        """The module as its surroundings see it: ports only."""
        if self.box:
            return self.box
        ports = ",\n".join(f"  {port.declaration}" for port in self.ports)
        return f"(* blackbox *)\nmodule {self.name}(\n{ports}\n);\nendmodule\n"

    @property
    def is_clocked(self) -> bool:
        return any(port.role == "clock" for port in self.ports)


@dataclass(frozen=True)
class Design:
    """A text and what it holds.

    ``header``: the comment above the modules. ``config``: ``None`` for a text of another origin.
    ``surroundings``: what the text was generated for.
    """

    top: str
    modules: Mapping[str, Module]
    header: str = field(default="", repr=False)
    config: AcceleratorConfig | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)

    def __post_init__(self) -> None:
        if self.top not in self.modules:
            raise ValueError(f"top must be a module of the text, not {self.top!r}")

    @cached_property
    def text(self) -> str:
        """The whole text."""
        return self.header + "".join(module.text for module in self.modules.values())

    @cached_property
    def counts(self) -> Counter[str]:
        """Instances of each module under one ``top``, which counts once itself."""
        return self.counts_under(self.top)

    def counts_under(self, top: str) -> Counter[str]:
        """The same under another module; a module that the text lacks has none below itself."""
        known: dict[str, Counter[str]] = {}

        def total(name: str) -> Counter[str]:
            if name not in known:
                found = Counter({name: 1})
                cells = self.modules[name].cells if name in self.modules else {}
                for child, times in cells.items():
                    for inner, count in total(child).items():
                        found[inner] += times * count
                known[name] = found
            return known[name]

        return Counter(total(top))

    @property
    def latency(self) -> int | None:
        """Of ``top``, where it is a component with one."""
        leaf = self.modules[self.top].leaf
        return leaf.latency if leaf else None

    def json(self) -> str:
        """All of it but the text, which is named by its length and SHA-256."""
        data = self.text.encode()
        config = None if self.config is None else self.config.as_dict()
        around = self.surroundings if self.config is None else self.surroundings.on(
            self.config.bus_bytes)
        hash_ = None if self.config is None else f"{self.config.hash:#018x}"
        counts = self.counts
        return json.dumps({
            "generator": "ottava", "version": __version__, "top": self.top,
            "latency": self.latency, "config": config, "config_hash": hash_,
            "surroundings": around.as_dict(),
            "verilog": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
            "modules": {module.name: _listed(module, counts[module.name])
                        for module in self.modules.values()}}, indent=1) + "\n"


def _listed(module: Module, count: int) -> dict:
    return {"count": count, "macro": module.macro, "cells": dict(module.cells),
            "leaf": asdict(module.leaf) if module.leaf else None,
            "ports": [asdict(port) for port in module.ports],
            "memories": [asdict(memory) for memory in module.memories]}
