"""Second pass: where every value lies.

Constants, states and results have memory of their own, one after the other as they are declared.
Temporary values share a block of memory: each lives from the first op that writes it to the last
that reads it, so that whoever reads it later makes it live longer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from compiler.lowering.memory import Span, share
from compiler.lowering.ops import OpList
from compiler.lowering.values import Form, Life, Value, View
from compiler.program.builder import ProgramBuilder
from compiler.program.tensor import Tensor
from hdl.spec.formats import Encoding

__all__ = ["Places", "Tell", "least_bytes", "own_memory", "part_of", "place", "place_within",
           "placed", "silent"]

_SHARED = (Life.TEMPORARY, Life.SCRATCH)
Slot = tuple[Value, Form]
Tell = Callable[[float, str], None]
"""Hears what share is done, and where."""


def silent(share: float, where: str) -> None:
    """Tells nobody."""


def part_of(tell: Tell, start: float, end: float) -> Tell:
    """Tells ``tell`` of a part of the whole, from one share to another."""
    return lambda share, where: tell(start + (end - start) * share, where)


class Places:
    """The tensor of each form of each value. ``results``: by name, what a run leaves. ``after``:
    another program's in the same memory, whose values may be this one's."""

    def __init__(self, after: "Places | None" = None) -> None:
        self.results: dict[str, Tensor] = {}
        self._tensors: dict[Slot, Tensor] = {} if after is None else dict(after._tensors)

    def __getitem__(self, slot: Slot) -> Tensor:
        return self._tensors[slot]

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._tensors

    def add(self, slot: Slot, tensor: Tensor, result: bool) -> None:
        self._tensors[slot] = tensor
        if result:
            self.results[tensor.name] = tensor

    def tensor(self, view: View) -> Tensor:
        """The view's part of its tensor."""
        whole = self._tensors[view.value, view.form]
        if view.is_whole:
            return whole
        size, columns = whole.item_bytes, whole.columns
        name = f"{whole.name}[{view.offset}:{view.rows}×{view.columns}]"
        offset, stride = size * view.offset, size * view.stride
        if whole.stride != size * view.value.stride:  # rows as far apart as those of a wider one
            (row, column), (rows, rest) = divmod(view.offset, columns), divmod(view.stride, columns)
            if rest:
                raise ValueError(f"{whole.name} must have rows without gaps to be cut otherwise")
            offset, stride = whole.stride * row + size * column, whole.stride * rows
        return Tensor(name, whole.address + offset, view.rows, view.columns, whole.encoding, stride)


def place(fused: OpList, builder: ProgramBuilder, keep: bool = False,
          after: Places | None = None, tell: Tell = silent) -> Places:
    """Memory for all values of ``fused`` in the builder's image; constants get their contents.

    ``keep``: temporary values have memory of their own, too, and are results. ``after``: where
    those lie that other programs of this memory have placed. ``tell`` hears how far it is.
    """
    places, lives = Places(after), _lives(fused)
    slots = [(value, form) for value in fused.values for form in fused.forms[value]]
    temporary = [slot for slot in slots if slot[0].life in _SHARED and not keep]
    own = [slot for slot in slots if slot not in temporary]
    new = [slot for slot in own if slot not in places]
    for slot, tensor in zip(new, placed(new, builder, tell), strict=True):
        places.add(slot, tensor, False)
    for slot in own:
        left = slot[0].life in (Life.RESULT, Life.STATE, Life.TEMPORARY)
        places.add(slot, places[slot], left)
    if temporary:
        sizes = [_bytes(slot, builder) for slot in temporary]
        starts, size = share([Span(size, *lives[slot])
                              for size, slot in zip(sizes, temporary, strict=True)])
        item = builder.encoding().bits // 8
        block = builder.empty(1, size // item, name="temporary values")
        for (value, form), start in zip(temporary, starts, strict=True):
            name, encoding = _named(value, form, builder)
            tensor = Tensor(name, block.address + start, *value.shape, encoding,
                            value.stride * encoding.bits // 8)
            places.add((value, form), tensor, False)
    _tell_scales(places, own, builder)
    return places


def _tell_scales(places: Places, slots: Sequence[Slot], builder: ProgramBuilder) -> None:
    """What codes with memory of their own count, where their items have that too, or none."""
    parts = {part: (value, row) for value, form in slots if form == Form.WIDE
             for row, part in enumerate(value.holds)}
    alone = {value for value, _ in slots}
    for value, form in slots:
        counts = value.counts
        if counts is None or form != Form.STORED:
            continue
        codes, items = places[value, form], counts.items
        if items is None:
            builder.counts(codes, counts.factor)
        elif items in alone:
            builder.counts(codes, counts.factor, places[items, Form.WIDE])
        elif items in parts:
            whole, row = parts[items]
            builder.counts(codes, counts.factor, places[whole, Form.WIDE].block(
                row, 0, 1, whole.columns))


def placed(slots: Sequence[Slot], builder: ProgramBuilder, tell: Tell = silent
           ) -> Iterator[Tensor]:
    """Memory of its own for each of ``slots``; ``tell`` as for ``place``."""
    sizes = [value.rows * value.stride for value, _ in slots]
    done, total = 0, sum(sizes)
    for (value, form), size in zip(slots, sizes, strict=True):
        yield own_memory(value, form, builder)
        done += size
        tell(done / total, value.name)


def place_within(fused: OpList, wider: OpList, places: Places) -> Places:
    """Places of ``fused`` inside those of ``wider``, the same program for more positions: every
    tensor begins where its counterpart does and has its stride."""
    found = Places(places)
    if len(fused.values) != len(wider.values):
        raise ValueError("programs of one kind must have the same values")
    for value, other in zip(fused.values, wider.values, strict=True):
        if value is other:
            continue
        for form in fused.forms[value]:
            given = places[other, form]
            if value.rows != given.rows or value.columns > given.columns:
                raise ValueError(f"{value.name} must be of {given.rows} rows and at most "
                                 f"{given.columns} columns, not {value.rows}×{value.columns}")
            found.add((value, form), replace(given, columns=value.columns), False)
    return found


def _lives(fused: OpList) -> dict[Slot, tuple[int, int]]:
    """Numbers of the first and the last part that touch a value in a form: an op, or several that
    come in turns."""
    found: dict[Slot, tuple[int, int]] = {}
    for index, ops in enumerate(fused.parts()):
        for op in ops:
            for view in (op.out, *(read.view for read in op.reads)):
                slot = view.value, view.form
                found[slot] = found.get(slot, (index, index))[0], index
    return found


def _named(value: Value, form: Form, builder: ProgramBuilder) -> tuple[str, Encoding]:
    """The name and the encoding of the value's tensor in ``form``."""
    names = {Form.WIDE: "bf16", Form.GRADIENT: builder.config.format.encodings[-1].name}
    encoding = builder.encoding(names.get(form))
    return f"{value.name} {encoding.name}" if value.labelled else value.name, encoding


def _bytes(slot: Slot, builder: ProgramBuilder) -> int:
    """What the value takes in a form, up to a multiple of the bus."""
    value, form = slot
    size = value.rows * value.stride * _named(value, form, builder)[1].bits // 8
    bus = builder.config.bus_bytes
    return -(-size // bus) * bus


def least_bytes(fused: OpList, builder: ProgramBuilder) -> int:
    """What the values alone take that share no memory, without making any of them."""
    return sum(value.rows * value.columns * 4 if form == Form.INDICES
               else _bytes((value, form), builder)
               for value in fused.values if value.life not in _SHARED
               for form in fused.forms[value])


def own_memory(value: Value, form: Form, builder: ProgramBuilder) -> Tensor:
    """Memory of its own for the value in ``form``, a constant's with its contents."""
    if form == Form.INDICES:
        return builder.indices(np.ravel(value.make()), value.name)
    name, encoding = _named(value, form, builder)
    if value.life == Life.CONSTANT:
        return builder.constant(value.make(), encoding.name, name=name)
    tensor = builder.empty(value.rows, value.stride, encoding.name, name=name)
    return replace(tensor, columns=value.columns)
