"""Programs of one model in one memory, in which the weights lie once: ``Programs``."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.scales import Scales, modules
from compiler.lowering.capacity import RUN, check_capacity, check_steps
from compiler.lowering.emit import emit
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import (
    check_model,
    layer_range,
    make_caches,
    make_steps,
    prepared,
    trace_step,
)
from compiler.lowering.ops import OpList
from compiler.lowering.place import Places, Tell, least_bytes, part_of, place, placed, silent
from compiler.lowering.scaling import Scaling
from compiler.lowering.source import trace_source
from compiler.lowering.streaming import Streamed
from compiler.lowering.tracer import Tracer
from compiler.lowering.turns import take_turns
from compiler.program.builder import ProgramBuilder
from compiler.program.image import ProgramImage
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig

__all__ = ["Programs"]

# Shares of a program's making, until it is traced, its weights and its other constants are placed.
_TRACED, _WEIGHTS, _PLACED = 0.2, 0.7, 0.8


class Programs:
    """Programs of ``model`` for inputs of any shape. The weights are encoded and placed by the
    first one; every other one has them at the same addresses, before all that is its own. ``tell``
    hears how far that is. ``scales``: as for ``lower``."""

    def __init__(self, config: AcceleratorConfig, model: Transformer, *,
                 level: Fusion = Fusion.RESIDUAL, layers: range | slice | None = None,
                 base: int = 0, tell: Tell = silent,
                 scales: str | Scales | None = None) -> None:
        self._scaled = Scaling(scales, config, level)
        self.config, self.level, self.base, self._tell = config, level, base, tell
        self.layers = layer_range(model, layers)
        self._streamed = Streamed(model.blocks, prepared)
        self.model = replace(model, blocks=self._streamed)
        check_model(self.model, self.layers)
        self.blocks = {index: self._streamed[index] for index in self.layers}
        self._weights = ProgramBuilder(config, base)
        self._places = Places()
        self._tracer: Tracer | None = None

    @property
    def scales(self) -> str | Scales:
        """Of operands of products."""
        return self._scaled.scales

    @property
    def weights(self) -> int:
        """Bytes from ``base`` on that all programs have in common."""
        return self._weights.size

    def lower(self, inputs: Inputs, steps: Sequence[int] | None = None, *,
              seed: int | None = None, memory: int | None = None, every: bool = False,
              begun: Callable[[], object] = bool) -> LoweredProgram:
        """As ``compiler.lowering.lower.lower``, whose results have these names. ``memory``: the
        most bytes that the image may take; ``ValueError`` before any larger array is made.
        ``every``: of a causal model norm and head of all positions, not of the last alone.
        ``begun``: called when only encoding and emitting are left."""
        inputs.check(self.model)
        if self.layers.start and inputs.kind != "states":
            raise ValueError(f"layers from {self.layers.start} on take states, not {inputs.kind}")
        passes = [replace(step, every=every) for step in make_steps(self.model, inputs, steps)]
        heads = max(block.attention.heads for block in self.blocks.values())
        check_steps(passes, heads, memory, RUN)
        tracer = Tracer(after=self._tracer, contents=self._streamed.contents,
                        places=modules(self.model, self.blocks))
        caches = make_caches(tracer, self.blocks, inputs.sequences * inputs.length)
        sources = trace_source(tracer, self.model, inputs, self.blocks)
        for index, step in enumerate(passes):
            own = part_of(self._tell, *(_TRACED * number / len(passes)
                                         for number in (index, index + 1)))
            trace_step(tracer, self.model, inputs, self.blocks, caches, step, sources, own)
        fused = take_turns(fuse(self._scaled(tracer.listed()), self.config, self.level),
                           self.config)
        # Before a constant is made: a mask may be larger than all else.
        check_capacity(least_bytes(fused, ProgramBuilder(self.config)), memory)
        begun()
        self._place_weights(tracer, fused)
        self._streamed.close()
        builder = ProgramBuilder(self.config, self.base)
        builder.start_after(self._weights)
        places = place(fused, builder, after=self._places,
                       tell=part_of(self._tell, _WEIGHTS, _PLACED))
        emitted = emit(fused, places, builder, part_of(self._tell, _PLACED, 1))
        check_capacity(builder.image_bytes, memory)
        image = ProgramImage.of(builder, tuple(places.results.values()), seed=seed)
        tracer.forget()
        self._tracer = tracer
        return LoweredProgram(image, places.results, emitted.macs, emitted.written)

    def _place_weights(self, tracer: Tracer, fused: OpList) -> None:
        parameters = set(self._scaled.parameters(tracer.parameters()))
        new = [(value, form) for value in fused.values if value in parameters
               for form in fused.forms[value] if (value, form) not in self._places]
        tell = part_of(self._tell, _TRACED, _WEIGHTS)
        for slot, tensor in zip(new, placed(new, self._weights, tell), strict=True):
            self._places.add(slot, tensor, False)

