"""Against torch's autograd on the models of transformers, and against peft: the extra ``autograd``,
which is no part of the set-up."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.description import Linear
from compiler.checkpoints.reference import forward
from compiler.training import names as family_names
from compiler.training.adapters import AdapterSet, load_adapters, merge, save_adapters
from compiler.training.gradients.network import Batch, gradients_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Adapter, Weights
from support.require import module, require

pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24, "max_position_embeddings": 16}
# Of word 0, which pads, autograd leaves out the gradient of the table.
IDS = np.random.default_rng(0).integers(1, 40, (3, 7))
VALID = np.arange(7) < np.array([[7], [4], [6]])


@pytest.fixture
def libs():
    """The three packages, or the end of the test."""
    return SimpleNamespace(**{name: require(module, name)
                              for name in ("torch", "transformers", "peft")})


def bert_config(libs):
    return libs.transformers.BertConfig(**SMALL, hidden_dropout_prob=0.0,
                                   attention_probs_dropout_prob=0.0)


def llama_config(libs):
    return libs.transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=False)


def made(libs, kind, config, folder):
    """The model of transformers in float64, and the same as it is loaded here."""
    libs.torch.manual_seed(1)
    model = kind(config).eval()
    with libs.torch.no_grad():
        for name, values in model.named_parameters():
            values.add_(0.05 * libs.torch.randn_like(values))
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
            "model.norm.weight", "head.weight": "lm_head.weight",
            "head.bias": "cls.predictions.bias",
            "transform.weight": "transform.dense.weight", "transform.bias": "transform.dense.bias",
            "transform_norm.gain": "transform.LayerNorm.weight",
            "transform_norm.shift": "transform.LayerNorm.bias"}
    if name == "embedding.segment":
        return next(values for key, values in own.items()
                    if key.endswith("token_type_embeddings.weight")).grad[0].numpy()
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
    return family_names._LLAMA if family == "llama" else family_names._BERT


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


def test_bert_has_the_gradients_of_autograd(libs, tmp_path):
    model, ours = made(libs, libs.transformers.BertModel, bert_config(libs), tmp_path)
    head = np.random.default_rng(2).normal(0, 1, (3, 16))
    labels = np.array([0, 2, 1])
    states = model(libs.torch.tensor(IDS), libs.torch.tensor(VALID.astype(int))).last_hidden_state
    mask = libs.torch.tensor(VALID)[..., None].double()
    logits = (states * mask).sum(1) / mask.sum(1) @ libs.torch.tensor(head).T
    ours = replace(ours, head=Linear(head), pooling="mean")
    compare(model, ours, Batch(IDS, labels, VALID), "classes",
            libs.torch.nn.functional.cross_entropy(logits, libs.torch.tensor(labels)))


def test_spans_have_the_gradients_of_autograd(libs, tmp_path):
    model, ours = made(libs, libs.transformers.BertModel, bert_config(libs), tmp_path)
    head = np.random.default_rng(2).normal(0, 1, (2, 16))
    labels = np.array([[0, 6], [1, 3], [2, 2]])
    kinds = np.arange(IDS.shape[1]) // 3 % 2 + np.zeros_like(IDS)
    states = model(libs.torch.tensor(IDS), libs.torch.tensor(VALID.astype(int)),
                   libs.torch.tensor(kinds)).last_hidden_state
    hidden = ~libs.torch.tensor(VALID)[..., None]
    logits = (states @ libs.torch.tensor(head).T).masked_fill(hidden, -1e30)
    ends = libs.torch.tensor(labels)
    loss = sum(libs.torch.nn.functional.cross_entropy(logits[..., end], ends[:, end])
               for end in range(2)) / 2
    compare(model, replace(ours, head=Linear(head)), Batch(IDS, labels, VALID, kinds), "spans",
            loss)


def test_llama_has_the_gradients_of_autograd(libs, tmp_path):
    model, ours = made(libs, libs.transformers.LlamaForCausalLM, llama_config(libs), tmp_path)
    labels = libs.torch.tensor(np.where(VALID, IDS, -100))
    loss = model(libs.torch.tensor(IDS), libs.torch.tensor(VALID.astype(int)), labels=labels).loss
    compare(model, ours, Batch(IDS, IDS, VALID), "vocabulary", loss, extra=["head.weight"])


def test_masked_words_have_the_gradients_of_autograd(libs, tmp_path):
    model, ours = made(libs, libs.transformers.BertForMaskedLM, bert_config(libs), tmp_path)
    chosen = VALID & (np.random.default_rng(5).random(IDS.shape) < 0.5)
    loss = model(libs.torch.tensor(IDS), libs.torch.tensor(VALID.astype(int)),
                 labels=libs.torch.tensor(np.where(chosen, IDS, -100))).loss
    compare(model, ours, Batch(IDS, np.where(chosen, IDS, -1), VALID), "tokens", loss,
            extra=["head.bias"])


# peft 0.21 reads what transformers 5.24 is about to rename.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("family", ["bert", "masked", "llama"])
def test_peft_reads_and_writes_the_same_adapters(libs, family, tmp_path):
    kind, config, task = {
        "bert": (libs.transformers.BertModel, bert_config(libs), "FEATURE_EXTRACTION"),
        "masked": (libs.transformers.BertForMaskedLM, bert_config(libs), None),
        "llama": (libs.transformers.LlamaForCausalLM, llama_config(libs), "CAUSAL_LM"),
    }[family]
    model, ours = made(libs, kind, config, tmp_path / "base")
    parts = names(family)
    wrapped = libs.peft.get_peft_model(model, libs.peft.LoraConfig(
        task_type=task, r=3, lora_alpha=6,
        target_modules=family_names.names_of(ours).targets(set(parts))))
    with libs.torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_B" in name:
                values.normal_(0, 0.2)
    wrapped.save_pretrained(tmp_path / "theirs")
    found = load_adapters(tmp_path / "theirs", ours)
    assert len(found.layers) == 2 * len(parts) and found.rank == 3 and found.alpha == 6
    agree(libs, wrapped, merge(ours, found))

    rng = np.random.default_rng(3)
    own = AdapterSet({layer: Adapter(*(rng.normal(0, 0.2, values.shape).astype(np.float32)
                                       for values in (adapter.a, adapter.b)), adapter.scale)
                      for layer, adapter in found.layers.items()})
    save_adapters(tmp_path / "ours", ours, own)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        again = libs.peft.PeftModel.from_pretrained(
            made(libs, kind, config, tmp_path / "base")[0], tmp_path / "ours")
    assert not [one for one in warned if "missing" in str(one.message)]
    agree(libs, again, merge(ours, own))


def agree(libs, wrapped, merged):
    """Both give the same states, or logits, of one sequence."""
    with libs.torch.no_grad():
        out = wrapped.double()(libs.torch.tensor(IDS[:1]))
    wanted = out.logits if hasattr(out, "logits") else out.last_hidden_state
    own = forward(merged, IDS[0]).output
    assert wanted[0].shape == own.shape and np.abs(wanted[0].numpy() - own).max() < 1e-4
