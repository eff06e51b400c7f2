"""The backward pass of a whole layer with its adapters as one program of today's commands, against
``EightBit``: every gradient tensor, item by item. Scales are immediates, as a host would set them.
"""

import math

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.digits import DRAWN, patches
from compiler.lowering import backward_lists as lists
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.training.gradients.block import run_block
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.ends import embed
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Adapter, Run, Weights, lora_names
from hdl.spec.commands import Destination, Operand
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine

RANK, ROWS, PARTS = 4, 16, ("query", "key", "value", "output", "up", "down")
STORE = {"destination": Destination.MEMORY}
NAME = "blocks.0"
EXACT = AcceleratorConfig("posit8", acc="exact")


class Recorded(EightBit):
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
    """The first layer of the digits ViT on one image: what its forward pass stores, and the
    gradients of a second pass, whose scales follow from the first."""

    def __init__(self, config, backward):
        self.config = config
        self.n = Recorded(self.config, backward=backward, dtype=np.float64)
        rng, model = np.random.default_rng(5), load("digits-vit")
        arrays, self.block = parameters(model), model.blocks[0]
        shapes = {part: arrays[f"{NAME}.{part}.weight"].shape for part in PARTS}
        self.weights = Weights(arrays, self.n, {f"{NAME}.{part}": Adapter(
            rng.normal(0, 0.1, (RANK, shape[1])), rng.normal(0, 0.1, (shape[0], RANK)), 2.0)
            for part, shape in shapes.items()})
        self.x, _ = embed(Run(self.n, self.weights, ()), model.embedding, patches(DRAWN[3])[None])
        incoming = self.n.lane(rng.normal(0, 1e-3, (1, ROWS, 32)))
        for _ in range(2):
            self.run = Run(self.n, self.weights, {
                name for part in PARTS for name in lora_names(f"{NAME}.{part}")})
            self.n.stored_so_far.clear()
            _, back = run_block(self.run, NAME, self.block, self.x, None)
            saved = self.n.stored_so_far[:8]
            back(self.n.gradient("in", incoming))
            self.n.end_step()
        (self.first, self.q, self.k, self.v, self.p, self.heads, self.second,
         self.hidden) = saved
        self.middle = self.n.lane(self.linear("output", self.heads) + self.x)
        self.slope = self.n.slope("gelu", self.linear("up", self.second))

    def linear(self, part, x):
        weight, bias = self.matrix(part), self.weights.wide(f"{NAME}.{part}.bias")
        return self.n.lane(self.n.lane(x @ weight.T) + bias)

    def matrix(self, part):
        return self.weights.stored(f"{NAME}.{part}.weight")

    def gain(self, part):
        return self.weights.stored(f"{NAME}.{part}_norm.gain")[None]

    def scale(self, site):
        return self.n.back[site][1]


class Emitter:
    """The layer's commands; ``found``: gradients by site, those of adapters by name."""

    def __init__(self, layer, centred):
        self.layer, self.centred = layer, centred
        self.builder = ProgramBuilder(layer.config, BASE)
        self.forward, self.back = (layer.config.format.encodings[i].name for i in (0, -1))
        self.found = {}

    def constant(self, values, encoding=None):
        return self.builder.constant(values.reshape(-1, values.shape[-1]),
                                     encoding or self.forward)

    def gemm(self, a, b, site, epilogue, **turned):
        """A new gradient tensor, or a block of one that is given."""
        out = site
        if isinstance(site, str):
            out = self.found[site] = self.builder.empty(a.rows, b.columns, self.back)
        self.builder.gemm(a, b, out, epilogue, **turned)
        return out

    def adapters(self, parts, x, gradients, site, own):
        """dA and dB of what reads ``x``, of its outputs' ``gradients`` of scale ``own``."""
        b, scale = self.builder, self.layer.scale(f"{site} U")
        inward = self.found[f"{site} U"] = b.empty(ROWS, RANK * len(parts), self.back)
        for index, (part, d) in enumerate(zip(parts, gradients, strict=True)):
            pair = self.layer.weights.adapter(f"{NAME}.{part}")
            t, u = b.empty(ROWS, RANK), inward.block(0, RANK * index, ROWS, RANK)
            b.gemm(x, self.constant(pair.a), t, b_transposed=True)
            b.gemm(d, self.constant(pair.b), u, Epilogue(scale / own))
            for name, left, right, factor in (("lora_a", u, x, scale), ("lora_b", d, t, own)):
                out = b.empty(left.columns, right.columns, "bf16")
                b.gemm(left, right, out, Epilogue(pair.scale / factor), a_transposed=True)
                self.found[f"{NAME}.{part}.{name}"] = out

    def norm(self, part, x, d, d_site, weight, residual, own):
        """h = γ ⊙ (d · W), then the norm's gradient plus the residual's, of scale ``own``."""
        scale, kind = self.layer.scale, part.replace("_", "-")
        h_site, site = f"{NAME} {kind} h", f"{NAME} {kind} d"
        gamma = self.constant(self.layer.gain(part))
        h = self.gemm(d, self.constant(weight), h_site, Epilogue(
            scale(h_site) / scale(d_site), gamma, instructions=(
                Instruction(multiply=Operand.Y, scale=Operand.IMM0, **STORE),)))
        eps = getattr(self.layer.block, f"{part}_norm").eps
        out = self.found[site] = self.builder.empty(ROWS, x.shape[-1], self.back)
        self.builder.vector(self.constant(x, "bf16"), out, lists.layer_norm_backward(
            h, eps, own / scale(h_site), residual, scale(site) / own))
        return out, scale(site)

    def feed_forward(self):
        layer, scale, site = self.layer, self.layer.scale, f"{NAME} du"
        d, own = self.constant(layer.n.back["in"][0] * scale("in"), self.back), scale("in")
        du = self.gemm(d, self.constant(layer.matrix("down")), site, Epilogue(
            scale(site) / own, self.constant(layer.slope), instructions=(
                Instruction(multiply=Operand.IMM0, scale=Operand.Y, **STORE),)))
        self.adapters(["down"], self.constant(layer.hidden), [d], f"{NAME}.down", own)
        self.adapters(["up"], self.constant(layer.second), [du], f"{NAME}.feed_forward",
                      scale(site))
        return self.norm("feed_forward", layer.middle, du, site, layer.matrix("up"), d, own)

    def attention(self, d, own):
        layer, scale, b = self.layer, self.layer.scale, self.builder
        do_site, ds_site, site = (f"{NAME} {name}" for name in ("do", "ds", "dqkv"))
        do = self.gemm(d, self.constant(layer.matrix("output")), do_site,
                       Epilogue(scale(do_site) / own))
        self.adapters(["output"], self.constant(layer.heads), [d], f"{NAME}.output", own)
        _, heads, _, size = layer.q.shape
        ds = self.found[ds_site] = b.empty(heads * ROWS, ROWS, self.back)
        dqkv = self.found[site] = b.empty(ROWS, 3 * heads * size, self.back)
        for head in range(heads):
            q, k, v, p = (self.constant(part[0, head])
                          for part in (layer.q, layer.k, layer.v, layer.p))
            own_do, own_ds = do.block(0, head * size, ROWS, size), ds.block(
                head * ROWS, 0, ROWS, ROWS)
            factor = scale(ds_site) / scale(do_site) / math.sqrt(size)
            self.gemm(own_do, v, own_ds, lists.softmax_backward(p, factor, self.centred),
                      b_transposed=True)
            for index, (left, right, turned, before) in enumerate((
                    (own_ds, k, False, ds_site), (own_ds, q, True, ds_site),
                    (p, own_do, True, do_site))):
                self.gemm(left, right, dqkv.block(0, (index * heads + head) * size, ROWS, size),
                          Epilogue(scale(site) / scale(before)), a_transposed=turned)
        width = heads * size
        self.adapters(PARTS[:3], self.constant(layer.first),
                      [dqkv.block(0, index * width, ROWS, width) for index in range(3)],
                      f"{NAME}.qkv", scale(site))
        return self.norm("attention", layer.x, dqkv, site,
                         np.concatenate([layer.matrix(part) for part in PARTS[:3]]), d, own)


def run(layer, centred):
    """Each gradient as the program and as ``EightBit`` have it."""
    low = Emitter(layer, centred)
    low.attention(*low.feed_forward())
    memory, address = low.builder.build(seed=0)
    assert Machine(layer.config).run(memory, address, BASE).error is None
    for name, tensor in low.found.items():
        own = read(memory, tensor, BASE)
        wanted = layer.run.gradients.get(name)
        if wanted is None:
            values, scale = layer.n.back[name]
            wanted = values * scale
        yield name, own, wanted.reshape(own.shape)


@pytest.mark.parametrize("fmt", ["posit8", "fp8"])
@pytest.mark.parametrize("backward", ["ordinary", "centred"])
def test_a_layer_of_commands_has_the_gradients_of_the_rules(fmt, backward):
    layer = Layer(AcceleratorConfig(fmt, acc="exact"), backward)
    compared = same = tensors = 0
    for name, own, wanted in run(layer, backward == "centred"):
        assert wanted.any(), name
        compared, same = compared + own.size, same + int((own == wanted).sum())
        tensors += 1
    print(f"{fmt} {backward}: {same} of {compared} items in {tensors} tensors are equal")
    assert tensors == 24 and same == compared == 9344


def test_another_form_is_told_apart():
    found = {name: (own == wanted).mean()
             for name, own, wanted in run(Layer(EXACT, "centred"), centred=False)}
    assert found["blocks.0 do"] == 1 and found["blocks.0 ds"] < 0.97


def test_keys_that_are_not_turned_are_told_apart(monkeypatch):
    right = ProgramBuilder.gemm

    def wrong(self, a, b, *arguments, **turned):
        if a.rows == b.rows == a.columns == ROWS:
            turned["a_transposed"] = False
        right(self, a, b, *arguments, **turned)

    monkeypatch.setattr(ProgramBuilder, "gemm", wrong)
    found = {name: (own == wanted).mean()
             for name, own, wanted in run(Layer(EXACT, "centred"), True)}
    assert found["blocks.0 ds"] > 0.99 and found["blocks.0 dqkv"] < 0.7


def test_the_layer_on_rtl():
    machine = small_accelerator("posit8")
    low = Emitter(Layer(machine.config, "centred"), True)
    low.attention(*low.feed_forward())
    memory, address = low.builder.build(seed=1)
    between = [tensor for tensor in low.builder.tensors if tensor.shape == (ROWS, RANK)]
    outputs = (*low.found.values(), *between)
    compared = sum(compare(machine, Case(memory, address, BASE, outputs, "a layer's backward"),
                           profile, seed) for seed, profile in enumerate(("ideal", "light")))
    print(f"{compared} bytes")
    assert compared > 2 * 9344
