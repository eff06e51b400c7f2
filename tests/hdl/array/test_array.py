"""The array tile by tile against the model, and with its leaves shared against real submodules."""

import numpy as np
import pytest
from amaranth.back import verilog

from gen.amaranth_private import directed
from gen.block import design_block, flat_block
from gen.leaves import Library, component_ports
from gen.recorder import record
from hdl.array.row import Row
from hdl.spec.config import AcceleratorConfig
from sim.harness.accelerator import repeated
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import join_fields, split_fields
from sim.model.accumulate import accumulator_type, gemm
from sim.model.codec import decode
from sim.model.rounding import to_words
from support.sabotage import with_fault

BUILDS = [("posit8", "bf16", 4, 1), ("fp8", "bf16", 4, 1), ("bf16", "fp32", 4, 1),
          ("posit8", "bf16", 8, 1), ("posit8", "bf16", 4, 2), ("posit8", "exact", 4, 1),
          ("fp8", "exact", 4, 2), ("posit8es2", "exact", 4, 1), ("posit8", "fused", 4, 1),
          ("fp8", "fused", 4, 2), ("int8", "int32", 4, 1), ("posit8", "exact", 4, 3)]
NAR = 1 << 200  # stands for it among exact sums


def words_of(values, bits):
    """Port values: integers up to 64 bits, 32-bit words above."""
    joined = join_fields([(values, bits)])
    if values.shape[1] * bits > 64:
        return joined
    padded = np.pad(joined, ((0, 0), (0, 2 - joined.shape[1])))
    return padded.view(np.uint64)[:, 0]


def elements_of(port, bits, count):
    words = port if port.ndim == 2 else np.ascontiguousarray(port.astype(np.uint64))[:, None].view(
        np.uint32)
    return split_fields(words, 0, bits, count)


@pytest.fixture(scope="module", params=BUILDS, ids=lambda build: "-".join(map(str, build)))
def array(request):
    fmt, acc, dim, latency = request.param
    config = AcceleratorConfig(fmt=fmt, acc=acc, dim=dim, pe_latency=latency)
    design = design_block("array", config)
    return config, Batch(design.text, "array", optimise="-O0", blocks=repeated(design, config))


def schedule(config, tiles, rng):
    """Ports by cycle for ``tiles`` random tiles, each loaded while the one before works; per
    operand row its cycle and the accumulators that it must give."""
    dim, fmt = config.dim, config.format
    codes = 1 << fmt.storage_bits
    cycles = {name: [] for name in ("x", "x_e5m2", "swap", "w", "w_e5m2", "load_down",
                                    "load_right")}
    due, expected, waiting = [], [], None

    def cycle(**ports):
        for name, values in cycles.items():
            size = dim if name in ("x", "w") else 0
            noise = rng.integers(0, codes, size) if size else rng.integers(0, 2)
            values.append(ports.get(name, noise if size or "e5m2" in name else 0))

    for tile in range(tiles + 1):
        weights = rng.integers(0, codes, (dim, dim))
        which = int(rng.integers(0, len(fmt.encodings)))
        right = bool(rng.integers(0, 2))
        rows = int(rng.integers(1, 3 * dim)) if waiting else 0
        length = max(dim, rows) if tile < tiles else rows
        for step in range(length):
            ports = {}
            if tile < tiles and step < dim:
                line = dim - 1 - step
                ports |= {"w": weights[:, line] if right else weights[line], "w_e5m2": which,
                          "load_right" if right else "load_down": 1}
            if step < rows:
                x, kind = rng.integers(0, codes, dim), int(rng.integers(0, len(fmt.encodings)))
                ports |= {"x": x, "x_e5m2": kind}
                due.append(len(cycles["x"]))
                expected.append(gemm(config, decode(fmt.encodings[kind], x)[None], waiting[0])[0])
            cycle(**ports)
        cycle(swap=1)
        waiting = (decode(fmt.encodings[which], weights),)
    for _ in range(4 * dim):  # until the last row is out
        cycle()
    ports = {name: np.array(values) for name, values in cycles.items()}
    for name in ("x", "w"):
        ports[name] = words_of(ports[name], fmt.storage_bits)
    return ports, np.array(due), np.array(expected)


def results(config, batch, ports, due):
    """Accumulator words or, of exact sums, integers."""
    given = {name: values for name, values in ports.items() if name in batch.inputs}
    out = batch.run(given)["o"][due + config.array_latency]
    if config.exact_sums:
        return np.array([exact_sums(config, row) for row in out], object)
    return elements_of(out, config.acc_bits, config.dim).astype(np.uint32)


def exact_sums(config, row):
    """Of each column sum + carry, by the layout {nar, carry, sum}; of ``int32`` the sum alone."""
    port, bits = int.from_bytes(row.tobytes(), "little"), config.tile_bits
    found = []
    for column in range(config.dim):
        word = port >> column * bits & (1 << bits) - 1
        if config.acc == "int32":
            found.append(word - (word >> bits - 1 << bits))
            continue
        total = word & (1 << bits - 2) - 1
        total -= total >> bits - 3 << bits - 2
        found.append(NAR if word >> bits - 1 else total + (word >> bits - 2 & 1))
    return found


def expected_results(config, sums):
    if config.exact_sums:
        return np.where(np.equal(sums, None), NAR, sums)
    return to_words(accumulator_type(config), sums).astype(np.uint32)


def test_tiles_follow_without_a_gap(array):
    config, batch = array
    ports, due, expected = schedule(config, 60, np.random.default_rng(41))
    expected = expected_results(config, expected)
    got = results(config, batch, ports, due)
    name = f"array {config.fmt} {config.acc} {config.dim} {config.pe_latency}"
    assert check(name, got, expected) > 1000
    assert count_mismatches(got[1:], expected[:-1]) > 0


def flat(component, name):
    """Verilog in which every instance is a module of its own."""
    return verilog.convert(component, name=name, ports=directed(component_ports(component)),
                           emit_src=False, strip_internal_attrs=True)


def with_leaves(component, name):
    """A design in which equal instances share a module."""
    library = Library()
    library.add(component, name)
    return record(library, name)


@pytest.mark.parametrize("name, output", [("row", "psum_o"), ("vector", "o__valid")])
def test_shared_leaves_equal_real_submodules(name, output):
    config = AcceleratorConfig(fmt="posit8", dim=4, functions="softmax")
    shared, real = (Row(config) if name == "row" else flat_block(name, config)
                    for _ in range(2))
    rng = np.random.default_rng(42)
    one = Batch(with_fault(with_leaves(shared, name), output, 0), name, optimise="-O0")
    two = Batch(flat(real, name), name, optimise="-O0")
    cycles = 4_000
    given = {}
    for port, bits in two.inputs.items():
        if bits > 64:
            words = -(-bits // 32)
            given[port] = rng.integers(0, 1 << 32, (cycles, words), dtype=np.uint32)
            given[port][:, -1] &= (1 << (bits % 32 or 32)) - 1
        else:
            given[port] = rng.integers(0, 1 << bits, cycles, dtype=np.uint64)
    if name == "vector":  # an instruction stays while its beats are inside
        given["instruction"] = np.repeat(rng.integers(0, 1 << 25, cycles // 40), 40)
    sound, other = one.run(given | {"fault": 0}), two.run(given)
    assert sound.keys() == other.keys()
    for port in other:
        check(f"{name} shared {port}", sound[port], other[port])
        assert len(np.unique(other[port], axis=0)) > 1
    assert count_mismatches(one.run(given | {"fault": 1})[output], other[output]) > 0
