"""The record of a Verilog text that this project did not write, as Yosys reads it."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gen.design import Design, Memory, Module, Port
from synth.yosys import quoted, run_yosys

__all__ = ["foreign"]

MEMORY_PREFIX = "ottava_sram_"  # of modules that stand for a memory
_PLACE = re.compile(r":(\d+)\.(\d+)-(\d+)\.(\d+)$")
_CONTROLS = {"clk": "clock", "aclk": "clock", "rst": "reset", "aresetn": "reset"}


def foreign(verilog: str, top: str) -> Design:
    """Modules of ``verilog``, their ports, instances and memories.

    A module with parameters has the ports of their defaults. ``YosysError`` where Yosys refuses
    the text, ``ValueError`` where it has no module ``top``.
    """
    with tempfile.TemporaryDirectory(prefix="ottava-foreign-") as folder:
        source, result = Path(folder) / "text.v", Path(folder) / "text.json"
        source.write_text(verilog)
        run_yosys([f"read_verilog {quoted(source)}", "proc", f"write_json {quoted(result)}"])
        found = json.loads(result.read_text())["modules"]
    lines = verilog.splitlines(keepends=True)
    return Design(top, {name: _module(name, module, lines, set(found))
                        for name, module in found.items()})


def _module(name: str, found: dict, lines: list[str], known: set[str]) -> Module:
    ports = tuple(Port(port, item["direction"], len(item["bits"]), bool(item.get("signed")),
                       role=_CONTROLS.get(port, "data"))
                  for port, item in found["ports"].items())
    cells = Counter(cell["type"] for cell in found["cells"].values() if cell["type"] in known)
    memories = (*_arrays(found), *_instances(found))
    is_memory = MEMORY_PREFIX in name
    return Module(name, _text(found["attributes"]["src"], lines), ports, cells,
                  memories if is_memory else (), is_memory=is_memory)


def _arrays(found: dict) -> Iterator[Memory]:
    """Memories that a module declares itself, unless their size is a parameter of it."""
    if not found.get("parameter_default_values"):
        for name, item in found.get("memories", {}).items():
            yield Memory(name, item["width"], item["size"], item["width"])


def _instances(found: dict) -> Iterator[Memory]:
    """Memories that are instances of a module with parameters for their size."""
    for name, cell in found["cells"].items():
        given = cell["parameters"]
        if MEMORY_PREFIX in cell["type"] and {"WIDTH", "DEPTH"} <= given.keys():
            width, depth = int(given["WIDTH"], 2), int(given["DEPTH"], 2)
            yield Memory(name, width, depth, int(given.get("GRANULARITY", given["WIDTH"]), 2),
                         macro=cell["type"])


def _text(place: str, lines: list[str]) -> str:
    """What stands at ``place``, a file with first and last line and column, from 1."""
    found = _PLACE.search(place)
    assert found is not None, "Yosys says where each module stands"
    first, start, last, end = map(int, found.groups())
    text = lines[first - 1:last]
    text[-1] = text[-1][:end - 1]
    text[0] = text[0][start - 1:]
    return "".join(text) + "\n"
