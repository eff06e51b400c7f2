import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler.checkpoints import samples
from compiler.checkpoints.digits import HELD_OUT
from compiler.checkpoints.registry import load, tokenizer
from compiler.training.data import DataError, encode_texts, read_csv, split, windows
from compiler.training.gradients.network import Batch
from compiler.training.tasks import (
    DIGITS_TASKS,
    digits_task,
    movie_reviews,
    own_data,
    review_text,
    with_head,
)
from support.require import require

GOOD = "text,label\n" + "".join(f"a good film {i},good\na bad film {i},bad\n" for i in range(9))


@pytest.fixture
def words():
    """One token per word, [CLS] before and [SEP] after."""
    vocabulary = {word: i for i, word in enumerate(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


@pytest.fixture
def write(tmp_path):
    def put(content):
        path = tmp_path / "data.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


@pytest.mark.parametrize("content, message", [
    ("", "must have the columns text and label, but its first line has nothing"),
    ("text,label\n", "must hold rows below its header, but has none"),
    ("text,stars\na,1\n", "must have the columns text and label, but its first line has text, st"),
    ("text,label\na,1\nb\n", "line 3: label must not be empty"),
    ("text,label\na,1\n ,2\n", "line 3: text must not be empty"),
    ("text,label\na,1\nb, \n", "line 3: label must not be empty"),
    ("text,label\na,1\nb,1\n", "must have at least two different labels, not '1' alone"),
    ("text,label\na,1\nb,1\nc,2\n", "line 4: label '2' must stand in two rows at least"),
    (b"text,label\na\xff,1\n", "must be UTF-8, but has byte 0xff"),
    (b"text,label\n" + b"a" * (2 << 20) + b",1\n", "line 2: field larger than field limit")])
def test_damaged_files_are_refused_in_one_line(write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_csv(write(content))
    assert "\n" not in str(caught.value) and "data.csv" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="data must be a readable file, not .*: No such file"):
        read_csv(tmp_path / "none.csv")


def test_rows_are_read_with_their_lines(write):
    rows = read_csv(write('\ufefflabel,more,text\nb,1,"two\nlines"\na,2,"with ""quotes"", too"\n'
                          "b,3,x\na,4,y\n"))
    assert rows.texts == ("two\nlines", 'with "quotes", too', "x", "y")
    assert rows.classes == ("a", "b") and rows.labels.tolist() == [1, 0, 1, 0]
    assert rows.lines == (3, 4, 5, 6)


def test_texts_are_padded_and_marked(words):
    ids, valid = encode_texts(words, ["a good film", "bad"], 8)
    assert ids.tolist() == [[2, 4, 5, 7, 3], [2, 6, 3, 0, 0]]
    assert valid.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    cut, _ = encode_texts(words, ["a good film", "bad"], 4, cut=True)
    assert cut.tolist() == [[2, 4, 5, 3], [2, 6, 3, 0]]


def test_texts_that_are_too_long_are_refused(words, write):
    with pytest.raises(DataError, match="text 1 has 5 tokens, and at most 4 are allowed; 1 of 2 "
                                        "texts are too long, the longest has 5"):
        encode_texts(words, ["bad", "a good film"], 4)
    with pytest.raises(DataError, match="data.csv, line 2: the text has 6 tokens, and at most 4"):
        own_data(write(GOOD), words, 4)
    with pytest.raises(DataError, match="tokens must be at least 1, not 0"):
        encode_texts(words, ["bad"], 0)


def test_an_eighth_of_each_class_is_held_out(words, write):
    task = own_data(write(GOOD), words)
    assert (task.kind, task.classes, task.name) == ("classes", ("bad", "good"), "data.csv")
    assert len(task.train) == 16 and sorted(task.held_out.labels.tolist()) == [0, 1]
    again = own_data(write(GOOD), words)
    assert np.array_equal(task.held_out.inputs, again.held_out.inputs)


def test_windows_cut_texts_into_pieces(words):
    found = windows(words, ["a good film", "bad", "film a"], 2, 3)
    assert found.tolist() == [[4, 5, 7], [6, 7, 4]]
    with pytest.raises(DataError, match="must give 3 windows of 3 tokens, but hold 6 tokens"):
        windows(words, ["a good film", "bad", "film a"], 3, 3)


def test_splits_follow_from_the_seed():
    examples = Batch(np.arange(20), np.arange(20))
    train, held_out = split(examples, 5)
    assert sorted([*train.labels, *held_out.labels]) == list(range(20)) and len(held_out) == 5
    assert np.array_equal(split(examples, 5)[1].labels, held_out.labels)
    assert not np.array_equal(split(examples, 5, seed=1)[1].labels, held_out.labels)
    for wrong in (0, 20):
        with pytest.raises(DataError, match=f"from 1 to 19 examples, not {wrong}"):
            split(examples, wrong)


def test_heads_are_made_where_there_is_none():
    made = with_head(samples.bert(), 4)
    assert made.head.weight.shape == (4, 12) and made.pooling == "mean"
    assert with_head(made, 4) is made
    assert np.array_equal(with_head(samples.bert(), 4, seed=0).head.weight, made.head.weight)
    assert not np.array_equal(with_head(samples.bert(), 4, seed=1).head.weight, made.head.weight)
    spans = with_head(samples.bert(), 2, "spans")
    assert spans.pooling == "none" and spans.head.weight.shape == (2, 12)
    assert with_head(samples.vit(), 5).name == "random ViT"
    with pytest.raises(ValueError, match="random ViT tells 5 classes apart, not 4"):
        with_head(samples.vit(), 4)


@pytest.mark.parametrize("name", DIGITS_TASKS)
def test_digits_tasks_hold_out_what_the_model_never_saw(name):
    task = require(digits_task, name)
    assert (len(task.train), len(task.held_out)) == (1347, HELD_OUT)
    assert task.train.inputs.min() == 0 and task.train.inputs.max() == 1
    inside = task.train.inputs.mean()
    assert (inside > 0.5) == ("negative" in name)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="task must be one of digits-negative, .*, not 'mnist'"):
        digits_task("mnist")


def test_sentences_of_reviews_are_split_once():
    task = require(lambda: movie_reviews(tokenizer("bert-tiny"), 32))
    assert (len(task.train), len(task.held_out)) == (7464, 1066)
    assert task.train.inputs.shape == (7464, 32)
    rows = {part: {tuple(row) for row in batch.inputs} for part, batch in
            (("train", task.train), ("held out", task.held_out))}
    # Two of 8,530 may begin with the same 32 tokens, no more.
    assert len(rows["train"] & rows["held out"]) <= 2
    assert abs(task.held_out.labels.mean() - 0.5) < 0.05
    first = task.train.valid[0].sum()
    assert task.train.inputs[0, 0] == tokenizer("bert-tiny").token_to_id("[CLS]")
    assert task.train.inputs[0, first - 1] == tokenizer("bert-tiny").token_to_id("[SEP]")


def test_windows_of_reviews():
    task = require(lambda: review_text(tokenizer("bert-tiny"), 16, 40, 8))
    assert task.kind == "vocabulary" and not task.classes
    assert task.train.inputs.shape == (40, 16) and task.held_out.inputs.shape == (8, 16)
    assert np.array_equal(task.train.inputs, task.train.labels)


def test_a_model_of_images_has_no_tokenizer():
    assert load("digits-vit").name == "digits-vit"
    with pytest.raises(ValueError, match="digits-vit reads images, not text"):
        tokenizer("digits-vit")
