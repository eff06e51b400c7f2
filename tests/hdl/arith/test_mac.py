"""The fused multiply-add by operand class, against one rounding of the exact sum."""

import numpy as np
import pytest

from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import unpack
from sim.model.accumulate import accumulator_type, fused_multiply_add
from sim.model.codec import decode, max_finite
from sim.model.rounding import from_words, round_to, to_words
from support import golden
from support.sabotage import with_fault

FULL, PART = 10_000_000, 1_200_000
BUILDS = [("posit8", "bf16", 1, FULL), ("fp8", "bf16", 1, FULL), ("posit8es0", "bf16", 1, PART),
          ("posit8es2", "bf16", 1, PART), ("e4m3", "bf16", 1, PART), ("e5m2", "bf16", 1, PART),
          ("bf16", "fp32", 1, PART), ("posit8", "fp32", 1, PART), ("fp8", "fp32", 1, PART),
          ("posit8es2", "fp32", 1, PART), ("posit8", "bf16", 2, PART), ("bf16", "fp32", 2, PART)]
CLASSES = ("random", "zero", "nar", "limits", "equal exponents", "cancellation", "ties",
           "far apart")
DIM = 128  # the deepest column that a configuration allows


class Operands:
    """Draws operands of one build; a psum is one that a column of DIM products can hold."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        self.acc = accumulator_type(config)
        self.pools = [decode(encoding, np.arange(1 << encoding.bits))
                      for encoding in config.format.encodings]
        finite = np.concatenate([np.abs(pool[np.isfinite(pool) & (pool != 0)])
                                 for pool in self.pools])
        largest = max(max_finite(encoding) for encoding in config.format.encodings)
        self.top = min(DIM * largest ** 2, 2.0 ** 128 * (1 - 2.0 ** -24))
        # Every value is a multiple of the smallest, so every sum is one of its square.
        self.quantum = max(finite.min() ** 2, 2.0 ** -149)

    def factors(self, cases):
        choose = self.rng.integers(0, len(self.pools), (2, cases))
        codes = self.rng.integers(0, len(self.pools[0]), (2, cases))
        return np.stack(self.pools)[choose, codes]

    def reachable(self, psum):
        """``psum`` on the grid of products, in the accumulator's type, within the limits."""
        psum = np.rint(np.clip(psum, -self.top, self.top) / self.quantum) * self.quantum
        return round_to(self.acc, np.clip(psum, -self.top, self.top))

    def psums(self, cases):
        low, high = np.log2(self.quantum), np.log2(self.top)
        magnitude = 2.0 ** self.rng.uniform(low, high, cases)
        return self.reachable(magnitude * self.rng.choice([-1.0, 1.0], cases))

    def draw(self, kind, cases):
        """a, b and psum of class ``kind``."""
        rng = self.rng
        (a, b), psum = self.factors(cases), self.psums(cases)
        with np.errstate(over="ignore"):
            product = np.nan_to_num(a * b, posinf=0, neginf=0)
        ulp = 2.0 ** -self.acc.fraction_bits
        if kind == "zero":
            zero = np.where(rng.integers(0, 2, cases), 0.0, -0.0)
            which = rng.integers(1, 8, cases)
            a, psum = np.where(which & 1, zero, a), np.where(which & 2, zero, psum)
            b = np.where(which & 4, rng.permutation(zero), b)
        elif kind == "nar":
            which = rng.integers(1, 8, cases)
            a, b = np.where(which & 1, np.nan, a), np.where(which & 2, np.nan, b)
            psum = np.where(which & 4, np.nan, psum)
        elif kind == "limits":
            every = np.concatenate([pool[np.isfinite(pool) & (pool != 0)] for pool in self.pools])
            ends = np.array([every.min(), every.max(), np.abs(every).min(), -np.abs(every).min()])
            a, b = rng.choice(ends, (2, cases))
            edges = self.reachable(np.array([self.top, -self.top, self.quantum, -self.quantum]))
            if self.config.fmt == "bf16":  # the one format whose products can overflow a psum
                edges = np.append(edges, [np.inf, -np.inf])
            psum = np.where(rng.integers(0, 2, cases), rng.choice(edges, cases), psum)
        elif kind == "equal exponents":
            psum = self.reachable(product * rng.uniform(0.5, 2, cases) * rng.choice([-1, 1], cases))
        elif kind == "cancellation":
            near = 1 + rng.integers(-2, 3, cases) * ulp
            psum = self.reachable(-product * near)
        elif kind == "ties":
            # The product's last bits lie at the half unit of the psum's last place.
            shift = rng.integers(-2, 5, cases) + self.acc.fraction_bits
            whole = rng.integers(1 << self.acc.fraction_bits, 2 << self.acc.fraction_bits, cases)
            scale = 2.0 ** np.floor(np.log2(np.abs(np.where(product == 0, 1, product))))
            psum = self.reachable(whole * ulp * np.ldexp(scale, shift) * rng.choice([-1, 1], cases))
        elif kind == "far apart":
            far = self.psums(cases)
            away = np.abs(np.log2(np.abs(np.where(far == 0, 1, far)))
                          - np.log2(np.abs(np.where(product == 0, 1, product)))) > 12
            psum = np.where(away, far, psum)
        return a, b, psum


@pytest.fixture(scope="module", params=BUILDS, ids=lambda build: "-".join(map(str, build[:3])))
def mac(request):
    fmt, acc, latency, cases = request.param
    config = AcceleratorConfig(fmt=fmt, acc=acc, dim=16, pe_latency=latency)
    one = 0x3F80 if acc == "bf16" else 0x3F800000
    verilog = with_fault(design_block("mac", config), "psum_o", one)
    return config, Batch(verilog, "mac"), cases


def inputs_for(config, a, b, psum, rng):
    fields = {"a_" + name: field for name, field in unpack(config.format, a, rng).items()}
    fields |= {"b_" + name: field for name, field in unpack(config.format, b, rng).items()}
    return fields | {"psum_i": to_words(accumulator_type(config), psum)}


def results(config, batch, given):
    """psum_o of every case; psum_i enters when its product is about to join it."""
    later = config.pe_latency - 1
    given = {name: np.pad(np.broadcast_to(column, len(given["psum_i"])),
                          (later, 0) if name == "psum_i" else (0, later), mode="edge")
             for name, column in given.items()}
    return batch.run(given, latency=1)["psum_o"][later:]


def test_classes(mac):
    config, batch, cases = mac
    rng = np.random.default_rng(11)
    operands = Operands(config, rng)
    acc, total, each = accumulator_type(config), 0, 250_000
    for kind in CLASSES:
        done = 0
        while done < cases // len(CLASSES):
            a, b, psum = operands.draw(kind, each)
            expected = to_words(acc, fused_multiply_add(acc, psum, a, b)).astype(np.uint32)
            given = inputs_for(config, a, b, psum, rng) | {"fault": 0}
            got = results(config, batch, given)
            done += got.size
            if count_mismatches(got, expected):
                check(f"mac {config.fmt} {config.acc} {kind}", got, expected, given)
        print(f"mac {config.fmt} {config.acc} {kind}: {done} cases, 0 mismatches")
        total += done
    print(f"mac {config.fmt} {config.acc}: {total} cases")
    assert total >= cases


def test_a_wrong_bit_is_seen(mac):
    config, batch, _ = mac
    rng = np.random.default_rng(12)
    one = float(from_words(accumulator_type(config), np.array([0x3F80 << config.acc_bits - 16]))[0])
    a, b, psum = np.array([0.0, one, -0.0]), np.array([one, one, one]), np.array([one, 0.0, one])
    given = inputs_for(config, a, b, psum, rng)
    sound, faulty = (results(config, batch, given | {"fault": fault}) for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 3


def test_golden_vectors(mac):
    config, batch, _ = mac
    rng, first, last = np.random.default_rng(13), *(config.format.encodings[at] for at in (0, -1))
    acc, groups = accumulator_type(config), 0
    for group in golden.groups("mac", format=config.fmt, accumulator=config.acc):
        a = decode(first, golden.words(group, "a"))
        b = decode(last, golden.words(group, "b"))
        psum = from_words(acc, golden.words(group, "psum"))
        given = inputs_for(config, a, b, psum, rng)
        expected = golden.words(group, "result").astype(np.uint32)
        check(f"golden mac {config.fmt} {config.acc}",
              results(config, batch, given | {"fault": 0}), expected, given)
        groups += 1
    assert groups == 1
