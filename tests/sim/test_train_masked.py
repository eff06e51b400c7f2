"""Texts without labels from a CSV file, as what is trained on: hidden words, next words."""

import re

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler.answers import own_task
from compiler.checkpoints import load
from compiler.training.adapters import load_adapters, merge
from compiler.training.data import DataError
from compiler.training.gradients.network import Batch
from compiler.training.masked import Masking
from sim import train
from sim.cycles import __main__ as cycles
from support.families import stored

NAMES = [f"w{number}" for number in range(25)]
WORDS = ["[PAD]", "?", "[C]", "[S]", "[MASK]", *NAMES]


def tokenizer(path, without=()):
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)
                                        if word not in without}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing("[C] $A [S]", special_tokens=[
        ("[C]", 2), ("[S]", 3)])
    words.save(str(path / "tokenizer.json"))
    return words


@pytest.fixture
def folder(tmp_path):
    path = stored("bert-masked").write(tmp_path / "model")
    tokenizer(path)
    return path


@pytest.fixture
def data(tmp_path):
    """96 texts of 3 to 8 words, each the one after that before it: a hidden one is told by what
    stands beside it."""
    rng, path = np.random.default_rng(0), tmp_path / "texts.csv"
    texts = [" ".join(NAMES[(start + i) % 25] for i in range(length)) for start, length in zip(
        rng.integers(0, 25, 96), rng.integers(3, 9, 96), strict=True)]
    path.write_text("\n".join(["text,other", *(f"{text},x" for text in texts)]) + "\n")
    return path


@pytest.mark.parametrize(("share", "chosen"), [(0.15, (0.14, 0.17)), (0.5, (0.48, 0.52)),
                                               (1e-9, (400 / 24000, 400 / 24000))])
def test_the_share_of_words_is_hidden_eight_of_ten_by_the_mark(share, chosen):
    ids = np.random.default_rng(1).integers(5, 30, (400, 80))
    labels = np.where(np.arange(80) < 40 + 40 * (np.arange(400) % 2)[:, None], ids, -1)
    texts = Batch(ids, labels, np.ones(ids.shape, bool))
    found = Masking(4, 30, share).drawn(texts, np.random.default_rng(2))
    told = found.labels >= 0
    assert np.array_equal(found.labels[told], ids[told]) and told.any(axis=1).all()
    assert np.array_equal(found.inputs[~told], ids[~told]) and not (told & (labels < 0)).any()
    assert chosen[0] <= told.sum() / (labels >= 0).sum() <= chosen[1]
    marked, kept = (np.mean(found.inputs[told] == own) for own in (4, ids[told]))
    if share > 0.1:
        # 30 ids: of the tenth that shows any word a thirtieth is the mark, another the word itself.
        assert marked == pytest.approx(0.8 + 0.1 / 30, abs=0.015)
        assert kept == pytest.approx(0.1 + 0.1 / 30, abs=0.015)


def test_words_are_hidden_anew_in_each_pass_and_held_out_once(folder, data):
    model, words = load(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    task = own_task(data, words, model, 16, 0.3)
    assert (task.kind, task.name, len(task.train), len(task.held_out)) == (
        "tokens", "texts.csv", 84, 12)
    assert task.tells_words and task.headed(model) is model
    again = own_task(data, words, model, 16, 0.3)
    assert np.array_equal(task.held_out.inputs, again.held_out.inputs)
    stream, same = task.batches(84, 5), again.batches(84, 5)
    first, second = next(stream), next(stream)
    assert np.array_equal(first.inputs, next(same).inputs)
    assert np.array_equal(second.labels, next(same).labels)
    hidden = [sorted(map(tuple, part.labels >= 0)) for part in (first, second)]
    assert hidden[0] != hidden[1]
    for part in (first, second, task.train, task.held_out):
        told = part.labels >= 0
        assert told.any(axis=1).all() and not told[~part.valid].any()
        assert not np.isin(part.labels, [0, 2, 3, 4]).any()


def test_a_causal_model_learns_next_words(tmp_path, data):
    path = stored("llama").write(tmp_path / "llama")
    words, model = tokenizer(path), load(path)
    task = own_task(data, words, model, 16)
    assert task.kind == "vocabulary" and task.tells_words
    assert np.array_equal(task.train.inputs, task.train.labels)
    assert train.main([str(path), "--data", str(data), "--lora", "2", "--steps", "2", "--batch",
                       "4", "--fmt", "bf16", "--quiet"]) == 0


def trained(capsys, *arguments):
    """Loss and share of what is right before and after."""
    code = train.main([*map(str, arguments), "--batch", "16", "--mask-share", "0.3", "--softmax",
                       "pwl", "--quiet"])
    out, _ = capsys.readouterr()
    found = re.findall(r"^(?:before|after): 12 held out: loss (\S+), right (\S+)$", out, re.M)
    assert code == 0 and "texts.csv: 84 examples" in out and len(found) == 2
    return np.array(found, float)


def test_hidden_words_are_learned(folder, data, capsys):
    (before, no), (after, right) = trained(capsys, folder, "--data", data, "--full", "--steps", 250,
                                           "--rate", "1e-2")
    assert before > 7 and after < 2.5 and no < 0.1 and right > 0.3


def test_adapters_are_trained_by_programs_and_kept_without_a_head(folder, data, tmp_path, capsys):
    (before, _), (after, _) = trained(
        capsys, folder, "--data", data, "--lora", 8, "--steps", 3, "--rate", "3e-2", "--on",
        "machine", "--out", tmp_path / "own")
    assert after < before
    model = load(folder)
    merged = merge(model, load_adapters(tmp_path / "own", model))
    assert merged.task == "masked language model" and merged.transform is not None
    assert np.array_equal(merged.transform.linear.weight, model.transform.linear.weight)
    assert not np.array_equal(merged.blocks[0].attention.query.weight,
                              model.blocks[0].attention.query.weight)


def test_bytes_and_cycles_are_told(folder, data, capsys):
    for more in ([], ["--data", str(data)]):
        assert train.main([str(folder), "--memory", "--batch", "2", "--tokens", "8", *more]) == 0
        assert re.search(r"^masters, gradients, optimiser +[1-9]", capsys.readouterr().out, re.M)
    assert cycles.main([str(folder), "--train", "--tokens", "8", "--dim", "8", "--quiet"]) == 0
    assert "backward of 2 layers" in capsys.readouterr().out


@pytest.mark.parametrize(("content", "more", "message"), [
    ("text\nw1 w2\n", {}, "own.csv must have at least two rows"),
    ("text\nw1 w2\n\" \"\n", {}, "own.csv, line 3: text must not be empty"),
    ("text\nw1 w2\nw3\n", {"tokens": 2}, "line 2: the text must have a token besides those of begin"
                                         " and end within --tokens 2"),
    ("text\nw1\nw2\n", {"tokens": 1}, "tokens must leave room for more than the marks"),
    ("text\nw1\nw2\n", {"tokens": -1}, "tokens must be at least 1, not -1"),
    ("label\nx\n", {"mask_share": 0.1}, "own.csv must have the column text, but its first line has "
                                        "label"),
    ("label\nx\n", {}, "must have the columns text and label, or question, context and answer, or "
                       "text and labels, or text, but its first line has label"),
    ("text\nw1 w2\nw3\n", {"mask_share": 0.0}, "mask-share must be a number above 0 and at most 1, "
                                               "not 0.0")])
def test_texts_that_cannot_be_trained_on_are_one_line(content, more, message, folder, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(content)
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with pytest.raises(ValueError, match=message) as caught:
        own_task(path, words, load(folder), **{"tokens": 16} | more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "share", "without", "message"), [
    ("bert", None, (), "has no labels: bert must have a head for masked words, or be causal"),
    ("bert-sequence", 0.2, (), "must have a head for masked words, not one for sequence class"),
    ("bert-masked", None, ["[MASK]"], "must have one of \\[MASK\\], <mask>, which stands for")])
def test_models_that_tell_no_words_are_one_line(name, share, without, message, tmp_path, data):
    path = stored(name).write(tmp_path / name)
    words = tokenizer(path, without)
    with pytest.raises(DataError, match=message):
        own_task(data, words, load(path), 16, share)


@pytest.mark.parametrize(("arguments", "message"), [
    (["bert-tiny", "--task", "movie-reviews", "--mask-share", ".2"],
     "mask-share is for masked-reviews or a file, not for task movie-reviews"),
    (["digits-vit", "--mask-share", ".2"], "mask-share is for masked-reviews or a file"),
    (["bert-tiny", "--task", "masked-reviews"], "must have a head for masked words, not one for")])
def test_options_that_do_not_fit_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main([*arguments, "--quiet"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and re.search(message, error) and "Traceback" not in error
