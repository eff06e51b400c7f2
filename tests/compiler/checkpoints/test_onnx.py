"""ONNX files as exporters write them against what onnxruntime computes of them."""

import json
import re
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.onnx.trace import SUPPORTED
from compiler.checkpoints.reference import forward
from support.damage.onnx import placed
from support.onnx_files import FOLDER, NAMES, Op, bert_graph, stored
from support.require import module, require
from tools import onnx_vectors

NEAR = 1e-4
PLAIN = [name for name in NAMES if not name.startswith("int8")]


def apart(model, case):
    """How many values were compared, and the largest difference to onnxruntime's."""
    compared, worst = 0, 0.0
    known = getattr(model.embedding, "segments", None) is not None
    for ids, kinds, outputs in case.runs():
        found = forward(model, ids, segments=kinds if known else None).output
        wanted = (np.stack(outputs[::-1], axis=1) if model.task == "question answering"
                  else outputs[0].reshape(found.shape))
        worst = max(worst, float(abs(found - wanted).max()))
        compared += found.size
        assert abs(found).max() > 0.1
    return compared, worst


@pytest.mark.parametrize("name", PLAIN)
def test_output_is_that_of_onnxruntime(name, tmp_path):
    case = stored(name)
    model = load(case.write(tmp_path))
    compared, worst = apart(model, case)
    print(f"{name}: {compared} values, at most {worst:.1e} apart")
    assert compared > 0 and worst <= NEAR


def test_every_case_is_there():
    assert set(NAMES) == set(onnx_vectors.CASES) and len(PLAIN) >= 19


@pytest.mark.parametrize("name, task, pooling", [
    ("bert-pooled", "features", "mean"), ("bert-sentence", "features", "mean_l2"),
    ("bert-sequence", "sequence classification", "first"), ("bert-token", "token classification",
                                                            "none"),
    ("bert-answer", "question answering", "none"), ("bert-masked", "masked language model", "none"),
    ("bert", "features", "none")])
def test_what_follows_the_layers(name, task, pooling, tmp_path):
    model = load(stored(name).write(tmp_path))
    assert (model.task, model.pooling) == (task, pooling)
    assert model.blocks[0].attention.heads == 4 and model.blocks[0].attention.scale is None


def test_forms_come_from_the_graph(tmp_path):
    models = {name: load(stored(name).write(tmp_path / name)) for name in
              ("bert", "bert-tanh", "bert-relu", "bert-one-head", "bert-fixed", "electra",
               "pre-norm", "distilbert-sequence", "roberta-sequence", "bert-masked")}
    found = {name: model.blocks[1].feed_forward.activation for name, model in models.items()}
    assert (found["bert"], found["bert-tanh"], found["bert-relu"]) == ("gelu", "gelu_tanh", "relu")
    assert models["bert-one-head"].blocks[0].attention.heads == 1
    assert models["bert-fixed"].positions == models["bert"].positions == 16  # its table has so many
    assert models["electra"].embedding.norm_projection is not None
    assert models["pre-norm"].blocks[0].pre_norm and models["pre-norm"].final_norm is not None
    assert models["distilbert-sequence"].transform.activation == "relu"
    assert models["roberta-sequence"].positions == 14  # two rows of padding
    assert models["bert-masked"].head.weight is models["bert-masked"].embedding.table
    assert models["bert"].blocks[0].attention_norm.eps == pytest.approx(1e-12, rel=1e-5)


def test_a_wrong_weight_is_found(tmp_path):
    case = stored("bert")
    content = bytearray(case.content)
    weight = np.ascontiguousarray(load(case.write(tmp_path)).blocks[1].feed_forward.down.weight.T)
    at = content.index(weight.tobytes())
    weight[3, 3] += 0.05
    content[at:at + weight.nbytes] = weight.tobytes()
    assert apart(load(replace(case, content=bytes(content)).write(tmp_path)), case)[1] > NEAR


def test_a_folder_of_a_graph(tmp_path):
    """With labels, words and pooling as they lie beside it; other tensors come first."""
    path = stored("bert-token").write(tmp_path / "token")
    (path.parent / "config.json").write_text(json.dumps(
        {"id2label": {str(index): f"kind {index}" for index in range(5)}}))
    assert load(path.parent).labels == tuple(f"kind {index}" for index in range(5))
    folder = tmp_path / "sentence"
    stored("bert").write(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "modules.json").write_text(json.dumps([
        {"type": "a.Transformer"}, {"type": "a.Pooling", "path": "1_Pooling"}]))
    assert load(folder).pooling == "mean"
    stored("bert").write(tmp_path / "above/onnx")
    assert load(tmp_path / "above").width == 16
    (folder / "model.safetensors").write_bytes(b"?")
    with pytest.raises(CheckpointError, match=r"config.json must be a readable JSON file"):
        load(folder)


# Graphs written here

def test_a_graph_whose_names_say_nothing(tmp_path):
    graph = bert_graph(heads=2)
    model = load(graph.write(tmp_path / "model.onnx"))
    assert (model.width, model.blocks[0].attention.heads, len(model.blocks)) == (8, 2, 1)
    assert np.array_equal(model.blocks[0].attention.query.weight, graph.tensors["t7"].T)
    assert np.array_equal(model.blocks[0].feed_forward.down.bias, graph.tensors["t31"])


def _gelu(op, attributes=(), domain=""):
    graph = bert_graph().with_op("gelu", op=op, inputs=["up"], attributes=dict(attributes),
                                 domain=domain)
    return replace(graph, version=20, ops=[own for own in graph.ops if own.outputs[0] not in (
        "root", "erf", "one", "half")])


@pytest.mark.parametrize("op, attributes, kind", [
    ("Gelu", {}, "gelu"), ("Gelu", {"approximate": "tanh"}, "gelu_tanh"), ("Relu", {}, "relu"),
    ("Tanh", {}, "tanh")])
def test_an_activation_of_one_operator(op, attributes, kind, tmp_path):
    model = load(_gelu(op, attributes).write(tmp_path / "model.onnx"))
    assert model.blocks[0].feed_forward.activation == kind


GRAPHS = {
    "no such operator": (lambda: bert_graph().with_op("gelu", op="Frobnicate"),
                         r"node /gelu \(Frobnicate\) is not supported"),
    "contributed": (lambda: _gelu("QAttention", domain="com.microsoft"),
                    r"node /gelu \(com.microsoft.QAttention\) is not supported: .* MatMulInteger"),
    "convolution": (lambda: bert_graph().with_op("q_product", op="Conv"),
                    r"node /q_product \(Conv"),
    "another activation": (lambda: _gelu("Sigmoid"), r"/gelu \(Sigmoid\) must be one of gelu, "),
    "a circle": (lambda: bert_graph().with_op("sum", inputs=["words", "rows"]),
                 r"node /sum \(Add\) must read what an earlier node gives, not 'rows'"),
    "an output twice": (lambda: bert_graph().with_op("q", outputs=["sum"]), "another name"),
    "no output": (lambda: replace(bert_graph(), outputs=["nothing"]), "output 'nothing' must be"),
    "an output of ids": (lambda: replace(bert_graph(), outputs=["shape"]), "outputs must be what"),
    "no inputs": (lambda: replace(bert_graph(), inputs=[]), "must have inputs, token ids among"),
    "no shapes": (lambda: replace(bert_graph(), shape=None),
                  r"input 'ids' must be whole numbers of sequences × positions, .* of no shape"),
    "other shapes": (lambda: replace(bert_graph(), shape=(1, 3, 224, 224)), "not type 7 of"),
    "inputs of fp32": (lambda: replace(bert_graph(), kind=1), "must be whole numbers"),
    "an old set of operators": (lambda: replace(bert_graph(), version=6), "version 7 to 30, not 6"),
    "a matrix of another shape": (lambda: bert_graph().with_tensor("t7", np.ones(
        (9, 8), np.float32)), r"node /q_product \(MatMul\) must multiply the 9 features"),
    "NaN in a matrix": (lambda: bert_graph().with_tensor("t4", np.full(
        (20, 8), np.nan, np.float32)), "tensor t4 must be finite in fp32, but holds nan"),
    "NaN in a gain": (lambda: bert_graph().with_tensor("t5", np.full(8, np.nan, np.float32)),
                      "8 finite values"),
    "heads of another size": (lambda: bert_graph().with_tensor("t9", np.array([0, 0, 3, 2])),
                              r"node /q_split_heads \(Reshape\) must be what its operator allows"),
    "a shape of 2^40": (lambda: bert_graph().with_tensor("t9", np.array([1 << 40, 0, 2, 4])),
                        "must be what its operator allows"),
    "a mask that hides nothing": (lambda: bert_graph().with_tensor("t19", np.array(
        -1.0, np.float32)), r"node /masked \(Add\) must add -1000 or less"),
    "a bias of scores": (lambda: bert_graph().with_tensor("t16", np.array(1.5, np.float32)),
                         r"node /masked \(Add\) must add 0 to the scores of keys that are seen"),
    "no softmax": (lambda: bert_graph().with_op("weights", op="Relu", attributes={}),
                   r"node /mixed \(MatMul\) must multiply values by a softmax over keys"),
    "a softmax over queries": (lambda: bert_graph().with_op("weights", attributes={"axis": 2}),
                               "must be over the last axis, the keys, not over axis 2"),
    "no residual": (lambda: bert_graph().with_op("second", op="Identity", inputs=["down"]),
                    "must be layers of attention and feed-forward"),
    "a residual of other rows": (lambda: bert_graph().with_op(
        "second", inputs=["embedded", "down"]), "must be added to what it reads"),
    "a file of no name": (lambda: bert_graph().with_tensor("t4", placed(location="a\0b")),
                          r"tensor t4 must lie in .*: embedded null byte"),
    "words beyond the table": (lambda: bert_graph().with_op("places", inputs=["t0", "t9"]),
                               "node /places"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_refused_names_the_node(name, tmp_path):
    make, message = GRAPHS[name]
    with pytest.raises(CheckpointError, match=message) as error:
        list(load(make().write(tmp_path / "model.onnx")).blocks)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_bytes_are_one_line_or_harmless(count, tmp_path):
    """Bytes set, left out and put in, where the graph is more often than where numbers are."""
    rng, refused = np.random.default_rng(count), 0
    sound = [stored(name).content for name in ("bert-split", "bert-dynamo", "bert-sentence",
                                               "roberta-sequence", "int8-qdq", "int8-dynamic")]
    path = tmp_path / "model.onnx"
    for number in range(count):
        data = bytearray(sound[number % len(sound)])
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(30_000 if rng.random() < 0.7 else len(data))
            length = rng.integers(1, 9)
            data[at:at + rng.choice([0, length])] = rng.bytes(rng.choice([0, length]))
        path.write_bytes(data)
        try:
            assert len(list(load(path).blocks)) <= 2
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    print(f"{count} files, {refused} refused")
    assert count / 2 < refused < count


def test_reading_takes_what_the_embedding_weighs(tmp_path):
    path = bert_graph(width=64, heads=4, hidden=2000, words=30_000).write(tmp_path / "model.onnx")
    tracemalloc.start()
    started = time.process_time()
    model = load(path)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    assert len(list(model.blocks)) == 1
    every = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{path.stat().st_size} bytes, {peak} and {every} in memory, {seconds:.2f} s")
    assert seconds < 2 and peak < 1.2 * path.stat().st_size and every < 1.5 * path.stat().st_size


def test_operators_are_those_of_the_page():
    page = (FOLDER.parents[2] / "docs/models.md").read_text(encoding="utf-8")
    table = page.partition("\nOperators, of the sets")[2].partition("\nRefused in one line")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(SUPPORTED)


def test_a_subgraph_is_refused(tmp_path):
    graph = bert_graph()
    ops = [*graph.ops, Op("If", ["rows"], ["chosen"], {})]
    with pytest.raises(CheckpointError, match=r"node /chosen \(If\) is not supported"):
        load(replace(graph, ops=ops, outputs=["chosen"]).write(tmp_path / "model.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_still_computes_that(name):
    require(module, "onnxruntime")
    assert onnx_vectors.differs(name) <= onnx_vectors.NEAR
