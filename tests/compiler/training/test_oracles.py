"""Against torch's autograd on the models of transformers, and against peft; neither is part of the
project's environment: ``pip install torch transformers peft`` beside it."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.description import Linear
from compiler.checkpoints.reference import forward
from compiler.training.adapters import AdapterSet, load_adapters, merge, save_adapters
from compiler.training.gradients.network import Batch, gradients_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Adapter, Weights
from compiler.training.names import names_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24, "max_position_embeddings": 16}
# Of word 0, which pads, autograd leaves out the gradient of the table.
IDS = np.random.default_rng(0).integers(1, 40, (3, 7))
VALID = np.arange(7) < np.array([[7], [4], [6]])


def bert_config():
    return transformers.BertConfig(**SMALL, hidden_dropout_prob=0.0,
                                   attention_probs_dropout_prob=0.0)


def llama_config():
    return transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=False)


def made(kind, config, folder):
    """The model of transformers in float64, and the same as it is loaded here."""
    torch.manual_seed(1)
    model = kind(config).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            values.add_(0.05 * torch.randn_like(values))
            if "norm" in name.lower() and name.endswith("weight"):
                values.mul_(1.3)
    model.save_pretrained(folder)
    return model.double(), load(folder)


def theirs(model, name):
    """The gradient that torch has for the parameter ``name`` of the description."""
    own = dict(model.named_parameters())
    ends = {"embedding.table": "embed_tokens.weight", "embedding.positions":
            "position_embeddings.weight", "embedding.norm.gain": "embeddings.LayerNorm.weight",
            "embedding.norm.shift": "embeddings.LayerNorm.bias", "final_norm.gain":
            "model.norm.weight", "head.weight": "lm_head.weight"}
    if name == "embedding.segment":
        return own["embeddings.token_type_embeddings.weight"].grad[0].numpy()
    if name == "embedding.table" and not any("embed_tokens" in key for key in own):
        end = "word_embeddings.weight"
    elif name in ends:
        end = ends[name]
    else:
        _, index, part, kind = name.split(".")
        if part.endswith("norm"):
            bert = any("encoder.layer" in key for key in own)
            place = {"attention_norm": ("attention.output.LayerNorm", "input_layernorm"),
                     "feed_forward_norm": (f"layer.{index}.output.LayerNorm",
                                           "post_attention_layernorm")}[part][not bert]
            end = f"{place}.{'weight' if kind == 'gain' else 'bias'}"
        else:
            family = "bert" if any("encoder.layer" in key for key in own) else "llama"
            end = f"{names(family)[part]}.{kind}"
        found = [key for key in own if f".{index}." in key and key.endswith(end)]
        if len(found) > 1:  # output.dense is the end of attention.output.dense
            found = [min(found, key=len)]
        return own[found[0]].grad.numpy()
    return next(values for key, values in own.items() if key.endswith(end)).grad.numpy()


def names(family):
    from compiler.training import names as module
    return {"bert": module._BERT, "llama": module._LLAMA}[family]


def compare(model, ours, batch, kind, loss, extra=()):
    loss.backward()
    arrays = {name: values.astype(np.float64) for name, values in parameters(ours).items()}
    exact = Exact()
    wanted = [name for name in arrays if not name.startswith("head.")] + list(extra)
    own, gradients = gradients_of(ours, Weights(arrays, exact), exact, batch, kind, wanted)
    # transformers computes softmax, RMSNorm and rotary embedding in fp32, whatever the model is in.
    assert own == pytest.approx(loss.item(), rel=1e-6)
    compared, worst = 0, 0.0
    for name in wanted:
        true = theirs(model, name)
        # The gradient of keys' biases is zero in mathematics.
        error = np.abs(gradients[name] - true).max() / max(np.abs(true).max(), 1e-4)
        compared, worst = compared + true.size, max(worst, float(error))
    print(f"{compared} gradients, largest relative error {worst:.1e}")
    assert compared > 3000 and worst < 1e-4


def test_bert_has_the_gradients_of_autograd(tmp_path):
    model, ours = made(transformers.BertModel, bert_config(), tmp_path)
    head = np.random.default_rng(2).normal(0, 1, (3, 16))
    labels = np.array([0, 2, 1])
    states = model(torch.tensor(IDS), torch.tensor(VALID.astype(int))).last_hidden_state
    mask = torch.tensor(VALID)[..., None].double()
    logits = (states * mask).sum(1) / mask.sum(1) @ torch.tensor(head).T
    ours = replace(ours, head=Linear(head), pooling="mean")
    compare(model, ours, Batch(IDS, labels, VALID), "classes",
            torch.nn.functional.cross_entropy(logits, torch.tensor(labels)))


def test_spans_have_the_gradients_of_autograd(tmp_path):
    model, ours = made(transformers.BertModel, bert_config(), tmp_path)
    head = np.random.default_rng(2).normal(0, 1, (2, 16))
    labels = np.array([[0, 6], [1, 3], [2, 2]])
    states = model(torch.tensor(IDS), torch.tensor(VALID.astype(int))).last_hidden_state
    logits = (states @ torch.tensor(head).T).masked_fill(~torch.tensor(VALID)[..., None], -1e30)
    loss = sum(torch.nn.functional.cross_entropy(logits[..., end], torch.tensor(labels[:, end]))
               for end in range(2)) / 2
    compare(model, replace(ours, head=Linear(head)), Batch(IDS, labels, VALID), "spans", loss)


def test_llama_has_the_gradients_of_autograd(tmp_path):
    model, ours = made(transformers.LlamaForCausalLM, llama_config(), tmp_path)
    labels = torch.tensor(np.where(VALID, IDS, -100))
    loss = model(torch.tensor(IDS), torch.tensor(VALID.astype(int)), labels=labels).loss
    compare(model, ours, Batch(IDS, IDS, VALID), "vocabulary", loss, extra=["head.weight"])


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_peft_reads_and_writes_the_same_adapters(family, tmp_path):
    peft = pytest.importorskip("peft")
    kind, config, task = {"bert": (transformers.BertModel, bert_config(), "FEATURE_EXTRACTION"),
                          "llama": (transformers.LlamaForCausalLM, llama_config(), "CAUSAL_LM"),
                          }[family]
    model, ours = made(kind, config, tmp_path / "base")
    parts = names(family)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(
        task_type=task, r=3, lora_alpha=6, target_modules=names_of(ours).targets(set(parts))))
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_B" in name:
                values.normal_(0, 0.2)
    wrapped.save_pretrained(tmp_path / "theirs")
    found = load_adapters(tmp_path / "theirs", ours)
    assert len(found.layers) == 2 * len(parts) and found.rank == 3 and found.alpha == 6
    agree(wrapped, merge(ours, found))

    rng = np.random.default_rng(3)
    own = AdapterSet({layer: Adapter(*(rng.normal(0, 0.2, values.shape).astype(np.float32)
                                       for values in (adapter.a, adapter.b)), adapter.scale)
                      for layer, adapter in found.layers.items()})
    save_adapters(tmp_path / "ours", ours, own)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        again = peft.PeftModel.from_pretrained(
            made(kind, config, tmp_path / "base")[0], tmp_path / "ours")
    assert not [one for one in warned if "missing" in str(one.message)]
    agree(again, merge(ours, own))


def agree(wrapped, merged):
    """Both give the same states, or logits, of one sequence."""
    with torch.no_grad():
        out = wrapped.double()(torch.tensor(IDS[:1]))
    wanted = out.logits if hasattr(out, "logits") else out.last_hidden_state
    own = forward(merged, IDS[0]).output
    assert wanted[0].shape == own.shape and np.abs(wanted[0].numpy() - own).max() < 1e-4
