"""Makes op lists: declares values, places constants once, lists ops with one lane op each."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from compiler.checkpoints.description import Activation, Linear, Norm
from compiler.lowering.epilogues import ACTIVATIONS
from compiler.lowering.lane_ops import (
    Add,
    AddResidual,
    Apply,
    Factor,
    LaneOp,
    Multiply,
    Normalise,
)
from compiler.lowering.ops import Gather, Gemm, Op, OpList, Output, Product, Vector
from compiler.lowering.values import Form, Life, Use, Value, View

__all__ = ["Tracer"]

Contents = Callable[[np.ndarray], np.ndarray]


class Tracer:
    """An op list in the making. Ops stand in the order in which they are asked for, values in that
    of their declaration. ``results``: whether values that a run leaves keep their memory to the
    end; else as others only as long as they are read. ``after``: another program's tracer, whose
    constants are those of this one too. ``contents``: gives the weights that an array stands for
    when they are placed. ``places``: by the id of weights their place in the model, which products
    are told to be of (``ops.Gemm``)."""

    def __init__(self, results: bool = True, after: "Tracer | None" = None,
                 contents: Contents = lambda array: array,
                 places: Mapping[int, str] = MappingProxyType({})) -> None:
        self._results, self._contents, self._places = results, contents, places
        self._parts: dict[int, View] = {}
        self._values: list[Value] = []
        self._here: set[Value] = set()
        self._ops: list[Op] = []
        self._constants: dict[object, tuple[Value, object]] = (
            {} if after is None else dict(after._constants))

    def forget(self) -> None:
        """Leave to those ``after`` this one parameters alone: masks and tables of positions are of
        one length."""
        self._constants = {key: (value, owner) for key, (value, owner) in self._constants.items()
                           if owner is not None}

    def parameters(self) -> list[Value]:
        """The constants that hold arrays of the model."""
        return [value for value, owner in self._constants.values() if owner is not None]

    def listed(self) -> OpList:
        """Everything so far."""
        return OpList(tuple(self._values), tuple(self._ops))

    # Values

    def value(self, name: str, rows: int, columns: int, life: Life = Life.TEMPORARY, *,
              labelled: bool = False, forms: tuple[Form, ...] | None = None,
              room: int = 0) -> Value:
        """One that some op writes."""
        if life == Life.RESULT and not self._results:
            life = Life.TEMPORARY
        return self.declare(Value(name, rows, columns, life, forms, labelled, room=room))

    def given(self, name: str, rows: int, columns: int, *linears: Linear) -> Value:
        """One that ``linears`` read, and nothing else; where these have more to read, with room
        for it."""
        return self.value(name, rows, columns)

    def constant(self, name: str, rows: int, columns: int, make: Callable[[], np.ndarray],
                 *forms: Form, labelled: bool = False) -> Value:
        """One that the image holds from the start: what ``make`` gives, in ``forms``."""
        return self.declare(Value(name, rows, columns, Life.CONSTANT, forms, labelled, make))

    def shared(self, key: object, name: str, shape: tuple[int, int], form: Form,
               make: Callable[[], np.ndarray], owner: object = None) -> Value:
        """A constant that is placed once for each ``key``. ``owner``: what must live as long as
        the key is of it, since that holds its id."""
        key = key, form
        if key not in self._constants:
            self._constants[key] = self.constant(name, *shape, make, form), owner
        value = self._constants[key][0]
        return value if value in self._here else self.declare(value)

    def parameter(self, values: np.ndarray, form: Form, name: str) -> Value:
        """Constant ``values``, placed once however often the same array is asked for."""
        return self.shared(id(values), name, np.atleast_2d(values).shape, form,
                           lambda: self._contents(values), values)

    def weight(self, name: str, *parts: np.ndarray) -> Value:
        """Weights in the format, the rows of ``parts`` below one another."""
        if len(parts) == 1:
            return self.parameter(parts[0], Form.STORED, name)
        shape = sum(len(part) for part in parts), parts[0].shape[1]
        return self.shared(tuple(map(id, parts)), name, shape, Form.STORED,
                           lambda: np.concatenate([*map(self._contents, parts)]), parts)

    def together(self, name: str, *parts: np.ndarray) -> View:
        """``weight`` of ``parts``; whoever asks for one of them as ``matrix`` from now on gets its
        rows of that."""
        joined, row = self.weight(name, *parts).whole, 0
        for part in parts:
            self._parts[id(part)] = joined.row_block(row, len(part))
            row += len(part)
        return joined

    def matrix(self, name: str, values: np.ndarray) -> View:
        """Weights in the format, alone or with those that they are ``together`` with."""
        found = self._parts.get(id(values))
        return self.weight(name, values).whole if found is None else found

    def bias(self, name: str, *parts: np.ndarray | None) -> Value | None:
        """Biases in BF16, side by side; ``None`` where there are none."""
        given = [part for part in parts if part is not None]
        if not given:
            return None
        if len(given) != len(parts):
            raise ValueError(f"{name} must be given for all of query, key and value or for none; "
                             "zeros may stand for a missing one")
        return self.shared(tuple(map(id, parts)), name, (1, sum(map(len, given))), Form.WIDE,
                           lambda: np.concatenate(given), parts)

    def declare(self, value: Value) -> Value:
        """One made elsewhere: by another program of the same memory, say."""
        self._values.append(value)
        self._here.add(value)
        return value

    # Ops

    def gemm(self, products: Sequence[Product], out: Value | View, lane_op: LaneOp | None = None,
             *, a_transposed: bool = False, b_transposed: bool = True,
             of: Sequence[Linear] = ()) -> None:
        """Products side by side in ``out``, each through ``lane_op``. ``of``: the linear layers
        that they are, or the queries' of an attention."""
        places = tuple((self._places.get(id(linear.weight), ""), len(linear.weight))
                       for linear in of)
        self._ops.append(Gemm(_view(out), tuple(products), a_transposed=a_transposed,
                              b_transposed=b_transposed, of=places, then=_then(lane_op)))

    def linear(self, x: View, linear: Linear, out: Value | View, name: str) -> None:
        """out = x Wᵀ + b."""
        weight = self.matrix(f"{name} weight", linear.weight)
        self.product(x, weight, self.bias(f"{name} bias", linear.bias), out, name, [linear])

    def product(self, x: View, weight: Value | View, bias: Value | None, out: Value | View,
                name: str, of: Sequence[Linear] = ()) -> None:
        """out = x · weightᵀ + bias; ``of`` as for ``gemm``."""
        out = _view(out)
        plain = out if bias is None else self.value(f"{name} without bias", *out.shape).whole
        self.gemm([Product(x, _view(weight), plain)], plain, of=of)
        if bias is not None:
            self.vector(plain, Add((bias.whole,)), out)

    def vector(self, x: View, lane_op: LaneOp | None, out: Value | View, *, transposed: bool = False
               ) -> None:
        """out = what ``lane_op`` makes of x, or x."""
        self._ops.append(Vector(_view(out), x, transposed, then=_then(lane_op)))

    def gather(self, table: View, indices: Sequence[Value | View], out: Value | View,
               lane_op: LaneOp | None = None) -> None:
        """Rows of ``table`` by number, through ``lane_op``."""
        self._ops.append(Gather(_view(out), table, tuple(map(_view, indices)),
                                then=_then(lane_op)))

    def output(self, value: Value, *uses: Use) -> None:
        """``value`` is read beyond this list."""
        self._ops.append(Output(value.whole, uses))

    def add(self, x: View, y: Sequence[View | None], out: Value | View) -> None:
        """out = x + y; ``y``: one view, or one per block of rows."""
        self.vector(x, Add(tuple(y)), out)

    def add_residual(self, x: View, y: View, out: Value | View) -> None:
        """out = x + y, the two ends of a residual connection."""
        self.vector(x, AddResidual((y,)), out)

    def multiply(self, x: View, y: View, out: Value | View) -> None:
        """out = x ⊙ y."""
        self.vector(x, Multiply((y,)), out)

    def activate(self, x: View, activation: Activation, out: Value | View) -> None:
        """out = activation(x)."""
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, "
                             f"not {activation!r}")
        self.vector(x, Apply(activation), out)

    def norm(self, x: View, norm: Norm, out: Value | View, name: str) -> None:
        """out = LayerNorm or RMSNorm of each row of x, or its gain and shift alone."""
        gain = self.parameter(norm.gain, Form.STORED, f"{name} gain").whole
        shift = None
        if norm.shift is not None:
            shift = self.parameter(norm.shift, Form.WIDE, f"{name} shift").whole
        self.vector(x, Normalise(gain, shift, norm.eps, norm.affine, norm.kind == "l1",
                                 norm.centred_twice), out)

    def cap(self, x: View, cap: float, out: Value | View, name: str, scale: float = 1.0) -> None:
        """out = cap · tanh(``scale`` · x / cap)."""
        inner, bent = (self.value(f"{name} {part}", *x.shape) for part in ("over cap", "bent"))
        self.vector(x, Factor(scale / cap), inner)
        self.activate(inner.whole, "tanh", bent)
        self.vector(bent.whole, Factor(cap), out)


def _then(lane_op: LaneOp | None) -> tuple[LaneOp, ...]:
    return () if lane_op is None else (lane_op,)


def _view(target: Value | View) -> View:
    return target.whole if isinstance(target, Value) else target
