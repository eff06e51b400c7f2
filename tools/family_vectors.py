"""What transformers computes for small checkpoints of every family: ``--renew`` writes it anew.

``tests/golden/families`` holds for each case the settings, the names and shapes of the tensors as
``save_pretrained`` writes them, the inputs and the results. Weights are none of it: ``weight``
makes each from its name. Without ``--renew`` the files are compared with what transformers gives
now. ``--width`` makes wider checkpoints, in a ``--folder`` of their own, which tests take where
``OTTAVA_FAMILIES`` names it. It needs torch and transformers, and nothing of this project; exit
code 1 where a result differs.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "tests/golden/families"
# What fp32 forwards of other orders of summation may differ by.
NEAR = 1e-5
_SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48,
          "num_attention_heads": 4, "vocab_size": 30, "max_position_embeddings": 24}
_DECODER = _SMALL | {"num_key_value_heads": 2, "eos_token_id": 1, "bos_token_id": 0,
                     "pad_token_id": None}
_DISTIL = {"n_layers": 2, "dim": 32, "hidden_dim": 48, "n_heads": 4, "vocab_size": 30,
           "max_position_embeddings": 24}
_GPT2 = {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 24, "vocab_size": 30,
         "bos_token_id": 0, "eos_token_id": 1}
_OPT = {"num_hidden_layers": 2, "hidden_size": 32, "ffn_dim": 48, "num_attention_heads": 4,
        "vocab_size": 30, "max_position_embeddings": 24, "word_embed_proj_dim": 32,
        "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
_MOBILE = _SMALL | {"embedding_size": 12, "intra_bottleneck_size": 16,
                    "num_feedforward_networks": 3}
_MODERN = _SMALL | {"local_attention": 4, "pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1,
                    "cls_token_id": 0, "sep_token_id": 1,
                    "layer_types": ["full_attention", "sliding_attention"]}
_ENCODED = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 30,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
_T5 = {"d_model": 32, "d_kv": 12, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2,
       "num_heads": 4, "vocab_size": 30}
_VISION = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48,
           "num_attention_heads": 4, "image_size": 8, "patch_size": 4, "num_channels": 3}
_ROPE = {"rope_theta": 500.0}
WIDTH = 32
_WIDTHS = frozenset((
    "hidden_size", "intermediate_size", "dim", "hidden_dim", "n_embd", "ffn_dim", "d_model",
    "word_embed_proj_dim", "embedding_size", "intra_bottleneck_size", "encoder_ffn_dim",
    "decoder_ffn_dim", "d_kv", "d_ff", "head_dim", "rotary_dim", "projection_dim"))
_PAIRS = frozenset(("short_factor", "long_factor"))  # lists of an item for each pair of a head


def _case(model: str, settings: Mapping[str, Any], **inputs: Any) -> tuple[str, dict, dict]:
    return model, dict(settings), inputs


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "bert": _case("BertModel", _SMALL),
    "bert-question-answering": _case("BertForQuestionAnswering", _SMALL, segments=True),
    "bert-sequence": _case("BertForSequenceClassification", _SMALL | {"num_labels": 3}),
    "bert-token": _case("BertForTokenClassification", _SMALL | {"num_labels": 5}),
    "bert-masked": _case("BertForMaskedLM", _SMALL),
    "roberta-masked": _case("RobertaForMaskedLM", _SMALL | {"type_vocab_size": 1}),
    "xlm-roberta-sequence": _case("XLMRobertaForSequenceClassification",
                                  _SMALL | {"type_vocab_size": 1}),
    "camembert-token": _case("CamembertForTokenClassification", _SMALL),
    "electra": _case("ElectraModel", _SMALL | {"embedding_size": 20}),
    "electra-masked": _case("ElectraForMaskedLM", _SMALL | {"embedding_size": 20}),
    "electra-sequence": _case("ElectraForSequenceClassification", _SMALL | {"embedding_size": 32}),
    "electra-discriminator": _case("ElectraForPreTraining", _SMALL | {"embedding_size": 20}),
    "distilbert": _case("DistilBertModel", _DISTIL),
    "distilbert-question-answering": _case("DistilBertForQuestionAnswering", _DISTIL),
    "distilbert-sequence": _case("DistilBertForSequenceClassification", _DISTIL),
    "distilbert-masked": _case("DistilBertForMaskedLM", _DISTIL),
    "albert-masked": _case("AlbertForMaskedLM", _SMALL | {"embedding_size": 20}),
    "albert-sequence": _case("AlbertForSequenceClassification", _SMALL | {
        "embedding_size": 32, "num_hidden_groups": 2, "inner_group_num": 2}),
    "mpnet": _case("MPNetModel", _SMALL),
    "mpnet-masked": _case("MPNetForMaskedLM", _SMALL),
    "mpnet-sequence": _case("MPNetForSequenceClassification", _SMALL),
    "mobilebert": _case("MobileBertModel", _MOBILE),
    "mobilebert-masked": _case("MobileBertForMaskedLM", _MOBILE),
    "mobilebert-question-answering": _case("MobileBertForQuestionAnswering", _MOBILE,
                                           segments=True),
    "mobilebert-tiny-sequence": _case("MobileBertForSequenceClassification", _MOBILE | {
        "use_bottleneck_attention": True, "key_query_shared_bottleneck": False,
        "num_feedforward_networks": 1}),
    "modernbert-masked": _case("ModernBertForMaskedLM", _MODERN),
    "modernbert-sequence": _case("ModernBertForSequenceClassification", _MODERN | {
        "classifier_pooling": "mean", "layer_types": ["sliding_attention", "full_attention"]}),
    "nomic-masked": _case("NomicBertForMaskedLM", _SMALL),
    "nomic": _case("NomicBertModel", _SMALL | {"rope_parameters": {
        "rope_type": "default", **_ROPE}}, segments=True),
    "whisper": _case("WhisperForConditionalGeneration", _ENCODED | {
        "num_mel_bins": 6, "max_source_positions": 5, "max_target_positions": 12},
        frames=(6, 10)),
    "bart": _case("BartForConditionalGeneration", _ENCODED | {"max_position_embeddings": 12},
                  source=[9, 4, 4, 25, 11]),
    "marian": _case("MarianMTModel", _ENCODED | {
        "max_position_embeddings": 12, "decoder_vocab_size": 30, "scale_embedding": True,
        "activation_function": "swish"}, source=[9, 4, 4, 25, 11]),
    "t5": _case("T5ForConditionalGeneration", _T5, source=[9, 4, 4, 25, 11]),
    "t5-gated": _case("T5ForConditionalGeneration", _T5 | {
        "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 6}, source=[9, 4, 4, 25, 11]),
    "vit": _case("ViTModel", _VISION, pixels=(3, 8, 8)),
    "vit-classes": _case("ViTForImageClassification", _VISION | {"qkv_bias": False},
                         pixels=(3, 8, 8)),
    "deit-classes": _case("DeiTForImageClassification", _VISION, pixels=(3, 8, 8)),
    "deit-teacher": _case("DeiTForImageClassificationWithTeacher", _VISION | {"num_labels": 3},
                          pixels=(3, 8, 8)),
    "clip-vision": _case("CLIPVisionModel", _VISION, pixels=(3, 8, 8)),
    "clip-vision-projection": _case("CLIPVisionModelWithProjection",
                                    _VISION | {"projection_dim": 12}, pixels=(3, 8, 8)),
    "clip": _case("CLIPModel", {
        "vision_config": _VISION, "projection_dim": 12, "text_config": _SMALL | {
            "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 2}}, pixels=(3, 8, 8)),
    "llama": _case("LlamaForCausalLM", _DECODER | {"rope_parameters": {
        "rope_type": "default", **_ROPE}}),
    "llama-linear": _case("LlamaForCausalLM", _DECODER | {"rope_parameters": {
        "rope_type": "linear", "factor": 4.0, **_ROPE}}),
    "llama-dynamic": _case("LlamaForCausalLM", _DECODER | {"rope_parameters": {
        "rope_type": "dynamic", "factor": 4.0, **_ROPE}}),
    "llama-yarn": _case("LlamaForCausalLM", _DECODER | {"rope_parameters": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6, **_ROPE}}),
    "llama-3": _case("LlamaForCausalLM", _DECODER | {"rope_parameters": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 12, **_ROPE}}),
    "llama-sequence": _case("LlamaForSequenceClassification", _DECODER | {"pad_token_id": 2}),
    "mistral": _case("MistralForCausalLM", _DECODER | {"sliding_window": 3}),
    "qwen2": _case("Qwen2ForCausalLM", _DECODER | {
        "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    "qwen3": _case("Qwen3ForCausalLM", _DECODER | {"head_dim": 12}),
    "bloom": _case("BloomForCausalLM", {
        "hidden_size": 36, "n_layer": 2, "n_head": 6, "vocab_size": 30, "pad_token_id": 2,
        "bos_token_id": 0, "eos_token_id": 1}),
    "gpt2": _case("GPT2LMHeadModel", _GPT2),
    "gpt2-sequence": _case("GPT2ForSequenceClassification", _GPT2 | {"pad_token_id": 2}),
    "gptj": _case("GPTJForCausalLM", _GPT2 | {"rotary_dim": 4, "n_head": 2}),
    "opt": _case("OPTForCausalLM", _OPT),
    "opt-after": _case("OPTForCausalLM", _OPT | {
        "do_layer_norm_before": False, "word_embed_proj_dim": 20}),
    "neox": _case("GPTNeoXForCausalLM", _DECODER | {"rotary_pct": 0.25, "num_attention_heads": 2}),
    "neox-serial": _case("GPTNeoXForCausalLM", _DECODER | {
        "rotary_pct": 0.5, "use_parallel_residual": False}),
    "gemma": _case("GemmaForCausalLM", _DECODER | {"head_dim": 12}),
    "gemma2": _case("Gemma2ForCausalLM", _DECODER | {
        "head_dim": 8, "sliding_window": 3, "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": _case("Gemma3ForCausalLM", _DECODER | {
        "head_dim": 8, "sliding_window": 3, "query_pre_attn_scalar": 12,
        "layer_types": ["sliding_attention", "full_attention"]}),
    "phi": _case("PhiForCausalLM", _DECODER | {"rope_parameters": {
        "rope_type": "default", "partial_rotary_factor": 0.5, **_ROPE}}),
    "phi3": _case("Phi3ForCausalLM", _DECODER | {"pad_token_id": 2, "sliding_window": 4}),
    "phi3-long": _case("Phi3ForCausalLM", _DECODER | {
        "pad_token_id": 2, "original_max_position_embeddings": 12, "rope_parameters": {
            "rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0, 3.0],
            "long_factor": [2.0, 4.0, 4.0, 8.0], **_ROPE}}),
    "stablelm": _case("StableLmForCausalLM", _DECODER | {"use_qkv_bias": True}),
    "starcoder2": _case("Starcoder2ForCausalLM", _DECODER | {"sliding_window": 4}),
    "arcee": _case("ArceeForCausalLM", _DECODER),
    "nemotron": _case("NemotronForCausalLM", _DECODER),
    "granite": _case("GraniteForCausalLM", _DECODER | {
        "embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5,
        "attention_multiplier": 0.4}),
    "olmo2": _case("Olmo2ForCausalLM", _DECODER),
    "cohere": _case("CohereForCausalLM", _DECODER | {"logit_scale": 0.5}),
    "smollm3": _case("SmolLM3ForCausalLM", _DECODER | {"no_rope_layers": [1, 0]}),
}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor ``name`` in fp32: gains about 1, all else about 0, results of layers about 1."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.normal(0, 1, shape)
    if len(shape) == 1:
        gain = name.endswith(("weight", "gamma"))
        return (gain + 0.2 * values).astype(np.float32)
    table = "embed" in name or name.endswith(("wte.weight", "wpe.weight"))
    scale = 0.5 if table else np.prod(shape[1:]) ** -0.5
    return np.asarray(scale * values, np.float32)


def write(folder: Path, config: dict[str, Any], shapes: Mapping[str, list[int]]) -> Path:
    """A checkpoint with the weights of the recipe."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: weight(name, tuple(shape)) for name, shape in shapes.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _inputs(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Seven token ids, or whatever a case has."""
    ids = [3, 17, 29, 5, 3, 21, 8]
    found: dict[str, Any] = {"ids": ids, **given}
    if given.get("segments") is True:
        found["segments"] = [0, 0, 0, 1, 1, 1, 1]
    if "pixels" in given:
        found.pop("ids")
        rng = np.random.default_rng(7)
        found["pixels"] = np.round(rng.normal(0, 1, given["pixels"]), 3).tolist()
    if "frames" in given:
        rng = np.random.default_rng(8)
        found["frames"] = np.round(rng.normal(0, 1, given["frames"]), 3).tolist()
    return found


def _wider(settings: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The same with ``times`` the widths, heads as many."""
    return {key: _wider(value, times) if isinstance(value, dict)
            else value * times if key in _WIDTHS | _PAIRS else value
            for key, value in settings.items()}


def run(name: str, width: int = WIDTH) -> dict[str, Any]:
    """The case as it is stored, by transformers; ``width`` in place of its 32."""
    import torch
    import transformers

    class_name, settings, given = CASES[name]
    settings = _wider(settings, width // WIDTH)
    made = getattr(transformers, class_name)
    config = made.config_class(**settings)
    inputs = _inputs(settings, given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        made(config).save_pretrained(path)
        shapes = shapes_of(path / "model.safetensors")
        stored = json.loads((path / "config.json").read_text())
        write(path, stored, shapes)
        model = made.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    first = "input_ids" if not {"source", "frames"} & set(inputs) else "decoder_input_ids"
    tensors = {first: inputs.get("ids"), "token_type_ids": inputs.get("segments"),
               "pixel_values": inputs.get("pixels"), "input_features": inputs.get("frames")}
    if "source" in inputs:
        tensors["input_ids"] = inputs["source"]
    run = model.get_image_features if class_name == "CLIPModel" else model
    with torch.no_grad():
        out = run(**{key: torch.tensor([value]) for key, value in tensors.items()
                     if value is not None})
    return {"config": {key: value for key, value in stored.items()
                       if key not in ("transformers_version", "dtype")},
            "shapes": shapes, "inputs": inputs, "output": _output(out, class_name)}


def shapes_of(path: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118


def _output(out: Any, class_name: str) -> list[list[float]]:
    """Rows of the head's results, or of the last layer's."""
    if "start_logits" in out:
        values = np.stack([out.start_logits[0].numpy(), out.end_logits[0].numpy()], axis=1)
    else:
        keys = ["logits", "image_embeds", "last_hidden_state"]
        if class_name in ("CLIPVisionModel", "CLIPModel"):  # their last norm is of the first alone
            keys = ["pooler_output"]
        values = next(out[key][0].numpy() for key in keys if key in out)
    if class_name.endswith("ForPreTraining"):  # one result a position
        values = values[:, None]
    return np.round(np.atleast_2d(values.astype(np.float64)), 6).tolist()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--renew", action="store_true", help="write the files anew")
    parser.add_argument("--width", type=int, default=WIDTH, metavar="N",
                        help=f"of the models, a multiple of {WIDTH} ({WIDTH})")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR",
                        help="where the files are (tests/golden/families)")
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(CASES)} (all)")
    arguments = parser.parse_args()
    if arguments.width < WIDTH or arguments.width % WIDTH:
        parser.error(f"width must be a multiple of {WIDTH}, not {arguments.width}")
    if arguments.width != WIDTH and arguments.folder.resolve() == FOLDER:
        parser.error(f"a width of {arguments.width} needs a --folder of its own")
    wrong = sorted(set(arguments.names) - set(CASES))
    if wrong:
        parser.error(f"names must be some of {', '.join(CASES)}, not {wrong[0]!r}")
    differing = 0
    for name in arguments.names or CASES:
        found, path = run(name, arguments.width), arguments.folder / f"{name}.json"
        if arguments.renew:
            arguments.folder.mkdir(exist_ok=True)
            path.write_text(json.dumps(found) + "\n")
            print(f"{path.name}: {len(found['shapes'])} tensors, {path.stat().st_size} bytes")
            continue
        stored = json.loads(path.read_text())
        shape = np.shape(stored["output"]) == np.shape(found["output"])
        apart = np.abs(np.subtract(stored["output"], found["output"])).max() if shape else np.inf
        differing += int(apart > NEAR)
        print(f"{name}: {np.size(found['output'])} results, at most {apart:.1e} apart")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
