"""Scales and codes of quantised ONNX files against what onnxruntime's tools wrote and computed."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import functions, load, reference
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.functions import softmax
from compiler.checkpoints.onnx.scales import load_scales
from compiler.checkpoints.scales import modules
from support.onnx_files import Op, bert_graph, stored

QDQ = ("int8-qdq", "int8-qdq-tensor", "int8-qdq-shifted")
# Of a code. The first layer of `int8-qdq` leaves one value that is 66.499997 codes in onnxruntime,
# which gives it 66, and a step of fp32 above 66.5 here, where sums are in another order. This takes
# it to the same side, and no other code to another.
EDGE = 3e-5
# The products of a layer in the order of the graph: places of what they read, and of weights.
LAYER = [("attention.query", True), ("attention.key", True), ("attention.value", True),
         ("attention", False), ("", False), ("attention.output", True), ("feed_forward.up", True),
         ("feed_forward.down", True)]


def recorded(case, number, side, what):
    return case.values.get(f"product {number} {side} {what}")


@pytest.mark.parametrize("name", [*QDQ, "int8-operators"])
def test_scales_are_those_of_the_file(name, tmp_path):
    case = stored(name)
    path = case.write(tmp_path)
    scales, model, compared = load_scales(path), load(path), 0
    places = [(f"blocks.{index}.{place}", linear) for index in range(2) for place, linear in LAYER]
    if model.head is not None:
        places += [("transform.linear", True), ("head", True)]
    for number, (place, linear) in enumerate(places):
        a, b = (recorded(case, number, side, "scale") for side in "ab")
        if linear:
            assert scales.codes[f"{place}.input"] == a
            assert np.array_equal(scales.codes[f"{place}.weight"], b.reshape(-1))
        elif place.endswith("attention"):
            assert scales.codes[f"{place}.queries"] == a and scales.codes[f"{place}.keys"] == b
        else:  # of probabilities the machine has its own
            assert scales.codes[f"{place}attention.values"] == b
        compared += 2
    print(f"{name}: {compared} scales")
    assert compared == 2 * len(places) and set(scales.codes) == {
        *(f"{place}.{what}" for place, linear in places if linear for what in ("input", "weight")),
        *(f"blocks.{index}.attention.{what}" for index in range(2)
          for what in ("queries", "keys", "values"))}


@pytest.mark.parametrize("name", [*QDQ, "int8-operators", "int8-dynamic", "int8-qdq-zeros"])
def test_weights_are_codes_times_scales(name, tmp_path):
    """Those of products whose codes are recorded: all but the ones found at run time."""
    case = stored(name)
    model, compared = load(case.write(tmp_path)), 0
    for index, block in enumerate(model.blocks):
        parts = {0: block.attention.query, 1: block.attention.key, 2: block.attention.value,
                 5: block.attention.output, 6: block.feed_forward.up, 7: block.feed_forward.down}
        for number, linear in parts.items():
            codes = recorded(case, 8 * index + number, "b", "codes")
            if codes is not None:
                scale = recorded(case, 8 * index + number, "b", "scale")
                assert np.array_equal(linear.weight, (codes * scale).astype(np.float32).T)
                compared += codes.size
    print(f"{name}: {compared} codes")
    assert compared == (0 if name == "int8-dynamic" else 2 * (4 * 256 + 2 * 384))


def quantised(scales, model, case, number_of):
    """The fp32 reference with what its products read rounded to codes as the file has them."""
    places = modules(model, dict(enumerate(model.blocks)))

    def rounded(x, scale):
        return np.clip(np.rint(x / scale - EDGE), -128, 127).astype(np.float32) * np.float32(scale)

    def linear(layer, x):
        place = places.get(id(layer.weight))
        y = rounded(x, scales.of(f"{place}.input")) @ layer.weight.T
        return y if layer.bias is None else y + layer.bias

    def attend(attention, x, cache=None, index=0, values_of=None):
        place = places[id(attention.query.weight)].rpartition(".")[0]
        size = attention.head_size
        q, k, v = (rounded(linear(part, x), scales.of(f"{place}.{name}")).reshape(
            len(x), -1, size) for part, name in ((attention.query, "queries"), (
                attention.key, "keys"), (attention.value, "values")))
        p = softmax(np.einsum("ihd,jhd->hij", q, k) * np.float32(size ** -0.5))
        p = rounded(p, recorded(case, number_of(place), "a", "scale"))
        mixed = np.einsum("hij,jhd->ihd", p, v).reshape(len(x), -1)
        return linear(attention.output, mixed)

    # In such files everything that reads what a product does reads the codes of it.
    follows = {id(model.embedding.norm): "blocks.0.attention.query.input"}
    for index, block in enumerate(model.blocks):
        follows[id(block.attention_norm)] = f"blocks.{index}.feed_forward.up.input"
        if index:
            follows[id(model.blocks[index - 1].feed_forward_norm)] = (
                f"blocks.{index}.attention.query.input")

    def normalise(norm, x):
        y, place = functions.normalise(norm, x), follows.get(id(norm))
        return y if place is None else rounded(y, scales.of(place))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "linear", linear)
        patch.setattr(reference, "normalise", normalise)
        patch.setattr(reference, "attend", attend)
        return [reference.forward(model, ids, segments=kinds).output
                for ids, kinds, _ in case.runs()]


@pytest.mark.parametrize("name", QDQ)
def test_codes_and_scales_give_what_onnxruntime_computes(name, tmp_path):
    case = stored(name)
    path = case.write(tmp_path)
    model = load(path)
    model = replace(model, blocks=tuple(model.blocks))
    scales = load_scales(path)

    def number_of(place):
        return 8 * int(place.split(".")[1]) + 4

    found = quantised(scales, model, case, number_of)
    plain = [reference.forward(model, ids, segments=kinds).output for ids, kinds, _ in case.runs()]
    wanted = [outputs[0].reshape(own.shape) for own, (_, _, outputs) in zip(
        found, case.runs(), strict=True)]
    apart, before = ([np.abs(a - b).max() for a, b in zip(own, wanted, strict=True)]
                     for own in (found, plain))
    print(f"{name}: at most {max(apart):.1e} apart, {max(before):.1e} without codes")
    assert max(apart) < 1e-5 < 1e-2 < min(before)


# Refused, by the node that says it

def test_codes_with_zero_points_are_refused(tmp_path):
    path = stored("int8-qdq-zeros").write(tmp_path)
    assert len(list(load(path).blocks)) == 2
    with pytest.raises(CheckpointError, match=r"node .*QuantizeLinear.* must have the zero point "
                                              r"0 of codes with a sign, 128 .*, not -?\d+ beside"):
        load_scales(path)


def test_symmetric_scales_hold_the_same_range(tmp_path):
    """Of every value that a code of the file stands for."""
    case = stored("int8-qdq-zeros")
    scales, compared = load_scales(case.write(tmp_path), symmetric=True), 0
    for index in range(2):
        for number, (place, linear) in enumerate(LAYER):
            if linear:
                scale, zero = (recorded(case, 8 * index + number, "a", what).astype(float)
                               for what in ("scale", "zero"))
                values = scale * (np.arange(256) - zero)
                own = scales.codes[f"blocks.{index}.{place}.input"][0]
                codes = np.rint(values / own)
                assert abs(codes).max() == 127 and own < 2 * scale + 1e-6
                assert abs(codes * own - values).max() <= 0.51 * own
                compared += len(values)
    print(f"{compared} values, {scales.about['symmetric']} of {len(scales.codes)} scales turned")
    assert compared == 12 * 256 and scales.about["symmetric"] >= 12


def test_scales_found_at_run_time_are_refused(tmp_path):
    path = stored("int8-dynamic").write(tmp_path)
    with pytest.raises(CheckpointError, match=r"DynamicQuantizeLinear\) must give a scale for "
                                              r"blocks.0.attention.query.input that is known"):
        load_scales(path)


def test_products_of_numbers_are_refused(tmp_path):
    path = bert_graph().write(tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"node /q_product \(MatMul\) must read codes"):
        load_scales(path)


def coded(codes, scale, zero, axis=1):
    """The graph with its first matrix as codes."""
    graph = bert_graph()
    ops = [Op("DequantizeLinear", ["codes", "scale", "zero"], ["t7"], {"axis": axis}), *graph.ops]
    return replace(graph.with_tensor("t7", None), ops=ops).with_more(
        codes=codes, scale=np.array(scale, np.float32), zero=np.asarray(zero, codes.dtype))


@pytest.mark.parametrize("kind, zero, low, high, exact", [
    (np.int8, 0, -128, 127, True), (np.uint8, 128, 0, 255, True), (np.uint8, 0, 0, 127, True),
    (np.int8, 5, -100, 100, True), (np.uint8, 100, 0, 255, False), (np.int8, -1, -128, 127, False)])
def test_zero_points_of_weights(kind, zero, low, high, exact, tmp_path):
    """Taken off where 8 bits hold what is left."""
    codes = np.linspace(low, high, 64).astype(kind).reshape(8, 8)
    path = coded(codes, 0.01, zero).write(tmp_path / "model.onnx")
    weight = load(path).blocks[0].attention.query.weight
    assert np.allclose(weight, (codes.astype(int) - zero).T * np.float32(0.01), atol=1e-7)
    with pytest.raises(CheckpointError) as error:
        load_scales(path)
    # What the matrix multiplies has no codes, which is told where the matrix is sound.
    assert ("must read codes with a scale" if exact else "must have codes of -128 to 127 beside "
            "its zero points") in str(error.value)


@pytest.mark.parametrize("scale, zero, axis, message", [
    ([0.01] * 3, [0] * 3, 1, "must have 1 or 8 scales, not 3"),
    ([0.0], [0], 1, "must have scales above 0"), ([np.nan], [0], 1, "must have scales above 0"),
    ([0.01] * 8, [0], 1, "must have a zero point of 8 bits for each scale"),
    ([0.01] * 8, [0] * 8, 5, "must be what its operator allows")])
def test_scales_that_cannot_be(scale, zero, axis, message, tmp_path):
    path = coded(np.ones((8, 8), np.int8), scale, zero, axis).write(tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=rf"node /t7 \(DequantizeLinear\) {message}"):
        load(path)
