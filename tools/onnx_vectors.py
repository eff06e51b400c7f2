"""What onnxruntime computes of small ONNX files: ``--renew`` writes both anew.

``tests/golden/onnx`` holds for each case a zip: ``model.onnx`` as exporters and quantisers write
it, and ``expected.npz`` with its inputs and outputs. Small models are made by transformers and
exported by torch, in both of its ways, and quantised by onnxruntime's own tools. Of quantised files
``expected.npz`` has scales, zero points and codes of each product too, in the graph's order.
Without ``--renew`` the files are run again and compared. It needs torch, transformers, onnx,
onnxscript and onnxruntime; exit code 1 where an output differs.
"""

import argparse
import io
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools.family_vectors import weight

FOLDER = Path(__file__).resolve().parent.parent / "tests/golden/onnx"
NEAR = 1e-5
_SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
          "intermediate_size": 24, "vocab_size": 30, "max_position_embeddings": 16}
_DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "vocab_size": 30,
           "max_position_embeddings": 16}
_IDS = np.array([[3, 17, 29, 5, 3, 21, 8], [9, 4, 4, 25, 11, 0, 0]])
_LENGTHS = (7, 5)

# Model class, settings, how it is exported ("split" norms are those before operator set 17), and
# what is made of it: names of ``_MADE``.
CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "bert-split": ("BertModel", _SMALL, "split", ""),
    "bert": ("BertModel", _SMALL, "whole", ""),
    "bert-dynamo": ("BertModel", _SMALL, "dynamo", ""),
    "bert-sdpa": ("BertModel", _SMALL | {"attn_implementation": "sdpa"}, "dynamo", ""),
    "bert-pooled": ("BertModel", _SMALL, "whole", "mean"),
    "bert-sentence": ("BertModel", _SMALL, "split", "sentence"),
    "bert-one-head": ("BertModel", _SMALL | {"num_attention_heads": 1}, "whole", ""),
    "bert-fixed": ("BertModel", _SMALL, "fixed", ""),
    "bert-tanh": ("BertModel", _SMALL | {"hidden_act": "gelu_new"}, "split", ""),
    "bert-relu": ("BertModel", _SMALL | {"hidden_act": "relu"}, "whole", ""),
    "bert-sequence": ("BertForSequenceClassification", _SMALL | {"num_labels": 3}, "split", ""),
    "bert-token": ("BertForTokenClassification", _SMALL | {"num_labels": 5}, "whole", ""),
    "bert-answer": ("BertForQuestionAnswering", _SMALL, "split", ""),
    "bert-masked": ("BertForMaskedLM", _SMALL, "whole", ""),
    "roberta-sequence": ("RobertaForSequenceClassification",
                         _SMALL | {"type_vocab_size": 1, "num_labels": 2}, "split", ""),
    "distilbert-sequence": ("DistilBertForSequenceClassification", _DISTIL, "split", ""),
    "electra": ("ElectraModel", _SMALL | {"embedding_size": 12}, "whole", ""),
    "electra-discriminator": ("ElectraForPreTraining", _SMALL | {"embedding_size": 12}, "whole",
                              ""),
    "albert": ("AlbertModel", _SMALL | {"embedding_size": 12}, "split", ""),
    "pre-norm": ("RobertaPreLayerNormModel", _SMALL | {"type_vocab_size": 1}, "whole", ""),
    "int8-dynamic": ("BertModel", _SMALL, "split", "dynamic"),
    "int8-qdq": ("BertModel", _SMALL, "whole", "qdq"),
    "int8-qdq-tensor": ("BertForSequenceClassification", _SMALL, "split", "qdq-tensor"),
    "int8-qdq-shifted": ("BertModel", _SMALL, "dynamo", "qdq-shifted"),
    "int8-qdq-zeros": ("BertModel", _SMALL, "whole", "qdq-zeros"),
    "int8-operators": ("BertModel", _SMALL, "split", "operators"),
}


def _inputs(names: list[str], row: int) -> dict[str, np.ndarray]:
    """A sequence without what pads it."""
    ids = _IDS[row:row + 1, :_LENGTHS[row]]
    kinds = (np.arange(ids.shape[1]) >= 4).astype(np.int64)[None] * (row == 0)
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": kinds}
    return {name: known[name] for name in names}


def _module(name: str, settings: dict[str, Any], made: str) -> tuple[Any, list[str]]:
    """The model with the weights of the recipe, from ids and masks to tensors."""
    import torch
    import transformers

    kind = getattr(transformers, name)
    own = {"attn_implementation": "eager", **settings}
    model = kind(kind.config_class(**own)).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.tensor(weight(key, tuple(tensor.shape))))
    kinds = "Distil" not in name and own.get("type_vocab_size", 2) > 1

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids=None):
            given = {"token_type_ids": token_type_ids} if kinds else {}
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **given)
            if "start_logits" in out:
                return out.start_logits, out.end_logits
            if "logits" in out:
                return out.logits
            rows = out.last_hidden_state
            if made not in ("mean", "sentence"):
                return rows
            valid = attention_mask.unsqueeze(-1).expand(rows.size()).float()
            mean = (rows * valid).sum(1) / torch.clamp(valid.sum(1), min=1e-9)
            if made == "mean":
                return rows, mean
            return rows, torch.nn.functional.normalize(mean, p=2, dim=1)

    names = ["input_ids", "attention_mask", *(["token_type_ids"] if kinds else [])]
    return Wrapped().eval(), names


def _exported(name: str, folder: Path) -> Path:
    """The file that torch writes."""
    import onnx
    import torch

    kind, settings, way, made = CASES[name]
    module, names = _module(kind, settings, made)
    path = folder / "model.onnx"
    length = _LENGTHS[0]
    ids = torch.tensor(_IDS[:, :length])
    mask = torch.tensor((np.arange(length)[None] < np.array(_LENGTHS)[:, None]).astype(np.int64))
    given = (ids, mask, torch.zeros_like(ids))[:len(names)]
    free = {own: {0: "batch", 1: "sequence"} for own in names}
    if way == "dynamo":
        torch.onnx.export(module, given, path, input_names=names, dynamo=True, opset_version=18,
                          dynamic_shapes=free, external_data=False, verbose=False)
    else:
        first = tuple(own[:1] for own in given) if way == "fixed" else given
        torch.onnx.export(module, first, path, input_names=names, dynamo=False,
                          dynamic_axes=None if way == "fixed" else free,
                          opset_version=14 if way == "split" else 17)
    model = onnx.load(path)
    model.graph.ClearField("value_info")
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    onnx.save(model, path)
    return path


def _quantised(path: Path, made: str, names: list[str]) -> Path:
    """The file that onnxruntime's tools make of it."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[dict] = iter([_inputs(names, row) for row in (0, 1)])

        def get_next(self) -> dict | None:
            return next(self.left, None)

    ready, target = path.with_name("ready.onnx"), path.with_name("quantised.onnx")
    quant_pre_process(path, ready, skip_optimization=True, skip_symbolic_shape=True)
    if made == "dynamic":
        quantization.quantize_dynamic(ready, target, weight_type=quantization.QuantType.QInt8,
                                      per_channel=True)
        return target
    signed, unsigned = quantization.QuantType.QInt8, quantization.QuantType.QUInt8
    quantization.quantize_static(
        ready, target, Reader(), quant_format=quantization.QuantFormat.QOperator
        if made == "operators" else quantization.QuantFormat.QDQ,
        per_channel=made in ("qdq", "qdq-shifted"), op_types_to_quantize=[
            "MatMul", *(["Gemm"] if made == "qdq-tensor" else [])],
        activation_type=unsigned if made in ("qdq-shifted", "qdq-zeros") else signed,
        weight_type=signed, extra_options={
            "ActivationSymmetric": made != "qdq-zeros", "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]})
    return target


_MADE = ("dynamic", "qdq", "qdq-tensor", "qdq-shifted", "qdq-zeros", "operators")


def _codes(content: bytes) -> dict[str, np.ndarray]:
    """Scale, zero point and, of the file's own, codes of both sides of each product, as they stand
    in the graph's order."""
    import onnx

    graph = onnx.load_from_string(content).graph
    known = {own.name: onnx.numpy_helper.to_array(own) for own in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    found: dict[str, np.ndarray] = {}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "QLinearMatMul")]
    for number, node in enumerate(products):
        if node.op_type == "QLinearMatMul":
            sides = {"a": list(node.input[:3]), "b": list(node.input[3:6])}
        else:
            sides = {side: list(makers[name].input) if name in makers else [name]
                     for side, name in zip("ab", node.input[:2], strict=True)}
        for side, names in sides.items():
            for what, name in zip(("codes", "scale", "zero"), names, strict=False):
                if name in known:
                    found[f"product {number} {side} {what}"] = known[name]
    return found


def session_of(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def run(content: bytes, inputs: Callable[[list[str]], list[Mapping[str, np.ndarray]]]
         ) -> dict[str, np.ndarray]:
    """Inputs and outputs by number and name; onnxruntime computes as the file says."""
    session = session_of(content)
    found: dict[str, np.ndarray] = {}
    outputs = [own.name for own in session.get_outputs()]
    for number, given in enumerate(inputs([own.name for own in session.get_inputs()])):
        found |= {f"{number} {own}": values for own, values in given.items()}
        found |= {f"{number} {own}": values.astype(np.float32) for own, values in zip(
            outputs, session.run(None, dict(given)), strict=True)
            if np.issubdtype(values.dtype, np.floating)}
    return found


def made(name: str) -> bytes:
    """The file of a case, made anew."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = _exported(name, Path(folder))
        if CASES[name][3] in _MADE:
            _, names = _module(*CASES[name][:2], "")
            path = _quantised(path, CASES[name][3], names)
        return path.read_bytes()


def stored(path: Path) -> tuple[bytes, dict[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        with np.load(io.BytesIO(archive.read("expected.npz"))) as arrays:
            return archive.read("model.onnx"), dict(arrays)


def _write(path: Path, content: bytes, found: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(found))  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, own in (("model.onnx", content), ("expected.npz", buffer.getvalue())):
            archive.writestr(zipfile.ZipInfo(name), own, zipfile.ZIP_DEFLATED)


def _own_inputs(name: str) -> Callable:
    rows = (0,) if CASES[name][2] == "fixed" else (0, 1)
    return lambda names: [_inputs(names, row) for row in rows]


def differs(name: str) -> float:
    """How far apart what onnxruntime gives now and what is stored are."""
    content, expected = stored(FOLDER / f"{name}.zip")
    found = run(content, _own_inputs(name))
    return max(float(abs(found[key] - expected[key]).max()) for key in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--renew", action="store_true", help="write the files anew")
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(CASES)} (all)")
    arguments = parser.parse_args()
    wrong = sorted(set(arguments.names) - set(CASES))
    if wrong:
        parser.error(f"names must be some of {', '.join(CASES)}, not {wrong[0]!r}")
    differing = 0
    for name in arguments.names or CASES:
        path = FOLDER / f"{name}.zip"
        if arguments.renew:
            content = made(name)
            found = run(content, _own_inputs(name))
            if CASES[name][3] in _MADE:
                found |= _codes(content)
            _write(path, content, found)
            print(f"{path.name}: {len(content)} bytes, {path.stat().st_size} in the zip")
            continue
        apart = differs(name)
        differing += int(apart > NEAR)
        print(f"{name}: at most {apart:.1e} apart")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
