"""Cells of Yosys taken apart: a word of n bits becomes n cells of one bit, where it can."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["REGISTERS", "Bit", "Cell", "Key", "parts"]

REGISTERS = frozenset({"$dff", "$dffe", "$adff", "$adffe", "$sdff", "$sdffe", "$sdffce",
                       "$dlatch", "$adlatch"})
_ALIASES = frozenset({"$pos", "$buf"})
_BITWISE = frozenset({"$not", "$and", "$or", "$xor", "$xnor", *_ALIASES})

Bit = int | str  # the number of a wire's bit, or a constant
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the normal form before its inputs are resolved; ``state``: it is never merged."""

    kind: Key
    inputs: tuple[Bit, ...]
    name: str
    state: bool


def parts(name: str, cell: dict, initial: Mapping[Bit, str]
          ) -> Iterator[tuple[Cell, tuple[Bit, ...]]]:
    """The cells of one bit, or the one cell, that ``cell`` is in the normal form."""
    kind, pins, parameters = cell["type"], cell["connections"], cell["parameters"]
    if kind in REGISTERS:
        yield from _registers(name, kind, pins, parameters, initial)
    elif kind in _BITWISE:
        yield from _gates(name, kind, pins, parameters)
    elif kind == "$mux":
        for index, bit in enumerate(pins["Y"]):
            yield Cell(("$mux",), (pins["A"][index], pins["B"][index], *pins["S"]),
                       f"{name}[{index}]", False), (bit,)
    elif kind == "$pmux":
        width = len(pins["Y"])
        for index, bit in enumerate(pins["Y"]):
            yield Cell(("$pmux",), (pins["A"][index], *pins["B"][index::width], *pins["S"]),
                       f"{name}[{index}]", False), (bit,)
    elif kind == "$mem_v2":
        yield from _memory(name, pins, parameters)
    else:
        yield _whole(name, kind, cell)


def _integer(value: str | int) -> int:
    return value if isinstance(value, int) else int(value, 2)


def _registers(name, kind, pins, parameters, initial):
    vectors = [pin for pin in ("D", "AD") if pin in pins]
    controls = [pin for pin in sorted(pins) if pin not in ("D", "AD", "Q")]
    resets = [key for key in sorted(parameters) if key.endswith("_VALUE")]
    rest = tuple((key, _integer(value)) for key, value in sorted(parameters.items())
                 if key != "WIDTH" and key not in resets)
    for index, bit in enumerate(pins["Q"]):
        loads = tuple((key, parameters[key][-1 - index]) for key in resets)
        inputs = (*(pins[pin][index] for pin in vectors),
                  *(source for pin in controls for source in pins[pin]))
        yield Cell((kind, tuple(controls), rest, loads, initial.get(bit, "x")), inputs,
                   f"{name}[{index}]", True), (bit,)


def _gates(name, kind, pins, parameters):
    operands = [pin for pin in ("A", "B") if pin in pins]
    signed = all(_integer(parameters[f"{pin}_SIGNED"]) for pin in operands)

    def extended(bits, index):
        if index < len(bits):
            return bits[index]
        return bits[-1] if signed and bits else "0"

    for index, bit in enumerate(pins["Y"]):
        yield Cell(("alias",) if kind in _ALIASES else (kind,),
                    tuple(extended(pins[pin], index) for pin in operands),
                    f"{name}[{index}]", False), (bit,)


def _memory(name, pins, parameters):
    """A memory a bit of its words; what all of them share is each one's."""
    width = _integer(parameters["WIDTH"])
    reads, writes = (_integer(parameters[f"{side}_PORTS"]) for side in ("RD", "WR"))
    by_word = {"RD_INIT_VALUE", "RD_ARST_VALUE", "RD_SRST_VALUE"}
    shared = tuple((key, value) for key, value in sorted(parameters.items())
                   if key not in {"WIDTH", "MEMID", "INIT", *by_word})
    common = tuple(bit for pin in sorted(pins) if pin not in ("RD_DATA", "WR_DATA", "WR_EN")
                   for bit in pins[pin])
    contents = parameters["INIT"]
    for index in range(width):
        def column(bits, ports, index=index):
            return tuple(bits[port * width + index] for port in range(ports))

        own = tuple((key, "".join(column(parameters[key][::-1], reads))) for key in sorted(by_word))
        kind = ("$mem_v2", shared, own, contents[::-1][index::width])
        inputs = (*common, *column(pins["WR_EN"], writes), *column(pins["WR_DATA"], writes))
        yield Cell(kind, inputs, f"{name}[{index}]", True), column(pins["RD_DATA"], reads)


def _whole(name, kind, cell):
    directions = cell.get("port_directions")
    pins = cell["connections"]
    if directions is None or set(directions) != set(pins):
        raise ValueError(f"module {kind!r} must be in the text, since {name!r} instantiates it")
    parameters = tuple(sorted(cell["parameters"].items()))
    ordered = sorted(pins)
    shape = tuple((pin, directions[pin], len(pins[pin])) for pin in ordered)
    inputs = tuple(bit for pin in ordered if directions[pin] == "input" for bit in pins[pin])
    outputs = tuple(bit for pin in ordered if directions[pin] == "output" for bit in pins[pin])
    return Cell((kind, parameters, shape), inputs, name, not kind.startswith("$")), outputs
