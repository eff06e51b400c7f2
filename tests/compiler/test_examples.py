import argparse

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler import examples
from compiler.checkpoints import load
from compiler.checkpoints.digits import DRAWN, patches
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, llama, vit
from compiler.examples import add_input_flags, batches, examples_of, from_texts, own_examples


@pytest.fixture
def words(monkeypatch):
    """A tokenizer of six words with marks around texts and pairs."""
    made = Tokenizer(models.WordLevel({"[C]": 0, "[S]": 1, "?": 2, "good": 3, "bad": 4, "film": 5},
                                      unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        "[C] $A [S]", "[C] $A [S] $B:1 [S]:1", [("[C]", 0), ("[S]", 1)])
    monkeypatch.setattr(examples.registry, "tokenizer", lambda *_, **__: made)
    return made


def given(model, *arguments, name="model", tokens=None):
    parser = argparse.ArgumentParser()
    add_input_flags(parser)
    options = parser.parse_args([*map(str, arguments)])
    options.model, options.offline, options.tokens = name, True, tokens
    return own_examples(options, model)


def test_texts_of_the_command_line_and_of_files(words, tmp_path):
    path = tmp_path / "texts"
    path.write_bytes("﻿good film\n\n  \nfilm\r\nbad\n".encode())
    found = given(bert(), "--text", "good bad", "--text-file", path)
    assert [example.values.tolist() for example in found] == [
        [0, 3, 4, 1], [0, 3, 5, 1], [0, 5, 1], [0, 4, 1]]
    assert [example.name for example in found] == [
        "text", f"{path}, line 1", f"{path}, line 4", f"{path}, line 5"]
    assert found[0].spans == ((None, 0, 0), (0, 0, 4), (0, 5, 8), (None, 0, 0))
    cut, = given(bert(), "--text", "good bad film", tokens=3)
    assert cut.values.tolist() == [0, 3, 1]


def test_pairs(words):
    from dataclasses import replace
    model = bert()
    one, = given(model, "--text", "good", "--context", "bad film")
    assert one.values.tolist() == [0, 3, 1, 4, 5, 1] and one.segments is None
    kinds = np.ones((2, 12), np.float32)
    model = replace(model, embedding=replace(model.embedding, segments=kinds))
    found = given(model, "--text", "good", "--text", "good bad", "--context", "bad film")
    assert found[0].segments.tolist() == [0, 0, 0, 1, 1, 1] and found[0].context == "bad film"
    (_, inputs), = batches(found, 2)
    assert inputs.segments.tolist() == [[0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1]]
    assert inputs.valid.sum() == 13


def test_ids(tmp_path):
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5], [6, -1, -1]]))
    found = given(llama(), "--ids", tmp_path / "ids.npy")
    assert [example.values.tolist() for example in found] == [[3, 4, 5], [6]]
    (own, inputs), = batches(found, 5)
    assert own == range(2) and inputs.kind == "ids"
    assert inputs.values.tolist() == [[3, 4, 5], [6, 0, 0]]
    assert inputs.valid.tolist() == [[True] * 3, [True, False, False]]
    assert [len(own) for own, _ in batches(found, 1)] == [1, 1]
    assert next(batches(found, 1))[1].valid is None


def test_images(tmp_path):
    model = load("digits-vit")
    np.save(tmp_path / "pixels.npy", DRAWN[3])
    np.save(tmp_path / "patches.npy", patches(DRAWN[3]))
    large = np.kron(DRAWN[3], np.ones((5, 5))) * 255 / 16
    Image.fromarray(large.round().astype(np.uint8)).save(tmp_path / "x.png")
    found = given(model, *(part for name in ("pixels.npy", "patches.npy", "x.png")
                           for part in ("--image", tmp_path / name)), name="digits-vit")
    for example in found:
        assert np.allclose(example.values, patches(DRAWN[3]), atol=3e-3)
    assert next(batches(found, 3))[1].values.shape == (3, 16, 4)


def wrong(tmp_path, what):
    path = tmp_path / what
    np.save(tmp_path / "float.npy", np.ones(3))
    np.save(tmp_path / "hole.npy", np.array([3, -1, 4]))
    np.save(tmp_path / "empty.npy", np.array([[3, 4], [-1, -1]]))
    np.save(tmp_path / "large.npy", np.array([3, 50]))
    np.save(tmp_path / "long.npy", np.zeros(33, int))
    np.save(tmp_path / "deep.npy", np.zeros((2, 2, 2), int))
    np.save(tmp_path / "nan.npy", np.full((9, 7), np.nan))
    np.save(tmp_path / "small.npy", np.zeros((3, 3)))
    (tmp_path / "latin").write_bytes("gut für".encode("latin-1"))
    (tmp_path / "blank").write_bytes(b" \n\n")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return path


@pytest.mark.parametrize("model, flag, file, message", [
    (bert, "--ids", "float.npy", "must hold whole numbers, .* not float64 of shape"),
    (bert, "--ids", "hole.npy", "below 0 at its end alone, not -1 at position 1"),
    (bert, "--ids", "empty.npy", "empty.npy, row 1 must have at least one token"),
    (bert, "--ids", "large.npy", "must be from 0 to 49, not 50"),
    (bert, "--ids", "long.npy", "has 33 tokens, and random BERT takes at most 32; --tokens"),
    (bert, "--ids", "deep.npy", "one row or a row for each sequence"),
    (bert, "--ids", "nowhere.npy", "must be a readable .npy file: No such file"),
    (bert, "--text-file", "nowhere", "text-file must be a readable file, not .*: No such file"),
    (bert, "--text-file", "latin", "must be UTF-8, but has byte 0xfc"),
    (bert, "--text-file", "blank", "must hold at least one line of text"),
    (bert, "--image", "nan.npy", "random BERT reads text, not images"),
    (vit, "--image", "nan.npy", "must hold finite numbers"),
    (vit, "--image", "small.npy", "must be .npy with 9 × 7 patches for random ViT"),
    (vit, "--ids", "large.npy", "random ViT reads images, not text"),
    (lambda: load("digits-vit"), "--image", "small.npy", "must hold 8 × 8 pixels .* not 3 × 3"),
    (lambda: load("digits-vit"), "--image", "broken.png", "must be a readable image"),
    (lambda: load("digits-vit"), "--image", "nowhere.png", "must be a readable image")])
def test_what_a_model_cannot_take(model, flag, file, message, words, tmp_path):
    own = model()
    with pytest.raises(ValueError, match=message) as caught:
        given(own, flag, wrong(tmp_path, file), name=own.name)
    assert "\n" not in str(caught.value)


def test_texts_need_a_model_that_reads_them(words):
    with pytest.raises(ValueError, match="random ViT reads images, not text"):
        given(vit(), "--text", "good")
    with pytest.raises(ValueError, match="--text gives the first"):
        given(bert(), "--context", "good")
    with pytest.raises(ValueError, match="comes without a tokenizer"):
        examples_of("good", bert())


def test_what_a_program_gives(words):
    model = llama()
    assert [e.values.tolist() for e in examples_of([3, 4], model)] == [[3, 4]]
    assert [e.values.tolist() for e in examples_of([[3, 4], [5]], model)] == [[3, 4], [5]]
    assert [e.values.tolist() for e in examples_of(["good", "bad film"], model, words)] == [
        [0, 3, 1], [0, 4, 5, 1]]
    inputs = Inputs("ids", np.array([[3, 4]]), np.array([[True, False]]))
    assert [e.values.tolist() for e in examples_of(inputs, model)] == [[3]]
    assert [e.values.shape for e in examples_of(np.zeros((2, 9, 7)), vit())] == [(9, 7)] * 2
    assert from_texts(words, ["good"], model)[0].text == "good"
