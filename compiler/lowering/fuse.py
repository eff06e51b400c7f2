"""First pass: what is rounded by a fusion level, and which ops share a command.

A level decides for each reader of a value whether it reads it rounded to the format
(``Use.form``). An op whose passing value is not rounded and has no other reader joins the op that
gives it, as far as one command goes. What is left has a tensor in each form that its readers need:
where they need both, its op writes BF16 and a copy rounds that to the format.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from compiler.lowering.epilogues import fits_one_list
from compiler.lowering.fusion import Fusion
from compiler.lowering.lane_ops import Add, DeferredSoftmax, Softmax
from compiler.lowering.ops import Gemm, Op, OpList, Output, Vector
from compiler.lowering.polynomial_ops import Polynomial
from compiler.lowering.values import Form, Life, Use, Value, View
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_columns, row_fits

__all__ = ["fuse"]


def fuse(listed: OpList, config: AcceleratorConfig, level: Fusion) -> OpList:
    """``listed`` with commands' ops, every view in a form; ``ValueError`` for what has none."""
    joined, places = _join(listed, config, level)
    alive = {value for op in joined for value in _values(op)}
    values = sorted((value for value in listed.values if value in alive), key=places.__getitem__)
    forms = _forms(joined, values, config, level)
    ops = [op.with_views(lambda view, use: _formed(view, use, forms, level)) for op in joined]
    return OpList(tuple(values), tuple(_with_copies(ops, forms)), forms)


def _values(op: Op) -> Iterator[Value]:
    yield op.out.value
    yield from (read.view.value for read in op.reads)


# Joining

def _join(listed: OpList, config: AcceleratorConfig, level: Fusion
          ) -> tuple[list[Op], dict[Value, int]]:
    """The ops, joined, and each value's place in the order of declaration: what several ops give
    together is declared where the first of their values was."""
    places = {value: index for index, value in enumerate(listed.values)}
    readings = Counter(read.view.value for op in listed.ops for read in op.reads)
    writings = Counter(op.out.value for op in listed.ops if not isinstance(op, Output))
    done: list[Op] = []
    for op in listed.ops:
        index = None
        if isinstance(op, Vector) and readings[op.x.value] == writings[op.x.value] == 1:
            index = _movable(done, op.x.value)
        after = None if index is None else _joined(done[index], op, config, level)
        if after is not None and isinstance(op, Vector):
            del done[index]
            places[op.out.value] = min(places[op.out.value], places[op.x.value])
        done.append(after or op)
    return done, places


def _movable(done: list[Op], value: Value) -> int | None:
    """Where the op stands that writes ``value``, if it might stand at the end as well: nothing
    that it reads is written after it."""
    for index in reversed(range(len(done))):
        if done[index].out.value is value:
            later = {op.out.value for op in done[index + 1:]}
            return None if any(read.view.value in later for read in done[index].reads) else index
    return None


def _joined(before: Op, op: Vector, config: AcceleratorConfig, level: Fusion) -> Op | None:
    """Both as one op, or ``None`` where they stay two."""
    use, value = op.sources[0].use, op.x.value
    whole = op.x.is_whole and before.out.is_whole
    if (not whole or op.transposed or isinstance(before, Output) or not op.then
            or (isinstance(before, Vector) and before.transposed)
            or value.life not in (Life.TEMPORARY, Life.SCRATCH)
            or value.forms is not None or use.form(level) == Form.STORED):
        return None
    lane_ops = before.then + op.then
    softmax = isinstance(op.then[0], (Softmax, DeferredSoftmax))
    if (op.then[0].ends and not softmax and not isinstance(op.then[0], Polynomial)) or (
            not fits_one_list(lane_ops)):
        return None
    masked = any(isinstance(lane_op, Add) for lane_op in before.then)
    if softmax and masked and not row_fits(config, op.x.columns):
        if config.fmt == "bf16":
            raise ValueError(f"a mask in FP32 lanes takes at most {row_columns(config)} positions "
                             f"in this build, not {op.x.columns}; a larger acc_depth takes more")
        return None
    both = _writing(before, op.out)
    if both is None:
        return None
    both = replace(both, then=lane_ops)
    return both if both.blocks is not None else None


def _writing(op: Op, out: View) -> Op | None:
    """``op``, which writes a whole value, writing ``out`` instead; ``None`` where it cannot."""
    if not isinstance(op, Gemm):
        return replace(op, out=out)
    if len(op.products) == 1:
        return replace(op, out=out, products=(replace(op.products[0], out=out),))
    if not out.is_whole:
        return None
    return replace(op, out=out, products=tuple(
        replace(product, out=replace(product.out, value=out.value)) for product in op.products))


# Forms

def _forms(ops: Iterable[Op], values: Iterable[Value], config: AcceleratorConfig, level: Fusion
           ) -> dict[Value, tuple[Form, ...]]:
    """The forms of each value, BF16 first. A ``bf16`` format has but one."""
    needed: dict[Value, set[Form]] = {}
    for op in ops:
        for read in op.reads:
            needed.setdefault(read.view.value, set()).add(read.use.form(level))
    found = {}
    for value in values:
        forms = set(value.forms or needed.get(value, {Form.STORED}))
        if config.fmt == "bf16" and Form.INDICES not in forms:
            forms = {Form.WIDE}
        found[value] = tuple(form for form in Form.in_order() if form in forms)
    return found


def _formed(view: View, use: Use | None, forms: dict[Value, tuple[Form, ...]], level: Fusion
            ) -> View:
    """``view`` in the form that ``use`` reads, or, of what is written, in the first one.

    What has but one form is read in that: a GEMM then refuses BF16 as an operand.
    """
    has = forms[view.value]
    wanted = has[0] if use is None else use.form(level)
    return replace(view, form=wanted if wanted in has else has[0])


def _with_copies(ops: list[Op], forms: dict[Value, tuple[Form, ...]]) -> Iterator[Op]:
    """``ops``, and after the last one that writes a value of two forms the copy to the second."""
    last = {op.out.value: index for index, op in enumerate(ops) if not isinstance(op, Output)}
    for index, op in enumerate(ops):
        yield op
        value = op.out.value
        if last.get(value) == index and len(forms[value]) == 2:
            first, second = (replace(value.whole, form=form) for form in forms[value])
            yield Vector(second, first)
