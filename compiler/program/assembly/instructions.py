"""Lists of vector instructions as text, read and written.

An instruction, stage by stage, each but ``x`` left out where it does nothing:

    relu(FUNCTION(x × OPERAND ± OPERAND) × OPERAND) REDUCTION→R1 →DESTINATION {FIELD=VALUE …}

``x`` is the block; OPERAND one of IMM0 IMM1 Y0 Y1 R0 R1 A self. Without a FUNCTION its parentheses
stand alone where stage 4 multiplies. REDUCTION: max, sum, and with a Post 1/sum, mean sum,
1/√(mean sum + ε), power sum; in its place may stand ``amax→A``. Braces hold what the rest does not
say; the last instruction ends the list.
"""

import re
from collections.abc import Mapping
from itertools import product

from compiler.program.records import RESERVED, join, split
from hdl.spec.commands import (
    INSTRUCTION,
    INSTRUCTIONS,
    STAGES,
    Destination,
    Function,
    Operand,
    Post,
    Reduce,
    Trait,
)

__all__ = ["assignments", "list_text", "parse_assignments", "parse_list"]

_POSTS = {Post.NONE: "{}", Post.RECIPROCAL: "1/{}", Post.MEAN: "mean {}",
          Post.INVERSE_SQRT: "1/√(mean {} + ε)", Post.POWER: "power {}",
          Post.RECIPROCAL_MEAN: "1/(mean {} + ε)", Post.INVERSE: "inverse {}"}
# "mean sum" before "sum", which it ends in.
_REDUCTIONS = dict(sorted(
    ((text.format(reduce.name.lower()), (reduce, post))
     for reduce, (post, text) in product(Reduce, _POSTS.items())
     if Trait.REDUCES in reduce.meaning.traits),
    key=lambda item: -len(item[0])))
_FUNCTIONS = {function.name.lower(): function for function in Function if function}
_OPERANDS = {"self": (Operand.SELF, None), "Y0": (Operand.Y, 0), "Y1": (Operand.Y, 1)} | {
    operand.name: (operand, None) for operand in Operand
    if operand not in (Operand.NONE, Operand.Y, Operand.SELF)}
_NAMES: dict[tuple[int, int | None], str] = {
    value: name for name, value in _OPERANDS.items()}
_FIRST = re.compile(r"x(?: × (?P<multiply>\w+))?(?: (?P<sign>[+−]) (?P<add>\w+))?")
_THIRD = re.compile(r"(?P<function>\w*)\((?P<inner>[^()]*)\)(?: × (?P<scale>\w+))?")
_LARGEST = f" {Reduce.AMAX.name.lower()}→{Operand.A.name}"
_DESTINATIONS = {f" →{d.name}": d for d in Destination if d}


def assignments(found: Mapping[str, int], told: Mapping[str, int]) -> list[str]:
    """``field=value`` for each field of ``found`` that has another value in ``told``."""
    return [f"{name}={value}" if value < 10 else f"{name}={value:#x}"
            for name, value in found.items() if told.get(name, 0) != value]


def parse_assignments(texts: list[str], fields: Mapping[str, object]) -> dict[str, int]:
    """The values that ``texts`` give; ``ValueError`` for what is no ``field=number``."""
    values = {}
    for text in texts:
        name, sign, number = text.partition("=")
        if not sign or (name not in fields and name != RESERVED):
            raise ValueError(f"field must be one of {', '.join([*fields, RESERVED])} followed by "
                             f"= and a number, not {text!r}")
        try:
            values[name] = int(number, 0)
        except ValueError:
            raise ValueError(f"{name} must be a number, not {number!r}") from None
    return values


def _text(values: Mapping[str, int]) -> str:
    """What the stages' text can say of an instruction."""
    def operand(stage: str) -> str | None:
        value = values[stage]
        return _NAMES.get((value, values["y"] if value == Operand.Y else None))

    multiply, add, scale = map(operand, STAGES)
    text = "x" + f" × {multiply}" * bool(multiply)
    text += f" {'−' if values['subtract'] else '+'} {add}" * bool(add)
    function = next((n for n, f in _FUNCTIONS.items() if f == values["function"]), "")
    text = f"{function}({text})" if function or scale else text
    text += f" × {scale}" * bool(scale)
    text = f"relu({text})" if values["relu"] else text
    what = (values["reduce"], values["post"])
    reduction = next((text for text, kind in _REDUCTIONS.items() if kind == what), None)
    text += f" {reduction}→R{values['reduce_to']}" * bool(reduction)
    text += _LARGEST * (values["reduce"] == Reduce.AMAX)
    return text + next((t for t, d in _DESTINATIONS.items() if d == values["destination"]), "")


def _operand(name: str, y: int | None) -> tuple[Operand, int | None]:
    if name not in _OPERANDS:
        raise ValueError(f"operand must be one of {', '.join(_OPERANDS)}, not {name!r}")
    operand, which = _OPERANDS[name]
    if None not in (y, which) and y != which:
        raise ValueError("operand must be the same Y in every stage, not Y0 and Y1")
    return operand, y if which is None else which


def _stages(text: str) -> dict[str, int]:
    whole, values, y = text, {}, None
    if text.startswith("relu(") and text.endswith(")"):
        values["relu"], text = 1, text[5:-1]
    third = _THIRD.fullmatch(text)
    first = _FIRST.fullmatch(third["inner"] if third else text)
    if first is None:
        raise ValueError(f"instruction must be a word x and its stages, not {whole!r}")
    names = first.groupdict() | (third.groupdict() if third else {})
    if names.get("function"):
        if names["function"] not in _FUNCTIONS:
            raise ValueError(f"function must be one of {', '.join(_FUNCTIONS)}, "
                             f"not {names['function']!r}")
        values["function"] = _FUNCTIONS[names["function"]]
    values["subtract"] = int(names["sign"] == "−")
    for stage in STAGES:
        if names.get(stage):
            values[stage], y = _operand(names[stage], y)
    return values | {"y": y or 0}


def _parse(text: str) -> dict[str, int]:
    """The fields of one instruction without its braces."""
    values: dict[str, int] = {}
    for end, destination in _DESTINATIONS.items():
        if text.endswith(end):
            values["destination"], text = destination, text[:-len(end)]
    for (reduction, (reduce, post)), register in product(_REDUCTIONS.items(), (0, 1)):
        end = f" {reduction}→R{register}"
        if text.endswith(end) and "reduce" not in values:
            values |= {"reduce": reduce, "post": post, "reduce_to": register}
            text = text[:-len(end)]
    if text.endswith(_LARGEST) and "reduce" not in values:
        values["reduce"], text = Reduce.AMAX, text[:-len(_LARGEST)]
    return _stages(text) | values


def list_text(words: int) -> str:
    """The 256 bits of a command's list: instructions up to the last that is marked or not 0."""
    steps = [split(INSTRUCTION, (words >> 32 * index & 0xFFFF_FFFF).to_bytes(4, "little"))
             for index in range(INSTRUCTIONS)]
    marked = next((index for index, step in enumerate(steps) if step["last"]), 0)
    count = max([marked, *(index for index, step in enumerate(steps) if any(step.values()))]) + 1
    texts = []
    for index, step in enumerate(steps[:count]):
        text = _text(step)
        more = assignments(step, _parse(text) | {"last": int(index == count - 1)})
        texts.append(text + (" {" + " ".join(more) + "}" if more else ""))
    return "; ".join(texts)


def parse_list(text: str) -> int:
    """The 256 bits of ``list_text``; ``ValueError`` on what no instruction can be."""
    steps = [step.strip() for step in text.split(";")]
    if len(steps) > INSTRUCTIONS:
        raise ValueError(f"instructions must be 1 to {INSTRUCTIONS}, not {len(steps)}")
    words = 0
    for index, step in enumerate(steps):
        text, opened, more = step.partition("{")
        if opened and not more.endswith("}"):
            raise ValueError(f"instruction must close its brace, not {step!r}")
        values = _parse(text.strip()) | {"last": int(index == len(steps) - 1)}
        values |= parse_assignments(more.rstrip("}").split(), INSTRUCTION)
        words |= int.from_bytes(join(INSTRUCTION, values, 4), "little") << 32 * index
    return words
