import numpy as np
import pytest

from gen.block import design_block
from hdl.spec.commands import Function, members
from hdl.spec.config import AcceleratorConfig
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import lane_words
from sim.model import lanes
from sim.model.rounding import from_words, to_words
from support.sabotage import with_fault

CYCLES, COMBINATIONS = 30_000, 40
CONFIGS = [("posit8", "approx_shifted", 1, "all"), ("fp8", "pwl", 1, "softmax"),
           ("posit8", "approx", 1, "softmax"), ("bf16", "pwl", 1, "all"),
           ("bf16", "approx_shifted", 1, "softmax"), ("posit8", "approx_shifted", 2, "softmax"),
           ("fp8", "pwl", 2, "all"), ("bf16", "pwl", 2, "softmax"), ("fp8", "pwl", 3, "all"),
           ("posit8", "linear", 3, "softmax"), ("bf16", "pwl", 4, "all")]
SWITCHES = ("multiply_on", "multiply_y", "add_on", "add_y", "subtract", "scale_on", "scale_y",
            "relu")
SELF = ("multiply_self", "scale_self")  # in a build of all functions


def arrival(config):
    """The enabled cycle after a word's entry in which the lane takes each port."""
    stage = config.lane_latency
    return {"data": 0, "y": 0, "multiply_word": 1, "add_word": 1 + stage, "masked": 3 * stage,
            "scale_word": 1 + 3 * stage}


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda build: "-".join(map(str, build)))
def lane(request):
    fmt, softmax, latency, functions = request.param
    config = AcceleratorConfig(fmt=fmt, softmax=softmax, lane_latency=latency,
                               functions=functions)
    verilog = with_fault(design_block("lane", config), "o", 0)
    return config, Batch(verilog, "lane", optimise="-O1")  # few cases: the build takes the time


def model(config, switch, word):
    """Stage 4's words for the values in ``word``."""
    kind = config.lane
    value = {name: from_words(kind, words) for name, words in word.items() if name != "masked"}

    def operand(stage, own):
        if switch.get(f"{stage}_self"):
            return own
        return value["y"] if switch[f"{stage}_y"] else value[f"{stage}_word"]

    x = value["data"]
    if switch["multiply_on"]:
        x = lanes.multiply(kind, x, operand("multiply", x))
    if switch["add_on"]:
        x = (lanes.subtract if switch["subtract"] else lanes.add)(kind, x, operand("add", x))
    function = Function(switch["function_"])
    x = lanes.apply(config, function, x)
    if function == Function.EXP:
        x = np.where(word["masked"] == 1, 0.0, x)
    if switch["scale_on"]:
        x = lanes.multiply(kind, x, operand("scale", x))
    if switch["relu"]:
        x = lanes.relu(kind, x)
    return to_words(kind, x).astype(np.uint32)


def draw(config, rng):
    """Words whose products and functions stay in range half of the time."""
    bits, fraction = config.lane.bits, config.lane.fraction_bits
    near = rng.integers(config.lane.bias - 6, config.lane.bias + 6, CYCLES) << fraction
    near |= rng.integers(0, 1 << fraction, CYCLES) | rng.integers(0, 2, CYCLES) << bits - 1
    return np.where(rng.integers(0, 2, CYCLES), near, lane_words(config.lane, CYCLES, rng))


def stimuli(config, rng):
    """Random switches; ports by cycle with the pipeline held now and then; words by entry; and
    the cycles in which a word's result stands at the output."""
    switch = {name: int(rng.integers(0, 2)) for name in SWITCHES}
    if config.functions == "all":
        switch |= {name: int(rng.random() < 0.2) for name in SELF}
    switch["function_"] = int(rng.choice(members("function", config)))
    enable = rng.random(CYCLES) < 0.8
    moves = np.flatnonzero(enable)
    latency, arrivals = 1 + 4 * config.lane_latency, arrival(config)
    entries = len(moves) - latency
    word = {name: draw(config, rng)[:entries] for name in arrivals if name != "masked"}
    word["masked"] = rng.integers(0, 2, entries)
    ports = {"enable": enable, **switch}
    for name, delay in arrivals.items():
        ports[name] = rng.integers(0, 1 << (1 if name == "masked" else config.lane.bits), CYCLES)
        ports[name][moves[delay:delay + entries]] = word[name]
    return switch, ports, word, moves[latency:]


def test_random_instructions(lane):
    config, batch = lane
    rng = np.random.default_rng(17)
    total = 0
    for _ in range(COMBINATIONS):
        switch, ports, word, leaves = stimuli(config, rng)
        expected = model(config, switch, word)
        got = batch.run(ports | {"fault": 0})["o"][leaves]
        total += got.size
        if count_mismatches(got, expected):
            check(f"lane {config.fmt} {config.softmax} {switch}", got, expected, word)
    print(f"lane {config.fmt} {config.softmax} {config.lane_latency}: {total} cases, 0 mismatches")
    assert total > COMBINATIONS * CYCLES // 2


def test_a_wrong_bit_is_seen(lane):
    config, batch = lane
    switch, ports, word, leaves = stimuli(config, np.random.default_rng(18))
    expected = model(config, switch, word)
    got = batch.run(ports | {"fault": 1})["o"][leaves]
    assert count_mismatches(got, expected) == np.count_nonzero(expected == 0) > 0
