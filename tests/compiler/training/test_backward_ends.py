"""From logits to the last layer as commands, against ``Bits``: loss, head, pooling, final norm."""

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.digits import DRAWN, patches
from compiler.lowering import backward, backward_lists
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.training.gradients.block import run_blocks
from compiler.training.gradients.ends import embed, finish
from compiler.training.gradients.loss import loss_of
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Run, Weights
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine
from support.layer_program import BASE, Recorded

LABELS, POSITIONS, CLASSES = np.array([3, 8]), 16, 10


class Ends:
    """What the last layer gives for two digits, and the gradients of a second pass."""

    def __init__(self, config):
        self.config, model = config, load("digits-vit")
        self.n = Recorded(config)
        self.weights = Weights(parameters(model), self.n)
        x, _ = embed(Run(self.n, self.weights, ()), model.embedding,
                     np.stack([patches(DRAWN[label]) for label in LABELS]))
        names = [f"blocks.{index}" for index in range(len(model.blocks))]
        self.x, _ = run_blocks(Run(self.n, self.weights, ()), names, model.blocks, x, None)
        self.norm = model.final_norm
        for _ in range(2):
            self.run = Run(self.n, self.weights, {"head.weight", "head.bias"})
            self.n.stored_so_far.clear()
            self.logits, back = finish(self.run, model, self.x, None)
            self.pooled = self.n.stored_so_far[0]
            back(loss_of("classes", self.n, self.logits, LABELS)[1])
            self.n.end_step()

    def scale(self, site):
        return self.n.back[site][1]


def emit(ends):
    """The commands, and each gradient's tensor by name."""
    b, scale, sites = ProgramBuilder(ends.config, BASE), ends.scale, {}
    forward, back = (ends.config.format.encodings[i].name for i in (0, -1))

    def new(name, rows, columns, encoding=back):
        sites[name] = b.empty(rows, columns, encoding, name=name)
        return sites[name]

    logits = b.constant(ends.logits, "bf16")
    p = new("p", *logits.shape, "bf16")
    b.vector(logits, p, backward_lists.accurate_softmax())
    d = new("loss", *logits.shape)
    b.gather(b.constant(np.eye(CLASSES), forward), b.indices(LABELS), d,
             backward_lists.cross_entropy_backward(p, scale("loss") / len(LABELS)))
    b.gemm(d, b.constant(ends.pooled, forward), new("head.weight", CLASSES, 32, "bf16"),
           Epilogue(1 / scale("loss")), a_transposed=True)
    backward.column_sums(b, d, new("head.bias", 1, CLASSES, "bf16"), 1 / scale("loss"))
    # The last row stays zero, for positions that pad.
    pooled = b.constant(np.zeros((len(LABELS) + 1, 32)), back)
    b.gemm(d, b.constant(ends.weights.stored("head.weight"), forward),
           pooled.block(0, 0, len(LABELS), 32), Epilogue(scale("pooled") / scale("loss")))
    sites["pooled"] = pooled.block(0, 0, len(LABELS), 32)
    rows = len(LABELS) * POSITIONS
    h = new("final norm h", rows, 32)
    backward.mean_pool_backward(
        b, pooled, np.ones((len(LABELS), POSITIONS), bool),
        b.constant(ends.weights.stored("final_norm.gain")[None], forward), h,
        scale("final norm h") / scale("pooled"))
    b.vector(b.constant(ends.x.reshape(rows, 32), "bf16"), new("final norm d", rows, 32),
             backward_lists.layer_norm_backward(
                 h, ends.norm.eps, scale("final norm d") / scale("final norm h")))
    return b, sites


@pytest.mark.parametrize("fmt, acc", [("posit8", "bf16"), ("fp8", "fp32"), ("posit8es2", "exact")])
def test_the_way_from_the_loss_to_the_last_layer(fmt, acc):
    config = AcceleratorConfig(fmt, acc=acc, softmax="approx_shifted")
    ends = Ends(config)
    builder, sites = emit(ends)
    memory, address = builder.build(seed=0)
    assert Machine(config).run(memory, address, BASE).error is None
    compared = 0
    for name, tensor in sites.items():
        own = read(memory, tensor, BASE)
        if name == "p":
            wanted = ends.n.loss_softmax(ends.logits)
        elif name in ends.run.gradients:
            wanted = ends.run.gradients[name]
        else:
            wanted = ends.n.back[name][0] * ends.scale(name)
        assert np.array_equal(own, wanted.reshape(own.shape)) and own.any(), name
        compared += own.size
    print(f"{fmt} {acc}: {compared} items in {len(sites)} tensors")
    assert compared == 20 + 20 + 320 + 10 + 64 + 2 * 1024


def test_the_way_on_rtl():
    machine = small_accelerator("posit8")
    builder, sites = emit(Ends(machine.config))
    memory, address = builder.build(seed=1)
    compared = sum(compare(machine, Case(memory, address, BASE, tuple(sites.values()), "ends"),
                           profile, seed) for seed, profile in enumerate(("light", "heavy")))
    print(f"{compared} bytes")
    assert compared > 4000
