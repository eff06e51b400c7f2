"""Batched simulation of one module: numpy arrays in, numpy arrays out, millions of cases per
second.

The Verilog goes through Verilator and is compiled with a loop over the cases into a shared library,
once per content. Small modules build in a second or two.
"""

import ctypes
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gen.cli.folders import build_folder, locked
from sim.harness.verilate import QUICK, link, translate, verilator_root

__all__ = ["Batch"]

_PORT = re.compile(r"^ +VL_(IN|OUT)\w*\(&(\w+),(\d+),(\d+)", re.MULTILINE)
_HARNESS = """
#include "Vdut.h"
#include <cstddef>
#include <cstdint>
#include <memory>
template<class T> static void put(T &port, const uint32_t *from) {
  port = sizeof(T) > 4 ? static_cast<T>(from[0] | static_cast<uint64_t>(from[1]) << 32) : from[0];
}
template<size_t N> static void put(VlWide<N> &port, const uint32_t *from) {
  for (size_t k = 0; k < N; k++) port[k] = from[k];
}
template<class T> static void get(const T &port, uint32_t *to) {
  to[0] = static_cast<uint32_t>(port);
  if (sizeof(T) > 4) to[1] = static_cast<uint32_t>(static_cast<uint64_t>(port) >> 32);
}
template<size_t N> static void get(const VlWide<N> &port, uint32_t *to) {
  for (size_t k = 0; k < N; k++) to[k] = port[k];
}
extern "C" void run(size_t cases, size_t latency, const uint32_t *const *in, uint32_t *const *out) {
  VerilatedContext context;
  auto dut = std::make_unique<Vdut>(&context);
@RESET@
  for (size_t cycle = 0; cycle < cases + latency; cycle++) {
    size_t i = cycle < cases ? cycle : cases - 1;
@PUT@
    @LOW@dut->eval();
    if (cycle >= latency) {
      size_t o = cycle - latency;
@GET@
    }
    @HIGH@
  }
  dut->final();
}
"""
_RESET = """
  dut->@RST@ = 1;
  for (int edge = 0; edge < 8; edge++) { dut->@CLK@ = edge & 1; dut->eval(); }
  dut->@RST@ = 0;
"""


class Batch:
    """Simulates ``module`` of ``verilog``; two states, registers start at their initial values.

    A module with a port ``clock`` takes one case per clock cycle: the case's inputs are applied,
    its outputs are read ``latency`` cycles later, before the clock edge. Each ``run`` starts anew,
    with four cycles of ``reset`` where the module has it; the last case's inputs stay for
    ``latency`` cycles more. Without such a port the module must be combinational.

    Attributes ``inputs`` and ``outputs`` give the widths of the ports by name, the clock and the
    reset excepted. ``blocks``: modules that are compiled once, as for ``verilate.build_library``.
    ``ToolError`` where a tool refuses the module.
    """

    def __init__(self, verilog: str, module: str, *, clock: str = "clk", reset: str = "rst",
                 optimise: str = "-O1", blocks: Sequence[str] = ()) -> None:
        self.module, self._blocks = module, tuple(blocks)
        self._clock, self._reset = clock, reset
        self._library = ctypes.CDLL(str(self._build(verilog, optimise)))
        self._library.run.restype = None
        control = {clock, reset} if clock in self._ports["IN"] else set()
        self.inputs = {name: bits for name, bits in self._ports["IN"].items()
                       if name not in control}
        self.outputs = self._ports["OUT"]

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
        """Widths of inputs and outputs by Verilog's names, in the order of Verilator's class."""
        ports: dict[str, dict[str, int]] = {"IN": {}, "OUT": {}}
        for kind, name, high, low in _PORT.findall((self._folder / "cpp/Vdut.h").read_text()):
            ports[kind][_plain(name)] = int(high) - int(low) + 1
        return ports

    def _build(self, verilog: str, optimise: str) -> Path:
        content = "\0".join((verilog, self.module, self._clock, self._reset, optimise,
                             repr(self._blocks), _HARNESS, _RESET, str(verilator_root()), *QUICK))
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        self._folder = build_folder() / "batch" / f"{self.module}-{key}"
        library = self._folder / "dut.so"
        with locked(self._folder.with_suffix(".lock")):
            if not library.exists():
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir()
                self._compile(verilog, library, optimise)
        return library

    def _compile(self, verilog: str, library: Path, optimise: str) -> None:
        translate(self._folder, verilog, self.module, blocks=self._blocks)
        (self._folder / "cpp/harness.cpp").write_text(self._harness())
        link(self._folder, library, optimise)

    def _harness(self) -> str:
        inputs, outputs = self._ports["IN"], self._ports["OUT"]
        clocked = self._clock in inputs
        control = {self._clock, self._reset} if clocked else set()
        puts = [f"    put(dut->{_mangled(name)}, in[{index}] + i * {_words(bits)});"
                for index, (name, bits) in enumerate(
                    (name, bits) for name, bits in inputs.items() if name not in control)]
        gets = [f"      get(dut->{_mangled(name)}, out[{index}] + o * {_words(bits)});"
                for index, (name, bits) in enumerate(outputs.items())]
        clock = f"dut->{_mangled(self._clock)} = "
        reset = _RESET if clocked and self._reset in inputs else ""
        reset = reset.replace("@RST@", _mangled(self._reset)).replace(
            "@CLK@", _mangled(self._clock))
        words = {"@RESET@": reset, "@PUT@": "\n".join(puts), "@GET@": "\n".join(gets),
                 "@LOW@": clock + "0; " if clocked else "",
                 "@HIGH@": clock + "1; dut->eval();" if clocked else ""}
        text = _HARNESS
        for word, value in words.items():
            text = text.replace(word, value)
        return text


def _plain(name: str) -> str:
    """Verilog's name of a port of Verilator's class: of two ``_``, the second stands as a code."""
    return re.sub(r"__0([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), name)


def _mangled(name: str) -> str:
    return name.replace("__", "___05F")


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
