"""What a model that hears says: as transformers' ``generate`` has it, and on programs."""

import json
from pathlib import Path

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.speech import FOUND, Speech
from compiler.examples import Example
from hdl.spec.config import AcceleratorConfig
from sim.inference.generate import choose, fp32_greedy, parted
from sim.inference.model import compile
from support.require import module, require
from tools import family_vectors, speech_vectors

STORED = json.loads(speech_vectors.FILE.read_text())


def written(name: str, folder: Path, **changes) -> Path:
    case = STORED[name]
    family_vectors.write(folder, case["config"], case["shapes"])
    (folder / "generation_config.json").write_text(json.dumps(case["generation"] | changes))
    return folder


def heard(model, sound):
    return model.encoder.embedding.of_frames(np.array(sound).T)


@pytest.mark.parametrize("name", STORED)
def test_tokens_are_those_of_transformers(name, tmp_path):
    case, model = STORED[name], load(written(name, tmp_path))
    for sound, wanted in zip(case["sounds"], case["ids"], strict=True):
        source, prompt = parted(model, Example("sound", heard(model, sound)), **case["options"])
        assert fp32_greedy(model, prompt, speech_vectors.NEW, {1}, source) == wanted


@pytest.mark.parametrize("name", ["a language that is found", "german",
                                  "tokens that are never said"])
def test_programs_say_the_same(name, tmp_path):
    case = STORED[name]
    model = compile(written(name, tmp_path), AcceleratorConfig("bf16", dim=4))
    for sound, wanted in zip(case["sounds"], case["ids"], strict=True):
        made = model.generate(heard(model.model, sound), speech_vectors.NEW, stop={1},
                              **case["options"])
        assert list(made.ids) == wanted
        assert FOUND not in made.prompt and made.prompt[0] == 2 and made.prompt[-1] == 26


def test_another_beginning_gives_another_text():
    ids = [json.dumps(STORED[name]["ids"]) for name in STORED]
    assert len(set(ids)) >= 6
    assert len({tuple(one) for name in STORED for one in STORED[name]["ids"]}) > 8


SPEECH = Speech({"en": 20, "de": 21}, {"transcribe": 24, "translate": 23}, (FOUND, 24), 26)


@pytest.mark.parametrize("asked, wanted", [
    ({}, (2, FOUND, 24, 26)), ({"language": "de"}, (2, 21, 24, 26)),
    ({"language": "en", "task": "translate"}, (2, 20, 23, 26)),
    ({"task": "translate"}, (2, FOUND, 23, 26))])
def test_what_a_text_begins_with(asked, wanted):
    assert SPEECH.prompt((2,), **asked) == wanted


def test_of_one_language():
    alone = Speech(forced=(26,), plain=26)
    assert alone.prompt((2,)) == (2, 26) and Speech().prompt((2,)) == (2,)
    with pytest.raises(ValueError, match="language must be left out: this model has one, not 'de'"):
        alone.prompt((2,), "de")
    with pytest.raises(ValueError, match="task must be one of transcribe, translate, not 'sing'"):
        SPEECH.prompt((2,), None, "sing")


@pytest.mark.parametrize("change, message", [
    ({"lang_to_id": [1]}, "lang_to_id must be tokens by name"),
    ({"lang_to_id": {"<|en|>": 30}}, "lang_to_id must be tokens from 0 to 29, not 30"),
    ({"task_to_id": {"transcribe": "x"}}, "task_to_id must be tokens from 0 to 29, not 'x'"),
    ({"suppress_tokens": 4}, "suppress_tokens must be a list of tokens, not 4"),
    ({"suppress_tokens": [-1]}, "suppress_tokens must be a list of tokens"),
    ({"forced_decoder_ids": [[2, 24]]}, "must be pairs of a position, from 1 on, and a token"),
    ({"forced_decoder_ids": [[1, 24], [2, None]]}, "null for the first alone"),
    ({"no_timestamps_token_id": True}, "no_timestamps_token_id must be tokens from 0"),
    ({"language": "xx"}, "language must be one of en, de, fr, not 'xx'")])
def test_odd_files_are_refused_in_one_line(change, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as caught:
        load(written("a language that is found", tmp_path, **change))
    assert "\n" not in str(caught.value) and "generation_config.json" in str(caught.value)


def test_settings_of_the_model_serve_where_there_are_no_others(tmp_path):
    folder = written("german", tmp_path)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"begin_suppress_tokens": [4, 9, 30]}))
    assert load(folder).speech == Speech(never_first=(4, 9))


def test_never_is_never():
    rng = np.random.default_rng(0)
    logits = np.array([3.0, 9.0, 8.0])
    assert choose(logits, 0, rng, [1]) == 2 and choose(logits, 0, rng) == 1
    assert {choose(logits, 2.0, rng, [1, 0]) for _ in range(50)} == {2}
    assert logits[1] == 9.0


def test_who_does_not_hear_speaks_no_language(tmp_path):
    model = compile("random-llama", AcceleratorConfig("bf16", dim=4))
    with pytest.raises(ValueError, match="language and task are for models that hear"):
        model.generate([3, 4], 2, language="en")


@pytest.mark.slow
@pytest.mark.parametrize("name", STORED)
def test_transformers_still_says_that(name):
    require(module, "transformers")
    assert speech_vectors.run(name)["ids"] == STORED[name]["ids"]
