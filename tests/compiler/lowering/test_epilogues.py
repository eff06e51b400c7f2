"""Steps that one command can do, and the lists that do them."""

import numpy as np
import pytest

from compiler.lowering.epilogues import ACTIVATIONS, epilogue_of, fits_one_list
from compiler.lowering.lane_ops import (
    Add,
    Apply,
    Mean,
    Multiply,
    Normalise,
    Scale,
    Softmax,
    UnitLength,
)
from compiler.lowering.values import Value
from compiler.program.builder import ProgramBuilder, read
from compiler.program.instruction import Instruction
from hdl.spec.commands import Destination, Function, Operand
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING
from sim.model import codec, lanes
from sim.model.machine import Machine

Y = Value("y", 5, 6).whole
ROW = Value("row", 1, 6).whole
ADD, MULTIPLY, SCALE, GELU, RELU = Add((Y,)), Multiply((Y,)), Scale(0.5), Apply("gelu"), \
    Apply("relu")
MEMORY, BUFFER = Destination.MEMORY, Destination.BUFFER


@pytest.mark.parametrize("steps, fits", [
    ((), True), ((SCALE, ADD, GELU), True), ((ADD, ADD), True), ((ADD, ADD, ADD), False),
    ((MULTIPLY, ADD), True), ((GELU, MULTIPLY), True), ((ADD, GELU, MULTIPLY), True),
    ((SCALE, SCALE), True), ((SCALE, SCALE, SCALE), False), ((GELU, GELU), True),
    ((SCALE, ADD, Softmax()), True), ((ADD, Softmax()), True), ((ADD, SCALE, Softmax()), False),
    ((GELU, Softmax()), False), ((Softmax(), ADD), False), ((Normalise(ROW, ROW, 1e-5),), True),
    ((ADD, Normalise(ROW, None, 1e-5)), False), ((UnitLength(1e-5), SCALE), False),
    ((SCALE, Mean(6)), False), ((Mean(6),), True)])
def test_what_one_command_can_do(steps, fits):
    assert fits_one_list(steps) == fits
    if not fits:
        with pytest.raises(ValueError, match="one command cannot do"):
            epilogue_of([(step, ()) for step in steps])


@pytest.mark.parametrize("steps, wanted", [
    ((SCALE, ADD, GELU), [Instruction(multiply=Operand.IMM0, add=Operand.Y,
                                      function=Function.GELU, destination=MEMORY)]),
    ((ADD, ADD), [Instruction(add=Operand.Y, destination=BUFFER),
                  Instruction(add=Operand.Y, y=1, destination=MEMORY)]),
    ((ADD, GELU, MULTIPLY), [Instruction(add=Operand.Y, function=Function.GELU,
                                         destination=BUFFER),
                             Instruction(scale=Operand.Y, y=1, destination=MEMORY)]),
    ((GELU, MULTIPLY), [Instruction(function=Function.GELU, scale=Operand.Y,
                                    destination=MEMORY)]),
    ((MULTIPLY, ADD), [Instruction(multiply=Operand.Y, destination=BUFFER),
                       Instruction(add=Operand.Y, y=1, destination=MEMORY)]),
    ((ADD, SCALE, RELU), [Instruction(add=Operand.Y, scale=Operand.IMM0, relu=True,
                                      destination=MEMORY)]),
])
def test_lists(steps, wanted):
    tensors = [("first",), ("second",)]
    given = [(step, tensors.pop(0) if step.reads else ()) for step in steps]
    epilogue = epilogue_of(given)
    assert list(epilogue.instructions) == wanted
    assert epilogue.bias == "first" and epilogue.y1 == ("second" if not tensors else None)


def real(step, x, y):
    """What a step does, in float64."""
    if isinstance(step, Scale):
        return x * step.factor
    if isinstance(step, Add):
        return x + y
    if isinstance(step, Multiply):
        return x * y
    return np.maximum(x, 0) if step.activation == "relu" else x / (1 + np.exp(-x))


def test_random_steps_are_what_the_machine_does():
    rng = np.random.default_rng(12)
    config = AcceleratorConfig("bf16", dim=4)
    kinds = [Scale(0.5), Scale(-1.25), ADD, MULTIPLY, Apply("silu"), RELU]
    done, longest = 0, 0
    while done < 60:
        steps = [kinds[rng.integers(len(kinds))] for _ in range(rng.integers(1, 6))]
        if not fits_one_list(steps):
            continue
        builder = ProgramBuilder(config)
        truth = rng.integers(-8, 9, (5, 6)) / 4  # exact in BF16, as all that follow
        x, given = builder.constant(truth), []
        for step in steps:
            values = rng.integers(-8, 9, (int(rng.choice([1, 5])), 6)) / 4
            given.append((step, (builder.constant(values),) if step.reads else ()))
            truth = real(step, truth, values)
        out = builder.empty(5, 6)
        builder.vector(x, out, epilogue_of(given))
        memory, address = builder.build()
        assert Machine(config).run(memory, address).error is None
        assert np.abs(read(memory, out) - truth).max() <= 2.0 ** -6 * max(1, np.abs(truth).max())
        done, longest = done + 1, max(longest, len(steps))
    print(f"{done} lists, up to {longest} steps")
    assert longest >= 4


def test_every_activation_has_a_list():
    functions = {"gelu": Function.GELU, "gelu_sigmoid": Function.GELU_SIGMOID,
                 "gelu_tanh": Function.GELU, "silu": Function.SILU, "tanh": Function.TANH}
    assert set(ACTIVATIONS) == {*functions, "relu", "relu_squared"}
    for name, function in functions.items():
        (only,) = epilogue_of([(Apply(name), ())]).instructions
        assert not only.relu and only.function == function
    (only,) = epilogue_of([(Apply("relu"), ())]).instructions
    assert only.relu and only.function == 0
    first, second = epilogue_of([(Apply("relu_squared"), ())]).instructions
    assert first.relu and first.destination == BUFFER and second.multiply == Operand.SELF


def test_the_square_of_relu_is_its_product_with_itself():
    # Over all BF16 words: one rounding of the square, which is 0 for what is below zero.
    words = np.arange(1 << 16, dtype=np.uint32)
    words = words[words >> 7 & 255 != 255].reshape(-1, 64)
    x = (words << 16).view(np.float32).astype(np.float64)
    builder = ProgramBuilder(AcceleratorConfig("posit8", dim=4))
    given = builder.constant(x, "bf16")
    out = builder.empty(*x.shape, "bf16")
    builder.vector(given, out, epilogue_of([(Apply("relu_squared"), ())]))
    memory, address = builder.build()
    assert Machine(builder.config).run(memory, address).error is None
    held = np.where(np.abs(x) < 2.0 ** -126, 0, np.maximum(x, 0))
    wanted = codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, held * held))
    wanted = np.where(np.abs(wanted) < 2.0 ** -126, 0, wanted)
    found = read(memory, out)
    near = np.abs(held * held) < 3e38  # beyond, the lanes have infinity
    print(f"{near.sum()} words")
    assert near.sum() > 48_000 and np.array_equal(found[near], wanted[near])


@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_the_tanh_form_of_gelu_is_near_the_lanes_own(fmt):
    # Over all BF16 words: within an ulp of the result, or 2⁻⁹ below zero, and 4.8e-4 more.
    words = np.arange(1 << 16, dtype=np.uint32)
    normal = (words >> 7 & 255 != 255) & ((words >> 7 & 255 != 0) | (words & 127 == 0))
    x = (words[normal] << 16).view(np.float32).astype(np.float64)
    near = np.clip(x, -1e9, 1e9)
    inner = np.sqrt(2 / np.pi) * (near + 0.044715 * near ** 3)
    wanted = x * (1 + np.tanh(inner)) / 2
    found = lanes.apply(AcceleratorConfig(fmt), Function.GELU, x)
    ulp = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(wanted), 2.0 ** -126))) - 7)
    beyond = np.abs(found - wanted) - np.where(x > 0, ulp, np.maximum(ulp, 2.0 ** -9))
    print(f"{x.size} words, at most {np.max(beyond):.2g} beyond the bound of GELU itself")
    assert x.size > 65_000 and np.all(beyond <= 4.8e-4)
    assert np.abs(found - wanted).max() > 2e-4
