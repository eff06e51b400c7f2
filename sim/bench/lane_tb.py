"""Lane: random settings of the four stages, words by class, a pipeline that moves and stalls."""

import cocotb
import numpy as np

from hdl.spec.commands import Function, members
from sim.bench.support import configuration, expect, generator, put, report, reset, sample, step
from sim.harness.operands import lane_words
from sim.model import fixed, lanes
from sim.model.rounding import from_words, to_words

SETTINGS, WORDS = 40, 60


def arrivals(config):
    """Enabled cycles after ``data`` at which each input is taken."""
    stage = config.lane_latency
    return {"data": 0, "y": 0, "multiply_word": 1, "add_word": 1 + stage, "masked": 3 * stage,
            "scale_word": 1 + 3 * stage}


def kind_of(config, name):
    """The type of a port's words."""
    return config.word if name in ("data", "add_word") else config.lane


def random_setting(config, rng):
    # ``function`` alone is a word of Verilog.
    setting = {name: int(rng.random() < 0.6) for name in (
        "multiply_on", "multiply_y", "add_on", "add_y", "subtract", "scale_on", "scale_y")}
    setting |= {f"{stage}_self": int(rng.random() < 0.2) for stage in ("multiply", "scale")}
    if config.fixed:
        setting["accumulates"] = int(rng.integers(2))
    return setting | {"relu": int(rng.random() < 0.3),
                      "function_": int(rng.choice([Function.NONE, *members("function", config)]))}


def model(config, setting, words):
    """The lane's result for every word."""
    lane = config.lane
    value = {name: from_words(kind_of(config, name), words[name])
             for name in words if name != "masked"}

    def operand(stage, own):
        if setting.get(f"{stage}_self"):
            return own
        return value["y" if setting[f"{stage}_y"] else f"{stage}_word"]

    x = value["data"]
    if config.fixed:
        x = np.ldexp(x, config.word.fraction_bits * setting["accumulates"])
        x = fixed.enter(fixed.multiply(x, operand("multiply", x)) if setting["multiply_on"] else x)
        if setting["add_on"]:
            x = fixed.enter(fixed.add(x, operand("add", x), bool(setting["subtract"])))
        if setting["scale_on"]:
            x = fixed.enter(fixed.multiply(x, operand("scale", x)))
        return to_words(config.word, np.maximum(x, 0.0) if setting["relu"] else x)
    if setting["multiply_on"]:
        x = lanes.multiply(lane, x, operand("multiply", x))
    if setting["add_on"]:
        x = (lanes.subtract if setting["subtract"] else lanes.add)(lane, x, operand("add", x))
    function = Function(setting["function_"])
    x = lanes.apply(config, function, x)
    if function == Function.EXP:
        x = np.where(words["masked"] == 1, 0.0, x)
    if setting["scale_on"]:
        x = lanes.multiply(lane, x, operand("scale", x))
    return to_words(lane, lanes.relu(lane, x) if setting["relu"] else x)


@cocotb.test()
async def settings_and_words(dut):
    config, rng = configuration(), generator()
    late, latency = arrivals(config), 1 + 4 * config.lane_latency
    idle = dict.fromkeys((*late, *random_setting(config, rng), "enable"), 0)
    await reset(dut, idle)
    cycles = 0
    for _ in range(SETTINGS):
        setting = random_setting(config, rng)
        words = {name: lane_words(kind_of(config, name), WORDS, rng) for name in late}
        words["masked"] = (rng.random(WORDS) < 0.1).astype(int)
        expected = model(config, setting, words)
        put(dut, **setting)
        moved = 0
        while moved < WORDS + latency - 1:
            enable = int(rng.random() < 0.7)
            put(dut, enable=enable, **{name: words[name][min(max(moved - delay, 0), WORDS - 1)]
                                       for name, delay in late.items()})
            await step(dut.clk)
            cycles += 1
            moved += enable
            word = moved - latency
            if word >= 0:  # holds while the pipeline stalls, too
                what = {name: hex(int(words[name][word])) for name in late}
                expect(sample(dut, "o")[0], expected[word], f"{setting} {what}")
    report(SETTINGS * WORDS, cycles)
