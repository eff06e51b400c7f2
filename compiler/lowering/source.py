"""An encoder before the layers that look across at its results: ``trace_source``."""

from collections.abc import Mapping

from compiler.checkpoints.description import Block, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering.across import Source, project_across
from compiler.lowering.attention import CacheRows
from compiler.lowering.ends import trace_embedding
from compiler.lowering.layer import trace_layer
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Life

__all__ = ["source_step", "trace_source"]


def source_step(model: Transformer, inputs: Inputs) -> Step | None:
    """The one pass of the encoder; ``None`` where the model has none."""
    if model.encoder is None or inputs.source is None:
        return None
    source, rate = inputs.source, model.encoder.embedding.rate
    return Step("encoder ", source.sequences, source.length // rate, 0, source.valid)


def trace_source(tracer: Tracer, model: Transformer, inputs: Inputs, blocks: Mapping[int, Block],
                 rows: Mapping[int, CacheRows] | None = None) -> dict[int, Source]:
    """All layers of the encoder, then keys and values of each of ``blocks`` that looks across, into
    ``rows`` if given; empty where there is no encoder. ``ValueError`` for encoders that rotate or
    mask."""
    step = source_step(model, inputs)
    encoder, source = model.encoder, inputs.source
    if step is None or encoder is None or source is None:
        return {}
    for block in encoder.blocks:
        own = block.attention
        if own.rotary is not None or own.causal or own.query_norm is not None:
            raise ValueError(f"the encoder of {model.name} must attend without rotary embedding, "
                             "mask or norms of queries")
    x = trace_embedding(tracer, encoder, source, step, "encoder embedding")
    for index, block in enumerate(encoder.blocks):
        x = trace_layer(tracer, block, x, None, step, f"encoder layer {index}")
    if encoder.final_norm is not None:
        out = tracer.value("encoder final norm", x.rows, x.columns, Life.RESULT, labelled=True)
        tracer.norm(x.whole, encoder.final_norm, out, "encoder final norm")
        x = out
    return {index: project_across(tracer, block.across, x, step, f"layer {index} across ",
                                  (rows or {}).get(index))
            for index, block in blocks.items() if block.across is not None}
