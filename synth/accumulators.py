"""The table of accumulators in ``synth.area``: one format with each of them, from MAC to array.

A column is D products and their sum: D MACs or, of exact sums, what the array has in their place
(decision 006). The last rows are the array with its accumulation buffer, logic and memory bits: an
exact accumulator is paid for in both.
"""

from dataclasses import dataclass

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.block import design_block
from gen.design import Design
from gen.leaves import Library
from gen.recorder import record
from hdl.accumulate.accumulation_buffer import AccumulationBuffer
from hdl.arith.column_adder import ColumnAdder
from hdl.arith.column_foot import ColumnFoot
from hdl.arith.exact_sum import exact_sum
from hdl.arith.mac import ExactMultiplier
from hdl.codec.operand import OperandVector
from hdl.spec.config import AcceleratorConfig, accumulators
from hdl.spec.formats import Format, format_named
from synth.flow import Flow, Report

__all__ = ["ROWS", "ExactColumn", "accumulator_table"]

ROWS = ("mac", "column", "pe", "array", "accumulation buffer")


class ExactColumn(wiring.Component):
    """The arithmetic of one column of an array of exact sums, in one piece for the flow.

    ``rounded``: with the column's foot.

    Members
    -------
    a, b: In, operands of ``rows`` products.
    o: Out(``exact_sum``), registered; the FP32 word of the registered sum, registered, where
        ``rounded``.
    """

    def __init__(self, fmt: Format, rows: int, rounded: bool = False):
        self.fmt = fmt
        self.rows = rows
        self.rounded = rounded
        operands = OperandVector(fmt, rows)
        super().__init__({"a": In(operands), "b": In(operands),
                          "o": Out(32 if rounded else exact_sum(fmt, rows))})

    def elaborate(self, platform):
        m = Module()
        sums, products = [], 1
        for row in range(self.rows):
            m.submodules[f"multiplier{row}"] = multiplier = ExactMultiplier(self.fmt)
            m.d.comb += [multiplier.a.eq(self.a[row]), multiplier.b.eq(self.b[row])]
            sums.append(multiplier.o)
        while len(sums) > 1:
            added = []
            for index in range(0, len(sums), 2):
                adder = ColumnAdder(self.fmt, products)
                m.submodules[f"adder{products}_{index}"] = adder
                m.d.comb += [adder.upper.eq(sums[index]), adder.lower.eq(sums[index + 1])]
                added.append(adder.o)
            sums, products = added, 2 * products
        if not self.rounded:
            m.d.sync += self.o.eq(sums[0])
            return m
        m.submodules.foot = foot = ColumnFoot(self.fmt, self.rows)
        m.d.sync += [foot.i.eq(sums[0]), self.o.eq(foot.o)]
        return m


@dataclass(frozen=True)
class _Cell:
    """One figure of the table; ``delay`` where the flow can state one."""

    gates: float
    cells: int | None = None
    delay: float | None = None


def _design(block: str, config: AcceleratorConfig) -> Design:
    """What is mapped for a row."""
    if block not in ("column", "accumulation buffer"):
        return design_block(block, config)
    name, library = block.replace(" ", "_"), Library("")
    library.add(ExactColumn(config.format, config.dim, not config.exact_sums)
                if block == "column" else AccumulationBuffer(config), name)
    return record(library, name)


def accumulator_table(flow: Flow, fmt: str, dim: int, lanes: int | None
                      ) -> tuple[dict, dict[tuple[str, str], Report]]:
    """The table, as those of ``synth.area.tables``, and the report of each (block, accumulator)."""
    accs = accumulators(format_named(fmt))
    configs = {acc: AcceleratorConfig(fmt=fmt, acc=acc, dim=dim,
                                      lanes=lanes)  # type: ignore[arg-type]  # None: the default
               for acc in accs}
    keys = [(block, acc) for block in ROWS for acc in accs
            if _has(block, configs[acc])]
    done = flow.measure_all([_design(block, configs[acc]) for block, acc in keys])
    reports = dict(zip(keys, done, strict=True))
    rows = [_row(block, {acc: _cell(reports, block, configs[acc]) for acc in accs
                         if block != "mac" or _has(block, configs[acc])})
            for block in ROWS]
    whole = {acc: [reports[block, acc] for block in ROWS[-2:]] for acc in accs}
    for name, field in (("array and buffer", "gates"), ("memory bits", "memory_bits")):
        rows.append(_row(name, {acc: _Cell(sum(getattr(report, field) for report in parts))
                                for acc, parts in whole.items()}))
    most = min(config.k_most for config in configs.values())
    return {"title": f"accumulators: {fmt}, k_max {most:,}", "columns": accs,
            "rows": rows}, reports


def _has(block: str, config: AcceleratorConfig) -> bool:
    """Whether a build has such a block: ``fused`` has no MAC, and MACs make a column unless it is
    exact."""
    return {"mac": config.acc != "fused", "column": config.exact_columns}.get(block, True)


def _cell(reports: dict[tuple[str, str], Report], block: str, config: AcceleratorConfig) -> _Cell:
    acc = config.acc
    if block == "column" and not config.exact_columns:
        mac = reports["mac", acc]
        return _Cell(config.dim * mac.gates, config.dim * mac.cells, mac.delay)
    report = reports[block, acc]
    # An exact PE's path goes on through its column; a word of the buffer is one net to many
    # registers, and the flow buffers no fan-out.
    timed = block in ("mac", "column") or (not config.exact_columns and block in ("pe", "array"))
    return _Cell(report.gates, report.cells, report.delay if timed else None)


def _row(name: str, cells: dict[str, _Cell]) -> dict:
    return {"block": name, "gates": {acc: cell.gates for acc, cell in cells.items()},
            "cells": {acc: cell.cells for acc, cell in cells.items() if cell.cells is not None},
            "delay": {acc: cell.delay for acc, cell in cells.items() if cell.delay is not None}}
