"""Units on codes: decoder, encoder, multiplier, multiply-accumulate, rounding to the lane."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np

from hdl.spec.config import AcceleratorConfig, accumulators
from hdl.spec.formats import BFLOAT16, BINARY32, FORMATS, Encoding, LaneType
from sim.model import accumulate, exact
from sim.model.codec import decode, encode
from sim.model.rounding import from_words, round_to, to_words
from tools.vectors.draw import codes_by_class, kinds, lane_classes, pairs, values_to_encode
from tools.vectors.store import Choice, File, Group, number, value, word

__all__ = ["UNITS", "encoding_named", "mac_config"]

ENCODINGS = {encoding.name: encoding for fmt in FORMATS.values() for encoding in fmt.encodings}
LANES = {encoding.name: fmt.lane for fmt in FORMATS.values() for encoding in fmt.encodings}
# What has come later stands last, so that chance gives the others what it always gave.
PAIRS = [*((name, name) for name in ENCODINGS if name != "int8"), ("e4m3", "e5m2"),
         ("e5m2", "e4m3"), ("int8", "int8")]
FINITE = {name: np.flatnonzero(np.isfinite(decode(encoding, np.arange(1 << encoding.bits))))
          for name, encoding in ENCODINGS.items()}
CODE = "code of the format"
PSUMS = 7  # products that lead to the partial sums


def encoding_named(name: str) -> Encoding:
    return ENCODINGS[name]


def texts(words: Iterable[int], bits: int) -> list[str]:
    return [word(int(item), bits) for item in words]


def decoder(rng: np.random.Generator) -> File:
    groups = []
    for name, encoding in ENCODINGS.items():
        codes = codes_by_class(encoding, rng)
        groups.append(Group({"encoding": name}, [
            [kind, word(code, encoding.bits), *decoded(encoding, [word(code, encoding.bits)])]
            for kind, code in zip(kinds(encoding, codes), codes.tolist(), strict=True)]))
    return File("decoder", "What each code stands for.",
                {"code": CODE, "value": "the number that it stands for; nan is NaR"}, groups)


def decoded(encoding: Encoding, codes: list[str]) -> list[str]:
    return [value(real) for real in decode(encoding, np.array([number(c) for c in codes]))]


def encoder(rng: np.random.Generator) -> File:
    groups = []
    for name, encoding in ENCODINGS.items():
        lane = LANES[name]
        labels, words = values_to_encode(encoding, lane, rng)
        given = texts(words, lane.bits)
        groups.append(Group({"encoding": name, "lane": lane.name}, [
            list(case) for case in zip(labels, given, encoded(encoding, lane, given),
                                       strict=True)]))
    return File("encoder", "The code that a value of the lane's type is stored as.",
                {"value": "word of the lane's type", "code": CODE}, groups)


def encoded(encoding: Encoding, lane: LaneType, values: list[str]) -> list[str]:
    words = np.array([number(text) for text in values])
    return texts(encode(encoding, from_words(lane, words)), encoding.bits)


def multiplier(rng: np.random.Generator) -> File:
    groups = []
    for a, b in PAIRS:
        one, two = ENCODINGS[a], ENCODINGS[b]
        labels, first, second = pairs(one, two, rng)
        left, right = texts(first, one.bits), texts(second, two.bits)
        groups.append(Group({"a": a, "b": b}, [list(case) for case in zip(
            labels, left, right, multiplied(one, two, left, right), strict=True)]))
    return File("multiplier", "The exact product of two codes.",
                {"a": CODE, "b": CODE, "product": "their product, never rounded; nan is NaR"},
                groups)


def multiplied(a: Encoding, b: Encoding, left: list[str], right: list[str]) -> list[str]:
    x, y = (decode(e, np.array([number(c) for c in codes])) for e, codes in ((a, left),
                                                                          (b, right)))
    product = np.multiply(x, y)
    # An integer's zero has no sign.
    return [value(real) for real in (product + 0.0 if "int8" in (a.name, b.name) else product)]


def mac_config(choice: Choice) -> AcceleratorConfig:
    """The build whose accumulator a group of ``mac`` or ``rounding`` is of."""
    return AcceleratorConfig(choice["format"], acc=choice["accumulator"], dim=4)


def mac(rng: np.random.Generator) -> File:
    groups = []
    for fmt in FORMATS.values():
        for acc in accumulators(fmt):
            if acc == "fused":  # a column's products meet at once: vectors of gemm
                continue
            choice = {"format": fmt.name, "a": fmt.encodings[0].name,
                      "b": fmt.encodings[-1].name, "accumulator": acc}
            groups.append(Group(choice, _mac_cases(choice, rng)))
    return File("mac", "One step of an accumulator: psum + a · b.", {
        "a": CODE, "b": CODE,
        "psum": "accumulator before: a BF16 or FP32 word, or of an exact one all its bits: NaR "
                "on top, below it two's complement in units of the format's smallest magnitude "
                "squared (of its E5M2 for fp8); of int32 32 bits in two's complement",
        "result": "accumulator after; under NaR the other bits of an exact one mean nothing and "
                  "are 0"}, groups)


def _mac_cases(choice: Choice, rng: np.random.Generator) -> list[list[str]]:
    a, b = ENCODINGS[choice["a"]], ENCODINGS[choice["b"]]
    bits = mac_config(choice).acc_bits
    labels, first, second = pairs(a, b, rng, 60, 70)
    left, right = texts(first, a.bits), texts(second, b.bits)
    psums = _sums(choice, rng, rng.integers(0, PSUMS, len(labels)))
    # Psums of −a·b, and what one product more makes of them.
    x = [_finite(a, rng) for _ in range(40)]
    y = [_finite(b, rng) for _ in range(40)]
    minus = [word(int(encode(a, -decode(a, np.array([number(code)])))[0]), a.bits) for code in x]
    near = stepped(choice, minus, y, [word(0, bits)] * 40)
    near[20:] = _sums(choice, rng, np.ones(20, int), near[20:])
    ends = _ends(choice)
    ties = _ties(choice, rng)
    labels += ["cancellation"] * 40 + [kind for kind, _ in ends] + ["tie"] * len(ties)
    left += [*x, *left[:4], *(tie[0] for tie in ties)]
    right += [*y, *right[-4:], *(tie[1] for tie in ties)]
    psums += [*near, *(psum for _, psum in ends), *(tie[2] for tie in ties)]
    results = stepped(choice, left, right, psums)
    return [list(case) for case in zip(labels, left, right, psums, results, strict=True)]


def _ends(choice: Choice) -> list[tuple[str, str]]:
    """Four accumulators that are NaR or, of integers, as far from zero as a product more allows."""
    config = mac_config(choice)
    bits = config.acc_bits
    if config.acc == "int32":
        most = (1 << 31) - 1 - (1 << 14)
        return [("limit", word(end & (1 << bits) - 1, bits)) for end in (most, -most) * 2]
    nar = 1 << bits - 1 if config.acc == "exact" else accumulate.accumulator_type(config).nan
    return [("NaR", word(nar, bits))] * 4


def _sums(choice: Choice, rng: np.random.Generator, counts: np.ndarray,
          psums: list[str] | None = None) -> list[str]:
    """Accumulators after so many random products: what one can hold."""
    a, b = ENCODINGS[choice["a"]], ENCODINGS[choice["b"]]
    psums = [word(0, mac_config(choice).acc_bits)] * len(counts) if psums is None else psums
    for step in range(int(counts.max(initial=0))):
        left, right = ([_finite(e, rng) for _ in counts] for e in (a, b))
        after = stepped(choice, left, right, psums)
        psums = [new if count > step else old
                 for new, old, count in zip(after, psums, counts, strict=True)]
    return psums


def _ties(choice: Choice, rng: np.random.Generator, most: int = 26
          ) -> list[tuple[str, str, str]]:
    """Operands whose exact sum lies halfway between two accumulators."""
    if mac_config(choice).exact_sums:
        return []
    acc = accumulate.accumulator_type(mac_config(choice))
    count = 3000
    left, right = ([_finite(ENCODINGS[choice[side]], rng) for _ in range(count)]
                   for side in ("a", "b"))
    psums = _sums(choice, rng, rng.integers(0, 4, count))
    found = []
    for x, y, psum in zip(left, right, psums, strict=True):
        before = float(from_words(acc, np.array([number(psum)]))[0])
        if not np.isfinite(before):
            continue
        total = Fraction(before)
        factors = [Fraction(float(decode(ENCODINGS[choice[side]], np.array([number(code)]))[0]))
                   for side, code in (("a", x), ("b", y))]
        total = abs(total + factors[0] * factors[1])
        bits = total.numerator.bit_length()
        # The lowest bit that is set is the one below the significand's last.
        lowest = (total.numerator & -total.numerator).bit_length()
        if total and bits - lowest == acc.fraction_bits + 1:
            found.append((x, y, psum))
    return found[:most]


def _finite(encoding: Encoding, rng: np.random.Generator) -> str:
    codes = FINITE[encoding.name]
    return word(codes[int(rng.integers(len(codes)))], encoding.bits)


def stepped(choice: Choice, left: list[str], right: list[str], psums: list[str]
            ) -> list[str]:
    """Accumulators after one step."""
    config = mac_config(choice)
    x, y = (decode(ENCODINGS[choice[side]], np.array([number(c) for c in codes]))
            for side, codes in (("a", left), ("b", right)))
    if not config.exact_sums:
        acc = accumulate.accumulator_type(config)
        before = from_words(acc, np.array([number(text) for text in psums]))
        return texts(to_words(acc, accumulate.fused_multiply_add(acc, before, x, y)), acc.bits)
    unit = Fraction(2) ** exact.unit_log2(config)
    found = []
    for p, q, text in zip(x.tolist(), y.tolist(), psums, strict=True):
        held = _integer(number(text), config)
        found.append(None if held is None or np.isnan(p * q) else held + int(
            Fraction(p) * Fraction(q) / unit))
    return _exact_texts(config, found)


def _exact_texts(config: AcceleratorConfig, sums: list[int | None]) -> list[str]:
    words = exact.exact_words(np.array(sums, object), config.acc_bits, config.acc == "exact")
    return texts(words, config.acc_bits)


def _integer(raw: int, config: AcceleratorConfig) -> int | None:
    """The integer in an exact accumulator, ``None`` for NaR."""
    bits = config.acc_bits - (config.acc == "exact")
    if raw >> bits:
        return None
    return raw - (1 << bits) if raw >> bits - 1 else raw


def rounding(rng: np.random.Generator) -> File:
    groups = []
    for fmt in FORMATS.values():
        if "exact" in accumulators(fmt):
            choice = {"format": fmt.name, "accumulator": "exact", "lane": fmt.lane.name}
            groups.append(Group(choice, _rounding_cases(choice, rng)))
    for fmt in (FORMATS["posit8"], FORMATS["bf16"]):
        choice = {"format": fmt.name, "accumulator": "fp32", "lane": fmt.lane.name}
        labels, words = lane_classes(BINARY32, rng, 60, 40)
        ties = rng.integers(0, 1 << 16, 30) << 16 | 0x8000
        words = np.concatenate([words, (ties[:, None] + np.array([-1, 0, 1])).ravel()])
        # An accumulator holds neither a subnormal nor a NaN but the canonical one.
        words = to_words(BINARY32, round_to(BINARY32, from_words(BINARY32, words)))
        given = texts(words, 32)
        groups.append(Group(choice, [list(case) for case in zip(
            labels + ["tie"] * 90, given, narrowed(choice, given), strict=True)]))
    choice = {"format": "int8", "accumulator": "int32", "lane": BFLOAT16.name}
    groups.append(Group(choice, _rounding_cases(choice, rng)))
    return File("rounding", "An accumulator rounded once to the type of the lanes.", {
        "accumulator": "as in mac.json", "value": "word of the lane's type"}, groups)


def _rounding_cases(choice: Choice, rng: np.random.Generator) -> list[list[str]]:
    config = mac_config(choice)
    most = config.acc_bits - (1 if config.acc == "int32" else 3)
    sums: list[tuple[str, int | None]] = [("zero", 0), ("smallest", 1), ("smallest", -1)]
    if config.acc == "exact":
        sums.append(("NaR", None))
    sums += [("largest", (1 << most) - 1), ("largest", -(1 << most))]
    for _ in range(48):  # nine significant bits of which the last is set: a tie of BF16
        middle = (int(rng.integers(256, 512)) | 1) << int(rng.integers(1, most - 8))
        sign = int(rng.choice([-1, 1]))
        sums += [("tie", sign * middle), ("tie", sign * middle + 1), ("tie", sign * middle - 1)]
    for _ in range(50):
        bits = int(rng.integers(1, most))
        sums.append(("random", int(rng.choice([-1, 1])) * int.from_bytes(rng.bytes(16), "little")
                     % (1 << bits)))
    given = _exact_texts(config, [total for _, total in sums])
    return [list(case) for case in zip([kind for kind, _ in sums], given,
                                       narrowed(choice, given), strict=True)]


def narrowed(choice: Choice, accumulators: list[str]) -> list[str]:
    config = mac_config(choice)
    raw = [number(text) for text in accumulators]
    if config.exact_sums:
        sums = np.array([_integer(item, config) for item in raw], object)
        return texts(to_words(config.lane, exact.round_exact(config, config.lane, sums)),
                     config.lane.bits)
    acc = {"bf16": BFLOAT16, "fp32": BINARY32}[config.acc]
    return texts(to_words(config.lane, round_to(config.lane, from_words(acc, np.array(raw)))),
                 config.lane.bits)


# Each unit: what draws its file, and what gives a group's results again from its operands.
UNITS: dict[str, tuple[Callable, Callable]] = {
    "decoder": (decoder, lambda choice, given: decoded(ENCODINGS[choice["encoding"]], *given)),
    "encoder": (encoder, lambda choice, given: encoded(
        ENCODINGS[choice["encoding"]], LANES[choice["encoding"]], *given)),
    "multiplier": (multiplier, lambda choice, given: multiplied(
        ENCODINGS[choice["a"]], ENCODINGS[choice["b"]], *given)),
    "mac": (mac, lambda choice, given: stepped(choice, *given)),
    "rounding": (rounding, lambda choice, given: narrowed(choice, *given)),
}
