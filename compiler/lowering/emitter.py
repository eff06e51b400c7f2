"""Commands of one transformer: tensors by their form, linear layers, norms, residual additions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.description import Activation, Linear, Norm
from compiler.lowering import lists
from compiler.lowering.fusion import Fusion
from compiler.lowering.memory import Arena
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import STORE, Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING
from hdl.spec.timing import row_columns, row_fits
from sim.model import codec

__all__ = ["FUNCTIONS", "STORED", "WIDE", "Emitter", "Stream"]

STORED = "stored"
WIDE = "wide"
FUNCTIONS: dict[Activation, Function] = {
    "gelu": Function.GELU, "gelu_sigmoid": Function.GELU_SIGMOID, "silu": Function.SILU}


@dataclass(frozen=True)
class Stream:
    """One tensor of values in the forms that its readers need: ``stored`` in the format's own
    encoding, ``wide`` in BF16. Both are the same tensor where the format is BF16."""

    stored: Tensor | None
    wide: Tensor | None

    def form(self, form: str) -> Tensor:
        tensor = self.stored if form == STORED else self.wide
        if tensor is None:
            raise ValueError(f"a stream must have been produced in the form {form}")
        return tensor

    @property
    def tensors(self) -> list[Tensor]:
        """Each tensor once."""
        found = [tensor for tensor in (self.wide, self.stored) if tensor is not None]
        return found[:1] if len(found) == 2 and found[0] is found[1] else found


class Emitter:
    """A builder with what all layers share.

    ``keep``: every tensor gets memory of its own and becomes a result. ``results``: the tensors
    that a run leaves, by name. ``macs``: multiply-accumulates of the GEMMs' shapes so far.
    """

    def __init__(self, config: AcceleratorConfig, level: Fusion, *, keep: bool = False,
                 base: int = 0) -> None:
        self.config = config
        self.level = level
        self.keep = keep
        self.builder = ProgramBuilder(config, base)
        self.arena = Arena(self.builder, reuse=not keep)
        self.results: dict[str, Tensor] = {}
        self.macs = 0
        self._lasting: set[int] = set()
        self._constants: dict[object, tuple[Tensor, object]] = {}

    # Tensors

    def _encoding(self, form: str) -> str | None:
        return "bf16" if form == WIDE else None

    def parameter(self, values: np.ndarray, form: str, name: str) -> Tensor:
        """Constant ``values``, placed once however often the same array is asked for."""
        return self.derived((id(values), form), lambda: values, form, name, values)

    def derived(self, key: object, make: Callable[[], np.ndarray], form: str, name: str,
                owner: object = None) -> Tensor:
        """The constant that ``make`` gives, placed once for each ``key``."""
        if key not in self._constants:
            encoding = self._encoding(form)
            codes = codec.encode(self.builder.encoding(encoding), np.atleast_2d(make()))
            tensor = self.builder.codes(codes, encoding, name=name)
            self._constants[key] = tensor, owner  # the owner's id must stay taken
        return self._constants[key][0]

    def weight(self, name: str, *parts: np.ndarray) -> Tensor:
        """Weights in the format's encoding, the rows of ``parts`` below one another."""
        if len(parts) == 1:
            return self.parameter(parts[0], STORED, name)
        key = tuple(map(id, parts))
        return self.derived(key, lambda: np.concatenate(parts), STORED, name, parts)

    def bias(self, name: str, *parts: np.ndarray | None) -> Tensor | None:
        """Biases in BF16, side by side; ``None`` where there are none."""
        given = [part for part in parts if part is not None]
        if not given:
            return None
        if len(given) != len(parts):
            raise ValueError(f"{name} must be given for all of query, key and value or for none; "
                             "zeros may stand for a missing one")
        return self.derived((tuple(map(id, parts)), WIDE), lambda: np.concatenate(given), WIDE,
                            name, parts)

    def take(self, name: str, rows: int, columns: int, form: str = STORED) -> Tensor:
        """Room for a temporary tensor, a result if everything is kept."""
        tensor = self.arena.take(rows, columns, self._encoding(form), name)
        if self.keep:
            self.results[name] = tensor
        return tensor

    def lasting(self, name: str, rows: int, columns: int, form: str) -> Tensor:
        """Room for a result."""
        tensor = self.builder.empty(rows, columns, self._encoding(form), name=name)
        self._lasting.add(tensor.address)
        self.results[name] = tensor
        return tensor

    def give(self, *tensors: Tensor) -> None:
        """These have been read for the last time; results stay."""
        for tensor in tensors:
            if tensor.address not in self._lasting:
                self.arena.give(tensor)

    def constant_stream(self, values: np.ndarray, name: str) -> Stream:
        """Values that the program finds in memory: BF16, and rounded from that."""
        bf16 = codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, values))
        forms = [WIDE] if self.config.fmt == "bf16" else [WIDE, STORED]
        placed = [self.builder.constant(bf16, self._encoding(form), name=name) for form in forms]
        self._lasting.update(tensor.address for tensor in placed)
        return Stream(placed[-1], placed[0])

    def produce(self, name: str, rows: int, columns: int, needs: frozenset[str],
                emit: Callable[[Tensor], None], *, result: bool = False) -> Stream:
        """The tensor that ``emit`` writes, in the forms ``needs``.

        Where both are needed the command writes BF16 and a copy rounds it to the format. A name
        ends in the tensor's encoding.
        """
        make = self.lasting if result else self.take
        single = self.config.fmt == "bf16" or len(needs) == 1
        form = next(iter(needs)) if len(needs) == 1 else WIDE
        label = f"{name} {self._label(form)}"
        first = make(label, rows, columns, form)
        emit(first)
        if single:
            both = self.config.fmt == "bf16"
            return Stream(first if both or form == STORED else None,
                          first if both or form == WIDE else None)
        second = make(f"{name} {self._label(STORED)}", rows, columns, STORED)
        self.builder.vector(first, second)
        return Stream(second, first)

    def _label(self, form: str) -> str:
        return self.builder.encoding(self._encoding(form)).name

    # Operations

    def gemm(self, a: Tensor, b: Tensor, out: Tensor, epilogue: Epilogue = STORE, *,
             b_transposed: bool = True) -> None:
        """``builder.gemm`` with B stored N×K unless told otherwise; counts the MACs."""
        self.macs += a.rows * a.columns * out.columns
        self.builder.gemm(a, b, out, epilogue, b_transposed=b_transposed)

    def linear(self, x: Tensor, linear: Linear, out: Tensor, name: str,
               epilogue: Epilogue = STORE) -> None:
        """out = x Wᵀ + b, then what the ``epilogue`` says beside."""
        weight = self.weight(f"{name} weight", linear.weight)
        bias = self.bias(f"{name} bias", linear.bias)
        self.gemm(x, weight, out, replace(epilogue, bias=bias))

    def linear_with(self, x: Tensor, linear: Linear, y: Tensor, out: Tensor, name: str,
                    second: Instruction, function: Function = Function.NONE) -> None:
        """out = what one list does with x Wᵀ, the bias and ``y``.

        ``function``: of the instruction that takes the bias; ``second``: the one that takes ``y``
        and stores. They are one where there is no bias. Two keep their rows on chip, so that
        wider results than a bank has room for are cut into blocks of columns.
        """
        weight = self.weight(f"{name} weight", linear.weight)
        bias = self.bias(f"{name} bias", linear.bias)
        store = replace(second, destination=Destination.MEMORY)
        if bias is None:
            alone = (replace(store, function=function),)
            self.gemm(x, weight, out, Epilogue(bias=y, instructions=alone))
            return
        instructions = (Instruction(add=Operand.Y, function=function,
                                    destination=Destination.BUFFER), replace(store, y=1))
        for start, count in self.on_chip(out.columns):
            self.gemm(x, weight.block(start, 0, count, weight.columns),
                      out.block(0, start, out.rows, count),
                      Epilogue(bias=bias.block(0, start, 1, count),
                               y1=y.block(0, start, y.rows, count), instructions=instructions))

    def on_chip(self, columns: int) -> Iterator[tuple[int, int]]:
        """First column and width of the blocks into which a list that writes its rows back is
        cut: a row must fit a bank."""
        for start in range(0, columns, self.widest()):
            yield start, min(self.widest(), columns - start)

    def widest(self) -> int:
        """The longest row that stays on chip."""
        return row_columns(self.config)

    def add(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        """out = x + y."""
        self.builder.vector(x, out, Epilogue(bias=y))

    def activate(self, activation: Activation) -> Epilogue:
        """``activation`` of what a command gives."""
        if activation == "relu":
            return Epilogue(relu=True)
        if activation not in FUNCTIONS:
            raise ValueError(f"activation must be one of {', '.join((*FUNCTIONS, 'relu'))}, "
                             f"not {activation!r}")
        return Epilogue(function=FUNCTIONS[activation])

    def norm(self, x: Tensor, norm: Norm, out: Tensor, name: str) -> None:
        """LayerNorm or RMSNorm of each row."""
        gain = self.parameter(norm.gain, STORED, f"{name} gain")
        if norm.shift is None:
            self.builder.vector(x, out, lists.rms_norm(gain, norm.eps))
            return
        if not row_fits(self.config, x.columns):
            raise ValueError(f"LayerNorm takes rows of at most {self.widest()} items in this "
                             f"build, not {x.columns}; RMSNorm takes any, a larger acc_depth "
                             "longer ones")
        shift = self.parameter(norm.shift, WIDE, f"{name} shift")
        self.builder.vector(x, out, lists.layer_norm(gain, shift, norm.eps))

    def residual(self, x: Tensor, linear: Linear, before: Stream, name: str, sum_name: str,
                 needs: frozenset[str], *, result: bool = False) -> Stream:
        """x Wᵀ + b + what was ``before``, in the forms ``needs``."""
        rows, columns = x.rows, len(linear.weight)
        if self.level.fuses(Fusion.RESIDUAL):
            return self.produce(sum_name, rows, columns, needs, lambda out: self.linear_with(
                x, linear, before.form(WIDE), out, name, Instruction(add=Operand.Y)),
                                result=result)
        part = self.take(name, rows, columns)
        self.linear(x, linear, part, name)
        total = self.produce(sum_name, rows, columns, needs, lambda out: self.add(
            part, before.form(STORED), out), result=result)
        self.give(part)
        return total

    def residual_form(self) -> str:
        """The form of a residual addition's inputs."""
        return WIDE if self.level.fuses(Fusion.RESIDUAL) else STORED

    def norm_form(self) -> str:
        """The form of a norm's input."""
        return WIDE if self.level.fuses(Fusion.NORM) else STORED


def columns_of(tensor: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Blocks of ``widths`` columns side by side."""
    blocks, start = [], 0
    for width in widths:
        blocks.append(tensor.block(0, start, tensor.rows, width))
        start += width
    return blocks
