"""Batched simulation of one module: numpy arrays in, numpy arrays out, millions of cases per
second.

The Verilog is read by Yosys, written as C++ (cxxrtl) and compiled with a loop over the cases into
a shared library, once per content. Small modules build in a second or two.
"""

import ctypes
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from gen.cli.folders import build_folder, locked
from sim.harness.verilate import run_tool

__all__ = ["Batch"]

# A Yosys error ends the process that Yosys runs in, so it gets a process of its own.
_TRANSLATE = """
import sys
from pyosys import libyosys
design = libyosys.Design()
source, module, target, flatten, ports = sys.argv[1:]
whole = ("flatten", "opt -full", f"write_cxxrtl -O6 -g0 {target}")
parts = ("opt_clean", f"write_cxxrtl -noflatten -g0 {target}")
for line in (f"read_verilog {source}", f"hierarchy -check -top {module}", "proc -norom",
             f"select {module}", f"write_json -selected {ports}", "select -clear",
             *(whole if flatten == "True" else parts)):
    libyosys.run_pass(line, design)
"""

_HARNESS = """
#include <cstddef>
template<size_t N> static void put(cxxrtl::value<N> &port, const uint32_t *from) {
  for (size_t k = 0; k < cxxrtl::value<N>::chunks; k++) port.data[k] = from[k];
}
template<size_t N> static void get(const cxxrtl::value<N> &port, uint32_t *to) {
  for (size_t k = 0; k < cxxrtl::value<N>::chunks; k++) to[k] = port.data[k];
}
template<size_t N> static void get(const cxxrtl::wire<N> &port, uint32_t *to) {
  get(port.curr, to);
}
extern "C" void run(size_t cases, size_t latency, const uint32_t *const *in, uint32_t *const *out) {
  auto dut = std::make_unique<cxxrtl_design::@TOP@>();
@RESET@
  for (size_t cycle = 0; cycle < cases + latency; cycle++) {
    size_t i = cycle < cases ? cycle : cases - 1;
@PUT@
    @LOW@dut->step();
    if (cycle >= latency) {
      size_t o = cycle - latency;
@GET@
    }
    @HIGH@
  }
}
"""
_RESET = """
  dut->@RST@.data[0] = 1;
  for (int edge = 0; edge < 8; edge++) { dut->@CLK@.data[0] = edge & 1; dut->step(); }
  dut->@RST@.data[0] = 0;
"""


class Batch:
    """Simulates ``module`` of ``verilog``; two states, registers start at their initial values.

    A module with a port ``clock`` takes one case per clock cycle: the case's inputs are applied,
    its outputs are read ``latency`` cycles later, before the clock edge. Each ``run`` starts anew,
    with four cycles of ``reset`` where the module has it; the last case's inputs stay for
    ``latency`` cycles more. Without such a port the module must be combinational.

    ``flatten`` makes one function of the whole module, the fastest to run; without it each distinct
    module is compiled once, which suits a module of many equal instances.

    Attributes ``inputs`` and ``outputs`` give the widths of the ports by name, the clock and the
    reset excepted. ``ToolError`` where a tool refuses the module.
    """

    def __init__(self, verilog: str, module: str, *, clock: str = "clk", reset: str = "rst",
                 optimise: str = "-O2", flatten: bool = True) -> None:
        self.module = module
        self._flatten = flatten
        self._clock, self._reset = clock, reset
        self._library = ctypes.CDLL(str(self._build(verilog, optimise)))
        self._library.run.restype = None
        control = {clock, reset} if clock in self._ports["input"] else set()
        self.inputs = {name: bits for name, bits in self._ports["input"].items()
                       if name not in control}
        self.outputs = self._ports["output"]

    def run(self, inputs: Mapping[str, np.ndarray | int], *, latency: int = 0
            ) -> dict[str, np.ndarray]:
        """Outputs of all cases: unsigned words, ``uint32`` up to 32 bits, ``uint64`` up to 64.

        ``inputs``: one array of integers for every input, of any integer type (reduced modulo the
        port's width, so that negative numbers are two's complement), or one integer for all cases.
        Ports above 64 bits take and give arrays of shape (cases, words) of 32-bit words, lowest
        first. ``ValueError`` for missing, unknown or unequally long inputs.
        """
        if set(inputs) != set(self.inputs):
            raise ValueError(f"inputs of {self.module} must be {', '.join(self.inputs)}, "
                             f"not {', '.join(inputs)}")
        lengths = {len(value) for value in map(np.asarray, inputs.values()) if value.ndim}
        if len(lengths) != 1:
            raise ValueError(f"inputs must be arrays of one length, not of {sorted(lengths)}")
        cases = lengths.pop()
        if cases == 0:
            raise ValueError("inputs must hold at least one case, not 0")
        given = [_to_words(name, inputs[name], bits, cases) for name, bits in self.inputs.items()]
        taken = [np.zeros((cases, _words(bits)), np.uint32) for bits in self.outputs.values()]
        self._library.run(ctypes.c_size_t(cases), ctypes.c_size_t(latency),
                          _pointers(given), _pointers(taken))
        return {name: _from_words(array, bits)
                for (name, bits), array in zip(self.outputs.items(), taken, strict=True)}

    @cached_property
    def _ports(self) -> dict[str, dict[str, int]]:
        ports: dict[str, dict[str, int]] = {"input": {}, "output": {}}
        design = json.loads((self._folder / "dut.json").read_text())
        for name, port in design["modules"][self.module]["ports"].items():
            ports[port["direction"]][name] = len(port["bits"])
        return ports

    def _build(self, verilog: str, optimise: str) -> Path:
        content = "\0".join((verilog, self.module, self._clock, self._reset, optimise,
                             str(self._flatten), _TRANSLATE, _HARNESS, _RESET, _versions()))
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        self._folder = build_folder() / "batch" / f"{self.module}-{key}"
        library = self._folder / "dut.so"
        with locked(self._folder / "lock"):
            if not library.exists():
                self._compile(verilog, library, optimise)
        return library

    def _compile(self, verilog: str, library: Path, optimise: str) -> None:
        import pyosys

        source, code = self._folder / "dut.v", self._folder / "dut.cc"
        source.write_text(verilog)
        run_tool([sys.executable, "-c", _TRANSLATE, source, self.module, code,
                  str(self._flatten), self._folder / "dut.json"])
        harness = self._folder / "harness.cc"
        harness.write_text('#include "dut.cc"\n#include <memory>\n' + self._harness())
        runtime = Path(pyosys.__file__).parent / "share/include/backends/cxxrtl/runtime"
        part = library.with_suffix(".part")
        run_tool(["g++", "-std=c++17", "-shared", "-fPIC", optimise, f"-I{runtime}", harness,
                  "-o", part])
        part.replace(library)

    def _harness(self) -> str:
        inputs, outputs = self._ports["input"], self._ports["output"]
        clocked = self._clock in inputs
        control = {self._clock, self._reset} if clocked else set()
        puts = [f"    put(dut->{_mangled(name)}, in[{index}] + i * {_words(bits)});"
                for index, (name, bits) in enumerate(
                    (name, bits) for name, bits in inputs.items() if name not in control)]
        gets = [f"      get(dut->{_mangled(name)}, out[{index}] + o * {_words(bits)});"
                for index, (name, bits) in enumerate(outputs.items())]
        clock = f"dut->{_mangled(self._clock)}.data[0] = "
        reset = _RESET if clocked and self._reset in inputs else ""
        reset = reset.replace("@RST@", _mangled(self._reset)).replace(
            "@CLK@", _mangled(self._clock))
        words = {"@TOP@": _mangled(self.module), "@RESET@": reset, "@PUT@": "\n".join(puts),
                 "@GET@": "\n".join(gets), "@LOW@": clock + "0; " if clocked else "",
                 "@HIGH@": clock + "1; dut->step();" if clocked else ""}
        text = _HARNESS
        for word, value in words.items():
            text = text.replace(word, value)
        return text


def _versions() -> str:
    from importlib.metadata import version

    return version("pyosys")


def _mangled(name: str) -> str:
    return "p_" + name.replace("_", "__")


def _words(bits: int) -> int:
    return (bits + 31) // 32


def _pointers(arrays: list[np.ndarray]) -> ctypes.Array:
    return (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))


def _to_words(name: str, value: np.ndarray | int, bits: int, cases: int) -> np.ndarray:
    """``value`` as contiguous 32-bit words of shape (cases, words), reduced to ``bits``."""
    array = np.asarray(value)
    if array.dtype.kind not in "iub":
        raise ValueError(f"input {name} must hold integers, not {array.dtype}")
    if bits > 64:
        wide = np.ascontiguousarray(np.broadcast_to(array, (cases, _words(bits))), np.uint32)
        if bits % 32 and np.any(wide[:, -1] >> (bits % 32)):
            raise ValueError(f"input {name} must fit in {bits} bits")
        return wide
    array = np.broadcast_to(array, (cases,))
    if bits <= 32:
        return (array.astype(np.uint32) & np.uint32((1 << bits) - 1)).reshape(cases, 1)
    return (array.astype(np.uint64) & np.uint64((1 << bits) - 1)).view(np.uint32).reshape(cases, 2)


def _from_words(words: np.ndarray, bits: int) -> np.ndarray:
    if bits > 64:
        return words
    return words[:, 0] if bits <= 32 else words.view(np.uint64)[:, 0]
