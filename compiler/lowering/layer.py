"""One layer as commands: attention, feed-forward, their norms and residual additions."""

from dataclasses import replace

from compiler.checkpoints.description import Block, FeedForward
from compiler.checkpoints.inputs import Step
from compiler.lowering.attention import Cache, attend
from compiler.lowering.emitter import STORED, WIDE, Emitter, Stream
from compiler.lowering.fusion import Fusion
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Operand

__all__ = ["emit_layer", "layer_needs"]


def layer_needs(low: Emitter, block: Block) -> frozenset[str]:
    """The forms in which a layer reads its input, and its feed-forward the attention's result."""
    first = low.norm_form() if block.pre_norm else STORED
    return frozenset({first, low.residual_form()})


def emit_layer(low: Emitter, block: Block, x: Stream, cache: Cache | None, step: Step,
               label: str, needs: frozenset[str]) -> Stream:
    """The layer's result, in the forms ``needs``, named ``label``."""
    inner = f"{label} "
    own = layer_needs(low, block)
    operand = _before(low, block, block.attention_norm, x, f"{inner}attention norm")
    heads = attend(low, block.attention, operand, cache, step, inner)
    if block.pre_norm:
        low.give(operand)
    middle = _after(low, block, block.attention_norm, heads, block.attention.output, x,
                    f"{inner}attention", own)
    low.give(heads)
    operand = _before(low, block, block.feed_forward_norm, middle, f"{inner}feed-forward norm")
    hidden = _expand(low, block.feed_forward, operand, inner)
    if block.pre_norm:
        low.give(operand)
    out = _after(low, block, block.feed_forward_norm, hidden, block.feed_forward.down, middle,
                 f"{inner}feed-forward", needs, label)
    low.give(hidden, *middle.tensors)
    return out


def _before(low: Emitter, block: Block, norm, x: Stream, name: str) -> Tensor:
    """The operand of the GEMMs: of pre-norm layers the norm of ``x``."""
    if not block.pre_norm:
        return x.form(STORED)
    out = low.take(name, *x.tensors[0].shape)
    low.norm(x.form(low.norm_form()), norm, out, name)
    return out


def _after(low: Emitter, block: Block, norm, x: Tensor, linear, before: Stream, name: str,
           needs: frozenset[str], result: str | None = None) -> Stream:
    """The residual sum, of post-norm layers its norm."""
    lasting = result is not None
    if block.pre_norm:
        return low.residual(x, linear, before, f"{name} output", result or f"{name} sum", needs,
                            result=lasting)
    total = low.residual(x, linear, before, f"{name} output", f"{name} sum",
                         frozenset({low.norm_form()}))
    out = low.produce(result or f"{name} norm", *total.tensors[0].shape, needs,
                      lambda out: low.norm(total.form(low.norm_form()), norm, out, f"{name} norm"),
                      result=lasting)
    low.give(*total.tensors)
    return out


def _expand(low: Emitter, ffn: FeedForward, x: Tensor, label: str) -> Tensor:
    """f(up x), or f(gate x) ⊙ up x."""
    rows, columns = x.rows, len(ffn.up.weight)
    hidden = low.take(f"{label}hidden", rows, columns)
    activated = low.activate(ffn.activation)
    fused = low.level.fuses(Fusion.ACTIVATION)
    if ffn.gate is None:
        if fused:
            low.linear(x, ffn.up, hidden, f"{label}up", activated)
        else:
            plain = low.take(f"{label}up", rows, columns)
            low.linear(x, ffn.up, plain, f"{label}up")
            low.builder.vector(plain, hidden, activated)
            low.give(plain)
        return hidden
    up = low.take(f"{label}up", rows, columns, WIDE)
    low.linear(x, ffn.up, up, f"{label}up")
    multiply = Instruction(scale=Operand.Y)
    if activated.relu:
        raise ValueError("a gated feed-forward takes gelu, gelu_sigmoid or silu, not relu")
    if fused:
        low.linear_with(x, ffn.gate, up, hidden, f"{label}gate", multiply, activated.function)
    else:
        plain = low.take(f"{label}gate", rows, columns)
        low.linear(x, ffn.gate, plain, f"{label}gate")
        low.builder.vector(plain, hidden, Epilogue(bias=up, instructions=(replace(
            multiply, function=activated.function, destination=Destination.MEMORY),)))
        low.give(plain)
    low.give(up)
    return hidden
