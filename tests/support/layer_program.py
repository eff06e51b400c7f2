"""The backward pass of a layer as commands, compared with what ``Bits`` has of it.

Pre-norm and post-norm, gated or not, with shared heads and rotary embedding (pairs in halves).
Adapters stand on every matrix. Scales are immediates, as a host would set them.
"""

import math
from functools import partial

import numpy as np

from compiler.lowering import backward_lists as lists
from compiler.lowering import operations
from compiler.lowering.backward import rotary_tables_back
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.training.gradients.bits import Bits
from compiler.training.gradients.block import run_block
from compiler.training.gradients.ends import embed
from compiler.training.gradients.norm import normalise
from compiler.training.gradients.parameters import linears, parameters
from compiler.training.gradients.weights import Adapter, Run, Weights, lora_names
from hdl.spec.commands import Destination, Function, Operand

RANK, BASE, NAME = 4, 0x2_0000_0000, "blocks.0"
STORE: Fields = {"destination": Destination.MEMORY}
KEEP: Fields = {"destination": Destination.BUFFER}


class Recorded(Bits):
    """Keeps what is stored, in order, and each gradient with its scale."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stored_so_far, self.back = [], {}

    def stored(self, x):
        self.stored_so_far.append(super().stored(x))
        return self.stored_so_far[-1]

    def gradient(self, site, g):
        scale = self.scaling.scale(site)
        self.back[site] = super().gradient(site, g), scale
        return self.back[site][0]


class Layer:
    """The first layer of ``model`` on one sequence: what its forward pass keeps, and the gradients
    of a second pass, whose scales follow from the first."""

    def __init__(self, config, backward, model, inputs):
        self.config, self.block = config, model.blocks[0]
        self.n = Recorded(config, backward=backward)
        rng, arrays = np.random.default_rng(5), parameters(model)
        self.parts = list(linears(self.block))
        shapes = {part: arrays[f"{NAME}.{part}.weight"].shape for part in self.parts}
        self.weights = Weights(arrays, self.n, {f"{NAME}.{part}": Adapter(
            rng.normal(0, 0.1, (RANK, shape[1])), rng.normal(0, 0.1, (shape[0], RANK)), 2.0)
            for part, shape in shapes.items()})
        self.x, _ = embed(Run(self.n, self.weights, ()), model.embedding, inputs[None])
        self.rows = len(inputs)
        hidden = None
        if self.block.attention.causal:
            hidden = np.triu(np.ones((self.rows, self.rows), bool), 1)[None, None]
        self.incoming = self.n.lane(rng.normal(0, 1e-3, self.x.shape))
        for _ in range(2):
            self.run = Run(self.n, self.weights, {
                name for part in self.parts for name in lora_names(f"{NAME}.{part}")})
            self.n.stored_so_far.clear()
            _, back = run_block(self.run, NAME, self.block, self.x, hidden)
            (self.first, self.q, self.k, self.v, self.p, self.heads, self.second,
             self.hidden) = self.n.stored_so_far[:8]
            given = self.incoming
            if self.block.pre_norm:
                given = self.n.gradient("in", given)
            self.below = back(given)
            self.n.end_step()
        self._keep()

    def _keep(self):
        """What the backward pass reads besides what is stored in the format."""
        n, ffn = self.n, self.block.feed_forward
        total = n.lane(self.linear("output", self.heads) + self.x)
        middle = total
        if not self.block.pre_norm:
            middle = self.normalised("attention", total)
        self.norm_inputs = {"attention": self.x, "feed_forward": middle}
        if not self.block.pre_norm:
            self.norm_inputs = {"attention": total, "feed_forward": n.lane(
                self.linear("down", self.hidden) + middle)}
        argument = "up" if ffn.gate is None else "gate"
        self.argument = self.linear(argument, self.second)
        self.slope = n.slope(ffn.activation, self.argument)
        self.up = self.linear("up", self.second)

    def normalised(self, part, x):
        return normalise(Run(self.n, self.weights, ()), f"{NAME}.{part}_norm",
                         getattr(self.block, f"{part}_norm"), x, "again")[0]

    def linear(self, part, x):
        y = self.n.product(x, self.matrix(part).T)
        bias = f"{NAME}.{part}.bias"
        return self.n.lane(y + self.weights.wide(bias)) if bias in self.weights else y

    def matrix(self, *parts):
        return np.concatenate([self.weights.stored(f"{NAME}.{part}.weight") for part in parts])

    def gain(self, part):
        return self.weights.stored(f"{NAME}.{part}_norm.gain")[None]

    def scale(self, site):
        return self.n.back[site][1]

    def expected(self, found):
        """What ``Bits`` has for each name of ``found``, as it is stored."""
        for name in found:
            if name in self.run.gradients:
                yield name, self.run.gradients[name]
            elif name == "below":
                yield name, self.below * self.scale(f"{NAME} attention d")
            else:
                values, scale = self.n.back[name]
                yield name, values * scale


class Emitter:
    """The layer's commands; ``found``: gradients by site, those of adapters by name, and ``below``,
    that of the layer's input."""

    def __init__(self, layer, centred):
        self.layer, self.centred = layer, centred
        self.builder = ProgramBuilder(layer.config, BASE)
        self.forward, self.back = (layer.config.format.encodings[i].name for i in (0, -1))
        self.found = {}
        self.written = []  # every tensor that is no constant

    def room(self, rows, columns, encoding=None, name=None):
        self.written.append(self.builder.empty(rows, columns, encoding, name=name))
        return self.written[-1]

    def constant(self, values, encoding=None):
        return self.builder.constant(values.reshape(-1, values.shape[-1]),
                                     encoding or self.forward)

    def new(self, site, rows, columns, encoding=None):
        self.found[site] = self.room(rows, columns, encoding or self.back, site)
        return self.found[site]

    def gemm(self, a, b, site, epilogue, **transposed):
        out = self.new(site, a.rows, b.columns)
        self.builder.gemm(a, b, out, epilogue, **transposed)
        return out

    def all(self):
        if self.layer.block.pre_norm:
            own = self.layer.scale("in")
            d = self.constant(self.layer.n.back["in"][0] * own, self.back)
            self.attention(*self.feed_forward(d, own))
        else:
            site, wide = f"{NAME} feed-forward h", self.constant(self.layer.incoming, "bf16")
            h = self.new(site, *wide.shape)
            self.builder.vector(wide, h, self.by_gamma("feed_forward", self.layer.scale(site)))
            self.attention(*self.feed_forward(*self.norm("feed_forward", h)))
        return self

    def adapters(self, parts, x, gradients, site, own):
        """dA and dB of what reads ``x``, of its outputs' ``gradients`` of scales ``own``."""
        b, scale, rows = self.builder, self.layer.scale(f"{site} U"), self.layer.rows
        inward = self.new(f"{site} U", rows, RANK * len(parts))
        for index, (part, d, factor) in enumerate(zip(parts, gradients, own, strict=True)):
            pair = self.layer.weights.adapter(f"{NAME}.{part}")
            t, u = self.room(rows, RANK), inward.block(0, RANK * index, rows, RANK)
            b.gemm(x, self.constant(pair.a), t, b_transposed=True)
            b.gemm(d, self.constant(pair.b), u, Epilogue(scale / factor))
            for name, left, right, of in (("lora_a", u, x, scale), ("lora_b", d, t, factor)):
                out = self.new(f"{NAME}.{part}.{name}", left.columns, right.columns, "bf16")
                b.gemm(left, right, out, Epilogue(pair.scale / of), a_transposed=True)

    # Norms

    def by_gamma(self, part, factor, residual=None, own=1.0):
        """× γ · factor; with a residual [× own, + residual] before."""
        gamma = self.constant(self.layer.gain(part))
        if residual is None:
            return Epilogue(factor, gamma, instructions=(
                Instruction(multiply=Operand.Y, scale=Operand.IMM0, **STORE),))
        return Epilogue(own, residual, imm1=factor, y1=gamma, instructions=(
            Instruction(multiply=Operand.IMM0, add=Operand.Y, **KEEP),
            Instruction(multiply=Operand.Y, y=1, scale=Operand.IMM1, **STORE)))

    def norm(self, part, h, residual=None, own=1.0):
        """The norm's gradient, plus a residual's of scale ``own``; with its scale."""
        kind = part.replace("_", "-")
        site, before = f"{NAME} {kind} d", self.layer.scale(f"{NAME} {kind} h")
        after = self.layer.scale(site)
        x, norm = self.layer.norm_inputs[part], getattr(self.layer.block, f"{part}_norm")
        emit = lists.rms_norm_backward if norm.shift is None else partial(
            lists.layer_norm_backward, twice=norm.centred_twice)
        epilogue = emit(h, norm.eps, after / before) if residual is None else emit(
            h, norm.eps, own / before, residual, after / own)
        out = self.new(site, self.layer.rows, x.shape[-1])
        self.builder.vector(self.constant(x, "bf16"), out, epilogue)
        return out, after

    def joined(self, part, d, before, weight, residual, own):
        """What follows the gradient ``d`` of scale ``before`` of the branch that ``weight`` opens:
        norm and residual in the order of the layer."""
        site = f"{NAME} {part.replace('_', '-')} h"
        if self.layer.block.pre_norm:
            h = self.gemm(d, weight, site, self.by_gamma(part, self.layer.scale(site) / before))
            return self.norm(part, h, residual, own)
        h = self.gemm(d, weight, site, self.by_gamma(
            part, self.layer.scale(site) / own, residual, own / before))
        return self.norm(part, h)

    # The two branches, from their ends

    def feed_forward(self, d, own):
        layer, scale, site = self.layer, self.layer.scale, f"{NAME} du"
        down, slope = self.constant(layer.matrix("down")), self.constant(layer.slope)
        self.adapters(["down"], self.constant(layer.hidden), [d], f"{NAME}.down", [own])
        parts, before = ["up"], scale(site)
        if layer.block.feed_forward.gate is None:
            inward = self.gemm(d, down, site, Epilogue(before / own, slope, instructions=(
                Instruction(multiply=Operand.IMM0, scale=Operand.Y, **STORE),)))
            gradients = [inward]
        else:
            parts, (inward, gradients) = ["gate", "up"], self.gates(d, own, down, slope)
        self.adapters(parts, self.constant(layer.second), gradients, f"{NAME}.feed_forward",
                      [before] * len(parts))
        return self.joined("feed_forward" if layer.block.pre_norm else "attention", inward, before,
                           self.constant(layer.matrix(*parts)), d, own)

    def gates(self, d, own, down, slope):
        """Of y = f(g) ⊙ u, side by side in one scale: ∂g = (∂y ⊙ f′(g)) ⊙ u, ∂u = f(g) ⊙ ∂y."""
        layer, site = self.layer, f"{NAME} du"
        wide = self.room(layer.rows, down.columns, "bf16")
        self.builder.gemm(d, down, wide, Epilogue(layer.scale(site) / own))
        both = self.new(site, layer.rows, 2 * down.columns)
        first, second = (both.block(0, start, *wide.shape) for start in (0, down.columns))
        self.builder.vector(wide, first, Epilogue(
            bias=slope, y1=self.constant(layer.up, "bf16"), instructions=(
                Instruction(multiply=Operand.Y, **KEEP),
                Instruction(multiply=Operand.Y, y=1, **STORE))))
        self.builder.vector(self.constant(layer.argument, "bf16"), second, Epilogue(
            bias=wide, instructions=(Instruction(
                function=Function.SILU, scale=Operand.Y, **STORE),)))
        return both, [first, second]

    def attention(self, d, own):
        layer, scale, b, rows = self.layer, self.layer.scale, self.builder, self.layer.rows
        do_site, ds_site, site = (f"{NAME} {name}" for name in ("do", "ds", "dqkv"))
        do = self.gemm(d, self.constant(layer.matrix("output")), do_site,
                       Epilogue(scale(do_site) / own))
        self.adapters(["output"], self.constant(layer.heads), [d], f"{NAME}.output", [own])
        heads, kv_heads, size = layer.q.shape[1], layer.k.shape[1], layer.q.shape[3]
        rotary = layer.block.attention.rotary
        ds = self.new(ds_site, heads * rows, rows)
        dqkv = self.new(site, rows, (heads + 2 * kv_heads) * size)
        plain = self.room(dqkv.rows, dqkv.columns, "bf16") if rotary else dqkv
        places = (0, heads, heads + kv_heads)
        for head in range(heads):
            own_kv, first = head * kv_heads // heads, head % (heads // kv_heads) == 0
            q, p = (self.constant(part[0, head]) for part in (layer.q, layer.p))
            k, v = (self.constant(part[0, own_kv]) for part in (layer.k, layer.v))
            own_do = do.block(0, head * size, rows, size)
            own_ds = ds.block(head * rows, 0, rows, rows)
            b.gemm(own_do, v, own_ds, lists.softmax_backward(
                p, scale(ds_site) / scale(do_site) / math.sqrt(size), self.centred),
                b_transposed=True)
            for place, number, left, right, transposed, before in (
                    (0, head, own_ds, k, False, ds_site), (1, own_kv, own_ds, q, True, ds_site),
                    (2, own_kv, p, own_do, True, do_site)):
                out = plain.block(0, (places[place] + number) * size, rows, size)
                b.gemm(left, right, out, Epilogue(
                    scale(site) / scale(before), None if first or not place else out),
                    a_transposed=transposed)
        if rotary:
            self.turn_back(plain, dqkv, heads, kv_heads, size, rotary.base)
        widths = [count * size for count in (heads, kv_heads, kv_heads)]
        starts = [place * size for place in places]
        self.adapters(["query", "key", "value"], self.constant(layer.first), [
            dqkv.block(0, start, rows, width)
            for start, width in zip(starts, widths, strict=True)], f"{NAME}.qkv", [scale(site)] * 3)
        weight = self.constant(layer.matrix("query", "key", "value"))
        if layer.block.pre_norm:
            self.joined("attention", dqkv, scale(site), weight, d, own)
        else:
            below = self.new("below", d.rows, d.columns, "bf16")
            b.gemm(dqkv, weight, below, Epilogue(own / scale(site), d))

    def turn_back(self, plain, out, heads, kv_heads, size, base):
        """All of q, k and v at once: the angles of v are 0."""
        rows = np.arange(self.layer.rows)
        tables = rotary_tables_back(rows, size, heads + kv_heads, base)
        still = rotary_tables_back(0 * rows, size, kv_heads, base)
        c, s = (np.concatenate([part.reshape(len(rows), -1, part.shape[1]) for part in pair],
                               axis=1).reshape(-1, pair[0].shape[1])
                for pair in zip(tables, still, strict=True))
        c, s = self.constant(c, "bf16"), self.constant(s, "bf16")
        operations.rotate(self.builder, plain, c, s, out)
        self.written += [t for t in self.builder.tensors if t.name.endswith(" crossed")]
