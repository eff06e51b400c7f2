from dataclasses import replace

import numpy as np
import pytest

from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.coverage.spec import SpecCoverage, points
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import random_case

FP8 = AcceleratorConfig("fp8", dim=4)


def test_points_follow_the_format():
    fp8, bf16 = points(FP8), points(AcceleratorConfig("bf16", dim=4))
    assert len(fp8) == len(set(fp8)) > len(bf16) == len(set(bf16)) > 100
    assert ("fp8", "GEMM", "b_e5m2", "1") in fp8 and ("fp8", "VECTOR", "x_wide", "0") in fp8
    assert ("fp8", "VECTOR", "b_transposed", "1") not in fp8
    assert not any("e5m2" in name or "wide" in name for _, *names in bf16 for name in names)
    assert ("fp8", "opcode", "FENCE") in fp8 and ("fp8", "opcode", "COPY") not in fp8
    assert ("fp8", "GEMM", "reduce", "SUM", "R1", "post RECIPROCAL") in fp8
    assert ("fp8", "error", "BUS_STUCK") in fp8 and ("fp8", "error", "K_RANGE") not in fp8
    exact = points(AcceleratorConfig("fp8", dim=4, acc="exact"))
    assert set(exact) - set(fp8) == {("fp8", "error", "K_RANGE")}


def test_random_programs_meet_what_their_commands_say():
    spec, rng = SpecCoverage(), np.random.default_rng(1)
    spec.expect(FP8)
    assert spec.share == 0 and len(spec.missing) == len(points(FP8))
    for make in (random_case, random_list_case):
        for _ in range(300):
            case = make(FP8, rng)
            spec.program(FP8, case.memory, case.address, case.base)
    assert spec.met <= set(points(FP8))
    assert {point[1] for point in spec.missing} == {"error"}
    spec.error(FP8, ErrorCause.WATCHDOG)
    assert ("fp8", "error", "WATCHDOG") not in spec.missing
    lines = spec.report()
    assert lines[1].startswith(f"spec coverage {spec.share:.1%}")
    assert "missing: fp8 error BAD_MAGIC" in lines and len(lines) == 2 + len(spec.missing)


def test_what_training_adds_is_met_by_random_lists_and_told():
    config = AcceleratorConfig("fp8", dim=4, functions="training")
    own = set(points(config)) - set(points(replace(config, functions="all")))
    for opcode, *point in (("GEMM", "imm0_scalar", "1"), ("VECTOR", "imm1_scalar", "1"),
                           ("GEMM", "reduce", "AMAX"), ("VECTOR", "add", "A"),
                           ("VECTOR", "function", "GELU_SLOPE"),
                           ("GEMM", "reduce", "SUM", "R1", "post POWER")):
        assert ("fp8", opcode, *point) in own
    spec, rng = SpecCoverage(), np.random.default_rng(2)
    spec.expect(AcceleratorConfig("e4m3", dim=4))
    spec.expect(config)
    text = f"of {len(own)} that only builds with --functions training have"
    assert f"              0 {text}" in spec.report()
    for _ in range(200):
        case = random_list_case(config, rng)
        spec.program(config, case.memory, case.address, case.base)
    assert own <= spec.met
    told = [line for line in spec.report() if "only builds" in line]
    assert told == [f"{len(own):15} {text}"]


def test_nothing_expected_is_no_coverage():
    with pytest.raises(ValueError, match="a configuration must be expected first"):
        _ = SpecCoverage().share


def test_fixed_lanes_have_a_part_of_the_points_and_random_programs_meet_it():
    config = AcceleratorConfig("int8", dim=4, functions="linear")
    own, scaled = set(points(config)), set(points(AcceleratorConfig("int8", dim=4)))
    assert own < scaled and not any("EXP" in point or "post RECIPROCAL" in point for point in own)
    spec, rng = SpecCoverage(), np.random.default_rng(3)
    spec.expect(config)
    for make in (random_case, random_list_case):
        for _ in range(150):
            case = make(config, rng)
            spec.program(config, case.memory, case.address, case.base)
    assert spec.met <= own and {point[1] for point in spec.missing} == {"error"}
