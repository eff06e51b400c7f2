"""A transformer as one program in one memory image: ``lower``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Attention, Block, Polynomial, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.scales import Scales, modules
from compiler.lowering.across import Source
from compiler.lowering.attention import CacheRows
from compiler.lowering.capacity import check_capacity, check_steps
from compiler.lowering.emit import emit
from compiler.lowering.ends import trace_embedding, trace_final
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.layer import layer_uses, trace_layer
from compiler.lowering.ops import OpList
from compiler.lowering.place import Tell, least_bytes, place, silent
from compiler.lowering.rotary import halves_first
from compiler.lowering.scaling import Scaling
from compiler.lowering.source import trace_source
from compiler.lowering.tracer import Tracer
from compiler.lowering.turns import take_turns
from compiler.lowering.values import Form, Life
from compiler.program.builder import ProgramBuilder
from compiler.program.image import ProgramImage
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig

__all__ = ["check_model", "layer_range", "lower", "make_caches", "make_steps", "prepared",
           "prepared_blocks",
           "trace", "trace_step"]


def check_model(model: Transformer, layers: range) -> None:
    """``ValueError`` in one line for what no program can compute yet, with what comes nearest."""
    causal = set()
    for index in layers:
        attention = model.blocks[index].attention
        causal.add(attention.causal)
        if attention.heads % attention.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, "
                             f"not {attention.heads} and {attention.kv_heads}")
        if (attention.query_norm is None) != (attention.key_norm is None):
            raise ValueError(f"layers of {model.name} must have norms of queries and keys or of "
                             "neither")
        if attention.kernel is not None:
            _check_kernel(model, attention, attention.kernel)
    if len(causal) > 1:
        raise ValueError(f"layers of {model.name} must be causal all or none")
    if model.pooling.startswith("mean") and True in causal:
        raise ValueError("mean pooling takes a model that is not causal; a causal one gives its "
                         "last position (pooling none or last)")


def _check_kernel(model: Transformer, attention: Attention, kernel: Polynomial) -> None:
    if len(kernel.bias) != attention.heads:
        raise ValueError(f"polynomial attention of {model.name} must have a bias and a delta for "
                         f"each of {attention.heads} heads, not {len(kernel.bias)}")
    if attention.cap is not None or attention.position_bias is not None:
        raise ValueError(f"polynomial attention of {model.name} must be without a cap and without "
                         "a bias for the distance of positions")


def layer_range(model: Transformer, layers: range | slice | None) -> range:
    """The layers that are lowered, a slice's end being the model's where it is open; ``None``: all.
    ``ValueError`` where the model has not got them."""
    count = len(model.blocks)
    if not count:
        raise ValueError(f"{model.name} must have at least one layer")
    if layers is None:
        return range(count)
    if isinstance(layers, slice):
        stop = count if layers.stop is None else layers.stop
        layers = range(layers.start or 0, stop, layers.step or 1)
    if layers.step != 1 or not 0 <= layers.start < layers.stop <= count:
        raise ValueError(f"layers must be A:B with 0 <= A < B <= {count}, "
                         f"not {layers.start}:{layers.stop}")
    return layers


def make_steps(model: Transformer, inputs: Inputs, steps: Sequence[int] | None) -> list[Step]:
    """The passes over all layers: ``steps`` positions each, which together are the sequence."""
    if steps is None or len(steps) == 1:
        if steps is not None and steps[0] != inputs.length:
            raise ValueError(f"steps must add up to {inputs.length}, not {sum(steps)}")
        rate = model.embedding.rate if inputs.kind == "patches" else 1
        return [Step("", inputs.sequences, inputs.length // rate, 0, inputs.valid)]
    if not model.blocks[0].attention.causal:
        raise ValueError(f"several steps take a causal model, which {model.name} is not")
    if inputs.sequences != 1:
        raise ValueError(f"several steps take one sequence, not {inputs.sequences}")
    if min(steps) < 1 or sum(steps) != inputs.length:
        raise ValueError(f"steps must be at least 1 each and add up to {inputs.length}, "
                         f"not {list(steps)}")
    starts = np.cumsum([0, *steps[:-1]])
    return [Step(f"step {index} ", 1, length, int(start), inputs.valid)
            for index, (start, length) in enumerate(zip(starts, steps, strict=True))]


def lower(config: AcceleratorConfig, model: Transformer, inputs: Inputs, *,
          level: Fusion = Fusion.RESIDUAL, layers: range | None = None,
          steps: Sequence[int] | None = None, keep: bool = False, seed: int | None = 0,
          base: int = 0, scales: str | Scales | None = None) -> LoweredProgram:
    """The program that runs ``model`` on ``inputs`` from its embedding to its head.

    ``layers``: only these, without head unless the last is among them; from another than the
    first one they take ``states``. ``steps``: positions that pass through all layers together;
    each later step reads the keys and values that the steps before it have left (prefill, then
    decode: ``(31, 1)``). ``keep``: every tensor is a result. ``scales``: of operands of products
    (``compiler.lowering.scaling``), the build's own unless given. Bytes without content are random
    from ``seed``. Whatever cannot be lowered is a ``ValueError`` in one line.

    Results: ``embedding E``, ``layer 0 E`` …, ``final norm E``, ``pooled E``, ``head bf16``, E the
    encoding; prefixed by ``step 1`` … where there are steps.
    """
    scaled = Scaling(scales, config, level)
    listed = scaled(trace(model, inputs, layers, steps))
    builder = ProgramBuilder(config, base)
    fused = take_turns(fuse(listed, config, level), config)
    if seed is not None:  # else nobody reads the weights, whose pages take no memory
        check_capacity(least_bytes(fused, builder), None)
    places = place(fused, builder, keep)
    emitted = emit(fused, places, builder)
    image = ProgramImage.of(builder, tuple(places.results.values()), seed=seed)
    return LoweredProgram(image, places.results, emitted.macs, emitted.written)


def trace(model: Transformer, inputs: Inputs, layers: range | None = None,
          steps: Sequence[int] | None = None) -> OpList:
    """The ops of ``model`` on ``inputs``, one thing each, for no format or build; as ``lower``."""
    layers = layer_range(model, layers)
    check_model(model, layers)
    inputs.check(model)
    if layers.start and inputs.kind != "states":
        raise ValueError(f"layers from {layers.start} on take states, not {inputs.kind}")
    blocks, passes = prepared_blocks(model, layers), make_steps(model, inputs, steps)
    check_steps(passes, max(block.attention.heads for block in blocks.values()))
    tracer = Tracer(places=modules(model, blocks))
    caches = make_caches(tracer, blocks, inputs.sequences * inputs.length)
    sources = trace_source(tracer, model, inputs, blocks)
    for step in passes:
        trace_step(tracer, model, inputs, blocks, caches, step, sources)
    return tracer.listed()


def prepared_blocks(model: Transformer, layers: range) -> dict[int, Block]:
    """The ``layers`` as they are traced: with rotary pairs in halves."""
    return {index: prepared(model.blocks[index]) for index in layers}


def prepared(block: Block) -> Block:
    if block.attention.rotary is None:
        return block
    return replace(block, attention=halves_first(block.attention))


def trace_step(tracer: Tracer, model: Transformer, inputs: Inputs, blocks: Mapping[int, Block],
               caches: Mapping[int, CacheRows | None], step: Step,
               sources: Mapping[int, Source] | None = None, tell: Tell = silent) -> None:
    """One pass of the ``blocks`` over the positions of ``step``; where the last layer is among them
    with what follows it. ``sources``: what layers that look across read (``trace_source``).
    ``tell`` hears how far it is."""
    x = trace_embedding(tracer, model, inputs, step, f"{step.label}embedding")
    for count, (index, block) in enumerate(blocks.items(), 1):
        name = f"{step.label}layer {index}"
        x = trace_layer(tracer, block, x, caches[index], step, name,
                        source=(sources or {}).get(index))
        tell(count / len(blocks), name)
    if len(model.blocks) - 1 in blocks:
        trace_final(tracer, model, x, step)
    else:
        tracer.output(x, *layer_uses(block))


def make_caches(tracer: Tracer, blocks: Mapping[int, Block], rows: int
                ) -> dict[int, CacheRows | None]:
    """Memory for the keys and values of all positions of each block."""
    return {index: _cache(tracer, block.attention, rows, index) for index, block in blocks.items()}


def _cache(tracer: Tracer, attention: Attention, rows: int, index: int) -> CacheRows | None:
    """``None`` where one GEMM makes keys and values with the queries."""
    if attention.rotary is None and attention.query_norm is None and not attention.causal:
        return None
    columns = len(attention.key.weight)
    return CacheRows(*(tracer.value(f"layer {index} {name}", rows, columns, Life.STATE,
                                forms=(Form.STORED,)) for name in ("keys", "values")))
