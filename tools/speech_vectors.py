"""What transformers' ``generate`` says of sounds with small Whispers: ``--renew`` writes it anew.

``tests/golden/speech.json`` holds for each case the settings, the sound and the tokens: languages
that are given and found, tasks, forced tokens, tokens that are never said. Weights are made as
``tools.family_vectors`` makes them. Without ``--renew`` the file is compared with what transformers
gives now. It needs torch and transformers; exit code 1 where tokens differ.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tools.family_vectors import FOLDER, shapes_of, write

FILE = FOLDER.parent / "speech.json"
NEW = 6
CONFIG: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 30,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2,
    "num_mel_bins": 6, "max_source_positions": 5, "max_target_positions": 16}
# As the files of Whisper have it, with small numbers.
_MANY: dict[str, Any] = {
    "is_multilingual": True, "lang_to_id": {"<|en|>": 20, "<|de|>": 21, "<|fr|>": 22},
    "task_to_id": {"transcribe": 24, "translate": 23}, "no_timestamps_token_id": 26,
    "max_length": 16, "return_timestamps": False}
_FORCED = _MANY | {"forced_decoder_ids": [[1, None], [2, 24]]}
_ONE: dict[str, Any] = {"forced_decoder_ids": [[1, 26]], "no_timestamps_token_id": 26,
                        "is_multilingual": False, "max_length": 16, "return_timestamps": False}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "english alone": (_ONE, {}),
    "a language that is found": (_FORCED, {}),
    "no forced tokens": (_MANY, {}),
    "german": (_FORCED, {"language": "de"}),
    "translated": (_FORCED, {"language": "fr", "task": "translate"}),
    "translated from what is found": (_FORCED, {"task": "translate"}),
    "as the file says": (_MANY | {"language": "de", "task": "translate"}, {}),
    "tokens that are never said": (_FORCED, {"suppress_tokens": [5, 15, 23, 27],
                                             "begin_suppress_tokens": [3, 4, 7, 25]}),
}


def frames(seed: int) -> np.ndarray:
    """Bands × frames."""
    return np.round(np.random.default_rng(seed).normal(0, 1, (6, 10)), 3)


def run(name: str) -> dict[str, Any]:
    """A case as it is stored, of four sounds."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    told, options = CASES[name]
    chosen = {key: value for key, value in options.items() if key in ("language", "task")}
    told = told | {key: value for key, value in options.items() if key not in chosen}
    sounds = [frames(seed).tolist() for seed in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        WhisperForConditionalGeneration(WhisperConfig(**CONFIG)).save_pretrained(path)
        shapes = shapes_of(path / "model.safetensors")
        config = json.loads((path / "config.json").read_text())
        write(path, config, shapes)
        ends = {key: CONFIG[key] for key in ("eos_token_id", "pad_token_id", "bos_token_id",
                                             "decoder_start_token_id")}
        (path / "generation_config.json").write_text(json.dumps(told | ends))
        model = WhisperForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager").eval()
        model.generation_config = GenerationConfig.from_pretrained(path)
    with torch.no_grad():
        ids = [model.generate(torch.tensor([sound]), max_new_tokens=NEW, do_sample=False,
                              **chosen)[0].tolist() for sound in sounds]
    return {"config": {key: value for key, value in config.items()
                       if key not in ("transformers_version", "dtype")},
            "generation": told | ends, "options": chosen, "shapes": shapes, "sounds": sounds,
            "ids": ids}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--renew", action="store_true", help="write the file anew")
    arguments = parser.parse_args()
    found = {name: run(name) for name in CASES}
    for name, case in found.items():
        print(f"{name}: {case['ids']}")
    if arguments.renew:
        FILE.write_text(json.dumps(found) + "\n")
        return 0
    stored = json.loads(FILE.read_text())
    wrong = [name for name in CASES if stored[name]["ids"] != found[name]["ids"]]
    print(f"{len(found)} cases, {len(wrong)} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
