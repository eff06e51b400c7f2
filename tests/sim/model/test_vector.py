import numpy as np
import pytest

from hdl.spec.commands import INSTRUCTION, Function, Operand, Post, Reduce
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.model import lanes
from sim.model.rounding import largest, round_to
from sim.model.vector import RowState, execute
from support import oracle

SHAPE = (3, 7)


def config_of(fmt):
    return AcceleratorConfig(fmt=fmt, dim=4, softmax="approx")


def random_state(config, rng):
    def draw(*shape):
        return round_to(config.lane, rng.normal(size=shape) * 4)

    immediates = tuple(round_to(BFLOAT16, rng.normal(size=2) * 4).tolist())
    return RowState(immediates, {(0, 0): draw(*SHAPE), (1, 0): draw(*SHAPE)},
                    [draw(SHAPE[0]), draw(SHAPE[0])])


def random_instruction(rng):
    fields = {name: 0 for name in INSTRUCTION}
    stages = rng.integers(0, 6, 3)
    if np.count_nonzero(stages == Operand.Y) > 1:
        stages[1:] = 0
    fields |= dict(zip(("multiply", "add", "scale"), stages.tolist(), strict=True))
    fields |= {name: int(rng.integers(2)) for name in ("subtract", "relu", "y", "reduce_to")}
    return fields


def scalar(config, fields, state, x, i, j):
    """The four stages on one word."""
    lane = config.lane

    def operand(name):
        return {Operand.IMM0: state.immediates[0], Operand.IMM1: state.immediates[1],
                Operand.Y: state.y[fields["y"], 0][i, j], Operand.R0: state.registers[0][i],
                Operand.R1: state.registers[1][i]}[Operand(fields[name])]

    if fields["multiply"]:
        x = oracle.multiply(lane, x, float(operand("multiply")))
    if fields["add"]:
        other = float(operand("add"))
        x = oracle.add(lane, x, -other if fields["subtract"] else other)
    if fields["scale"]:
        x = oracle.multiply(lane, x, float(operand("scale")))
    return max(x, 0.0) if fields["relu"] else x


@pytest.mark.parametrize("fmt", ("posit8", "bf16"))
def test_stages_act_in_order_on_their_operands(fmt):
    config = config_of(fmt)
    rng = np.random.default_rng(20)
    words, differences = 0, 0
    for _ in range(60):
        fields, state = random_instruction(rng), random_state(config, rng)
        x = round_to(config.lane, rng.normal(size=SHAPE))
        want = [[scalar(config, fields, state, float(x[i, j]), i, j)
                 for j in range(SHAPE[1])] for i in range(SHAPE[0])]
        assert np.array_equal(execute(config, fields, x, state), want)
        words += x.size
        other = execute(config, fields | {"y": 1 - fields["y"]}, x, state)
        differences += not np.array_equal(other, want)
    assert differences > 5
    print(f"stages {fmt}: {words} words")


@pytest.mark.parametrize("reduce", (Reduce.MAX, Reduce.SUM))
@pytest.mark.parametrize("post", (Post.NONE, Post.RECIPROCAL))
def test_reductions_go_to_their_register(reduce, post):
    config = config_of("posit8")
    rng = np.random.default_rng(21)
    state = random_state(config, rng)
    kept = state.registers[0].copy()
    x = round_to(config.lane, rng.normal(size=SHAPE) + 3)
    fields = {name: 0 for name in INSTRUCTION} | {
        "multiply": Operand.R1, "reduce": reduce, "reduce_to": 1, "post": post}
    result = execute(config, fields, x, state)
    want = (lanes.row_max(config.lane, result) if reduce == Reduce.MAX
            else lanes.row_sum(config, result))
    plain = want
    if post == Post.RECIPROCAL:
        want = lanes.reciprocal(config, want)
        assert not np.array_equal(want, plain)
    assert np.array_equal(state.registers[1], want)
    assert np.array_equal(state.registers[0], kept)


@pytest.mark.parametrize("fmt", ("posit8", "bf16"))
@pytest.mark.parametrize("post", (Post.MEAN, Post.INVERSE_SQRT))
def test_posts_scale_the_fp32_reduction(fmt, post):
    config = config_of(fmt)
    rng = np.random.default_rng(22)
    x = round_to(config.lane, rng.normal(size=(40, 7)) ** 2 * 2.0 ** rng.integers(-6, 7, (40, 1)))
    state = RowState((0.0, 0.0), {}, inverse_n=float(np.float32(1 / 7)),
                     epsilon=float(np.float32(0.1)))
    fields = {name: 0 for name in INSTRUCTION} | {"reduce": Reduce.SUM, "post": post}
    execute(config, fields, x, state)
    totals = lanes.row_total(config.lane, config.lanes, config.sum_ways, x).tolist()
    means = [oracle.multiply(BINARY32, total, state.inverse_n) for total in totals]
    got = state.registers[0]
    if post == Post.MEAN:
        assert np.array_equal(got, [oracle.add(config.lane, mean, 0.0) for mean in means])
        return
    real = np.array([oracle.add(BINARY32, mean, state.epsilon) for mean in means]) ** -0.5
    error = np.abs(got - real) / 2.0 ** (np.frexp(real)[1] - 8)
    print(f"1/sqrt of a mean, {fmt}: {got.size} rows, max {error.max():.3f} BF16 ulp")
    assert error.max() <= 1 if fmt == "posit8" else np.max(np.abs(got / real - 1)) <= 2.0 ** -10


def test_a_word_times_itself():
    config = config_of("posit8")
    x = round_to(BFLOAT16, np.random.default_rng(23).normal(size=SHAPE))
    square = lanes.multiply(BFLOAT16, x, x)
    state = RowState((2.0, 0.0), {})
    zeros = {name: 0 for name in INSTRUCTION}
    assert np.array_equal(
        execute(config, zeros | {"multiply": Operand.SELF}, x, state), square)
    both = zeros | {"multiply": Operand.IMM0, "scale": Operand.SELF}
    assert np.array_equal(execute(config, both, x, state), 4 * square)


@pytest.mark.parametrize("softmax", ("pwl", "approx"))
@pytest.mark.parametrize("reduce", (Reduce.MAX, Reduce.SUM))
def test_inverses_of_magnitudes(softmax, reduce):
    """By the table whatever the softmax mode is: within a BF16 ulp of the reciprocal."""
    config = AcceleratorConfig("int8", dim=4, softmax=softmax)
    rng = np.random.default_rng(24)
    x = round_to(config.lane, rng.normal(size=(40, 7)) * 2.0 ** rng.integers(-6, 7, (40, 1)))
    state = RowState((0.0, 0.0), {}, inverse_n=0.25, epsilon=0.125)
    fields = {name: 0 for name in INSTRUCTION} | {"reduce": reduce, "magnitude": 1}
    for post, real in ((Post.NONE, lambda t: t), (Post.INVERSE, lambda t: 1 / t),
                       (Post.RECIPROCAL_MEAN, lambda t: 1 / (t * 0.25 + 0.125))):
        assert np.array_equal(execute(config, fields | {"post": post}, x, state), x)
        exact = real(np.max(np.abs(x), 1) if reduce == Reduce.MAX else np.sum(np.abs(x), 1))
        error = np.abs(state.registers[0] - exact) / 2.0 ** (np.frexp(exact)[1] - 8)
        # Half an ulp of t or of the mean, the table's, and the FP32 sum's.
        print(f"{softmax} {reduce.name} {post.name}: max {error.max():.3f} BF16 ulp")
        assert error.max() <= 2.01
    state.registers[0] = None
    execute(config, fields | {"post": Post.INVERSE}, 0 * x, state)
    assert np.all(state.registers[0] == largest(config.lane))


@pytest.mark.parametrize("softmax", ("pwl", "approx", "approx_shifted"))
@pytest.mark.parametrize("subtract", (0, 1))
def test_exp_gives_zero_in_fully_masked_rows(softmax, subtract):
    config = AcceleratorConfig(fmt="posit8", dim=4, softmax=softmax)
    bottom = -largest(config.lane)
    state = RowState((0.0, 0.0), {},
                     [np.array([bottom, -np.inf, 1.0]), np.array([bottom] * 3)])
    x = np.broadcast_to(state.registers[0][:, None], SHAPE) * (1 if subtract else -1)
    fields = {name: 0 for name in INSTRUCTION} | {
        "add": Operand.R0, "subtract": subtract, "function": Function.EXP}
    result = execute(config, fields, x, state)
    assert np.all(result[:2] == 0) and np.all(result[2] > 0.8)
    # The rule is R0's: the same words taken from R1 give exp(0), and NaN for Inf − Inf.
    state.registers.reverse()
    state.registers[1] = np.array([bottom, bottom, 1.0])
    through_r1 = execute(config, fields | {"add": Operand.R1}, x, state)
    assert np.all(through_r1[0] > 0.8)


def test_reciprocal_stage():
    config = config_of("bf16")
    state = RowState((0.0, 0.0), {})
    fields = {name: 0 for name in INSTRUCTION} | {"function": Function.RECIPROCAL}
    x = np.array([[1.0, 2.0, -4.0, np.inf, 0.0]])
    assert np.array_equal(execute(config, fields, x, state), lanes.reciprocal(config, x))
