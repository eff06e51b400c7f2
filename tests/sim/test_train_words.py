"""Labels of words from a CSV file, as what is trained on."""

import re

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler.answers import own_task
from compiler.checkpoints import load
from compiler.training.data import DataError
from sim import train
from support.checkpoints import Bert, write_folder

WORDS = "[PAD] ? [C] [S] Anna Bob Mary saw met the red sky dog . s".split()
KIND = {"Anna": "NAME", "Bob": "NAME", "Mary": "NAME", "saw": "VERB", "met": "VERB"}


@pytest.fixture
def folder(tmp_path):
    made = Bert(tmp_path / "model")
    body = {f"bert.{name}": values + name.endswith("LayerNorm.weight")
            for name, values in made.tensors().items()}
    rng = np.random.default_rng(3)
    head = {"classifier.weight": rng.normal(0, 0.5, (3, 8)).astype(np.float32),
            "classifier.bias": np.zeros(3, np.float32)}
    config = made.config | {"architectures": ["BertForTokenClassification"],
                            "id2label": {str(i): str(i) for i in range(3)}}
    path = write_folder(made.folder, config, body | head)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[C] $A [S]", "[C] $A [S] $B [S]",
                                                         [("[C]", 2), ("[S]", 3)])
    words.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def data(tmp_path):
    """64 texts of 1 to 6 words; some are two tokens."""
    rng, path = np.random.default_rng(0), tmp_path / "names.csv"
    lines = ["text,labels"]
    for number in range(64):
        words = rng.choice(WORDS[4:13], 1 + number % 6).tolist()
        lines.append(" ".join(word + "." * (word == "dog") for word in words) + ","
                     + " ".join(KIND.get(word, "O") for word in words))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_labels_stand_at_the_first_token_of_a_word(folder, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,labels\nAnna met dog.,NAME VERB O\nsky,O\n")
    model = load(folder)
    task = own_task(path, Tokenizer.from_file(str(folder / "tokenizer.json")), model, 16)
    assert task.kind == "tokens" and task.classes == ("NAME", "O", "VERB")
    both = [*zip(task.train.inputs.tolist(), task.train.labels.tolist(), strict=True),
            *zip(task.held_out.inputs.tolist(), task.held_out.labels.tolist(), strict=True)]
    assert sorted(both) == [([2, 4, 8, 12, 13, 3], [-1, 0, 2, 1, -1, -1]),
                            ([2, 11, 3, 0, 0, 0], [-1, 1, -1, -1, -1, -1])]
    assert task.headed(model) is model


@pytest.mark.parametrize("on", ["numpy", "machine"])
def test_labels_of_words_are_learned(on, folder, data, capsys):
    steps = 60 if on == "numpy" else 3
    code = train.main([str(folder), "--data", str(data), "--lora", "4", "--steps", str(steps),
                       "--batch", "16", "--rate", "3e-2", "--fmt", "bf16", "--on", on, "--quiet"])
    out, _ = capsys.readouterr()
    found = np.array(re.findall(r"^(?:before|after): 8 held out: loss (\S+), right (\S+)$", out,
                                re.M), float)
    assert code == 0 and "names.csv: 56 examples" in out and found.shape == (2, 2)
    assert found[1, 0] < (0.5 if on == "numpy" else 1) * found[0, 0]
    assert on == "machine" or found[1, 1] > found[0, 1] + 0.2


@pytest.mark.parametrize(("content", "tokens", "message"), [
    ("text,labels\nAnna met,NAME\n", 16, "line 2: labels must be as many as the words of text, "
                                          "at least 1: 2 words, not 1 labels"),
    ("text,labels\n,\n", 16, "line 2: labels must be as many .* 0 words"),
    ("text,labels\nsky,O\ndog,O\n", 16, "at least two different labels, not 'O' alone"),
    ("text,labels\nAnna met,NAME VERB\n", 16, "at least two rows"),
    ("text,labels\nAnna,NAME\nmet,VERB\n", 2, "line 2: text must have a token with a label "
                                              "within --tokens 2"),
    ("text,labels\nAnna,NAME\nmet,VERB\n", 1, "tokens must leave room for more than the marks"),
    ("text,labels\nAnna,NAME\nmet,VERB\n", -1, "tokens must be at least 1, not -1")])
def test_labels_that_cannot_be_trained_on_are_one_line(content, tokens, message, folder, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        own_task(path, Tokenizer.from_file(str(folder / "tokenizer.json")), load(folder), tokens)
