"""Decoding as programs of one memory: one for a part of the prompt, one for a position.

Keys and values of all positions are tensors that stay. A program is the same for every position
but for fields that are linear in it (``compiler.program.template``): the host writes these, and the
ids, before each start. Rows of rotary tables and of the causal mask are read where the position has
them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Patches, Tokens, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.scales import Scales, modules
from compiler.lowering.across import Source, make_rows
from compiler.lowering.attention import CacheRows
from compiler.lowering.capacity import check_capacity
from compiler.lowering.emit import emit
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import (
    check_model,
    layer_range,
    make_caches,
    prepared,
    trace_step,
)
from compiler.lowering.ops import OpList
from compiler.lowering.place import Places, Tell, least_bytes, place, place_within, silent
from compiler.lowering.scaling import Scaling
from compiler.lowering.source import source_step, trace_source
from compiler.lowering.streaming import Streamed
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Life
from compiler.program.builder import ProgramBuilder
from compiler.program.decoding import Decoding, Encoding, Pass
from compiler.program.image import ProgramImage
from compiler.program.template import Fields, Template, fit
from compiler.program.tensor import Tensor
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_columns

__all__ = ["check_decoding", "lower_decoding"]


def lower_decoding(config: AcceleratorConfig, model: Transformer, prompt: int, new: int, *,
                   chunk: int = 32, level: Fusion = Fusion.RESIDUAL, base: int = 0,
                   seed: int | None = None, source: int | None = None, tell: Tell = silent,
                   sequences: int = 1, scales: str | Scales | None = None) -> Decoding:
    """Programs for a prompt of at most ``prompt`` tokens, ``chunk`` at a time, and for ``new`` more
    one by one. The end of a prompt that fills no chunk is padded: what that leaves in the cache is
    written over before it is read. ``source``: how many tokens or patches the encoder reads, where
    there is one. ``tell`` hears how far the weights are. ``sequences``: so many side by side, of
    any lengths, which end at one position: weights are read once for all. ``scales``: as for
    ``lower``. ``ValueError`` in one line for what cannot be lowered."""
    check_decoding(model)
    if sequences > 1:
        _check_beside(model)
    if (source is None) != (model.encoder is None):
        raise ValueError(f"source must be {'left out' if model.encoder is None else 'given'} for "
                         f"{model.name}")
    for name, value in (("prompt", prompt), ("new", new), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1 token, not {value}")
    chunk = min(chunk, prompt)
    padded = -(-prompt // chunk) * chunk
    # Beside others a prompt's parts may begin anywhere before the position where all end.
    room = max(padded if sequences == 1 else prompt - 1 + padded, prompt + new)
    lowering = _Lowering(config, model, level, room, base, source, tell, sequences,
                         Scaling(scales, config, level))
    encoding = lowering.add_encoder()
    kinds = [(chunk, past) for past in _parts(range(padded - chunk + 1), chunk, config)]
    if sequences > 1:
        beside = list(_parts(range(1, max(prompt + new - 1, 2)), 1, config))
        passes = [lowering.add(length, past, False, prompt) for length, past in kinds]
        passes += [lowering.add_beside(past, index == len(beside) - 1)
                   for index, past in enumerate(beside)]
        return Decoding(lowering.image(seed), tuple(passes), room, None, sequences, lowering.masks)
    if chunk > 1 and new > 1:
        kinds += [(1, past) for past in _parts(range(1, prompt + new - 1), 1, config)]
    elif new > 1:
        kinds = [(1, past) for past in _parts(range(prompt + new - 1), 1, config)]
    passes = [lowering.add(length, past, index == len(kinds) - 1)
              for index, (length, past) in enumerate(kinds)]
    return Decoding(lowering.image(seed), tuple(passes), room, encoding)


def check_decoding(model: Transformer) -> None:
    """``ValueError`` where ``model`` generates no text."""
    check_model(model, layer_range(model, None))
    causal = model.blocks[0].attention.causal and isinstance(model.embedding, Tokens)
    if not causal or model.head is None or model.pooling != "none":
        raise ValueError(f"only a causal model with a head over its vocabulary generates text, "
                         f"which {model.name} is not")


def _check_beside(model: Transformer) -> None:
    """``ValueError`` where sequences cannot be moved to end at one position."""
    attentions = [block.attention for block in model.blocks]
    if model.embedding.positions is not None or model.encoder is not None or any(
            attention.window is not None or attention.position_bias is not None
            or attention.kernel is not None for attention in attentions):
        raise ValueError("sequences side by side take a model whose positions are told by rotation "
                         "alone, with softmax, without windows and without an encoder, which "
                         f"{model.name} is not: one after the other it takes any")


def _parts(past: range, length: int, config: AcceleratorConfig) -> Iterator[range]:
    """``past`` cut where a row of scores no longer fits an accumulation bank, which takes other
    commands."""
    cut = min(max(row_columns(config) - length + 1, past.start), past.stop)
    yield from (part for part in (range(past.start, cut), range(cut, past.stop)) if part)


class _Lowering:
    """One program after the other in one memory."""

    def __init__(self, config: AcceleratorConfig, model: Transformer, level: Fusion, room: int,
                 base: int, source: int | None, tell: Tell, sequences: int, scaled: Scaling
                 ) -> None:
        self.config, self.level, self.room, self._tell = config, level, room, tell
        self.sequences, self.scaled = sequences, scaled
        self.masks: Tensor | None = None
        self._streamed = Streamed(model.blocks, prepared)
        self.model = replace(model, blocks=self._streamed)
        self.blocks = dict(enumerate(self._streamed))
        self.builder = ProgramBuilder(config, base)
        self.places = Places()
        self._named = modules(self.model, self.blocks)
        self.tracer = Tracer(places=self._named)
        self.caches = make_caches(self.tracer, self.blocks, sequences * room)
        self.results: list[Tensor] = []
        self.given = _zeros(model, source)
        self.sources = self._make_sources()

    def _make_sources(self) -> dict[int, Source]:
        """Memory for what the layers look across at."""
        inputs = Inputs("ids", np.zeros((1, 1), np.int64), source=self.given)
        step = source_step(self.model, inputs)
        if step is None:
            return {}
        return {index: Source(make_rows(self.tracer, block.across, step, f"layer {index} across ",
                                        Life.STATE), step)
                for index, block in self.blocks.items() if block.across is not None}

    def _declared(self, tracer: Tracer) -> dict[int, Source]:
        """The same memory in another program."""
        return {index: Source(CacheRows(tracer.declare(own.rows.keys),
                                        tracer.declare(own.rows.values)), own.step)
                for index, own in self.sources.items()}

    def add_encoder(self) -> Encoding | None:
        """The program before every sequence, where the model has an encoder."""
        if self.given is None or self.model.encoder is None:
            return None
        tracer = Tracer(after=self.tracer, contents=self._streamed.contents,
                        places=self._named)
        rows = {index: own.rows for index, own in self._declared(tracer).items()}
        self.given.check(self.model.encoder)
        inputs = Inputs("ids", np.zeros((1, 1), np.int64), source=self.given)
        trace_source(tracer, self.model, inputs, self.blocks, rows)
        self.tracer = tracer
        fused = fuse(self.scaled(tracer.listed()), self.config, self.level)
        self.places = place(fused, self.builder, after=self.places, tell=self._tell)
        emitted = emit(fused, self.places, self.builder)
        address, commands = self.builder.address, tuple(self.builder.commands)
        _, self.builder = self.builder.followed("program of the encoder")
        found = _by_name(fused, self.places)
        return Encoding(self.given.length, address, commands, found[self.given.kind],
                        emitted.macs)

    def image(self, seed: int | None) -> ProgramImage:
        return ProgramImage.of(self.builder, tuple(self.results), seed=seed)

    def add(self, length: int, past: range, last: bool, prompt: int = 0) -> Pass:
        """The program of ``length`` positions; the ``last`` one is the image's own. ``prompt``: of
        sequences side by side the most tokens of a prompt."""
        variables = {"past": past, "last": range(length)}
        if self.sequences > 1:
            variables |= {"sequence": range(self.sequences), "pad": range(prompt)}
        return self._added(length, variables, last, lambda **values: self._fused(length, **values))

    def add_beside(self, past: range, last: bool) -> Pass:
        """The program of one position of every sequence."""
        def fused(past: int, last: int) -> OpList:
            return self._traced(Step("", self.sequences, 1, past, None, room=self.room, last=last,
                                     beside=True))

        own = self._added(1, {"past": past, "last": range(1)}, last, fused)
        return replace(own, sequences=self.sequences)

    def _added(self, length: int, variables: dict[str, range], last: bool,
               make: Callable[..., OpList]) -> Pass:
        """The program that ``make`` gives the ops of, by the values of its variables."""
        most = {name: own[-1] for name, own in variables.items()}
        widest = make(**most)
        check_capacity(least_bytes(widest, self.builder), None)
        places = place(widest, self.builder, after=self.places, tell=self._tell)
        self.places = places
        macs = [0]

        def commands(**values: int) -> tuple[Fields, ...]:
            fused = widest if values == most else make(**values)
            scratch = ProgramBuilder(self.config, self.builder.base)
            scratch.start_after(self.builder)
            emitted = emit(fused, place_within(fused, widest, places), scratch)
            macs.append(emitted.macs)
            return scratch.commands

        told, varying = fit(variables, commands)
        past = variables["past"]
        name = f"program of {length} positions after {past.start} to {past.stop - 1}"
        macs.append(emit(widest, places, self.builder).macs)
        address = self.builder.address
        if not last:
            _, self.builder = self.builder.followed(name)
        found = _by_name(widest, places)
        self.results.append(found["head"])
        self.masks = found.get("masks", self.masks)
        return Pass(length, Template(address, variables, told, varying), found["ids"],
                    found["head"], macs[-1])

    def _fused(self, length: int, past: int, last: int, sequence: int = 0, pad: int = 0) -> OpList:
        """The ops of ``length`` positions after ``past`` of one sequence."""
        return self._traced(Step("", 1, length, past, None, room=self.room, last=last,
                                 start=sequence * self.room + pad, shift=pad))

    def _traced(self, step: Step) -> OpList:
        """The ops of a step."""
        tracer = Tracer(after=self.tracer, contents=self._streamed.contents,
                        places=self._named)
        caches: dict[int, CacheRows | None] = {}
        for index, cache in self.caches.items():
            assert cache is not None, "a causal layer has a cache"
            caches[index] = CacheRows(tracer.declare(cache.keys), tracer.declare(cache.values))
        inputs = Inputs("ids", np.zeros((step.sequences, step.total), np.int64), source=self.given)
        inputs.check(self.model)
        trace_step(tracer, self.model, inputs, self.blocks, caches, step, self._declared(tracer))
        self.tracer = tracer
        return fuse(self.scaled(tracer.listed()), self.config, self.level)


def _zeros(model: Transformer, source: int | None) -> Inputs | None:
    """What stands for the encoder's input while programs are made."""
    if source is None or model.encoder is None:
        return None
    embedding = model.encoder.embedding
    if isinstance(embedding, Patches):
        items = embedding.projection.weight.shape[1]
        return Inputs("patches", np.zeros((1, source, items), np.float32))
    return Inputs("ids", np.zeros((1, source), np.int64))


def _by_name(fused: OpList, places: Places) -> Mapping[str, Tensor]:
    """The tensor of each value's first form."""
    return {value.name: places[value, fused.forms[value][0]] for value in fused.values}
