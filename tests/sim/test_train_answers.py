"""Losses over spans from a CSV file of questions, in numpy and by programs."""

import csv
import re

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler.answers import own_task
from compiler.checkpoints import load, registry
from compiler.checkpoints.inputs import Inputs
from compiler.training.adapters import load_adapters, merge
from compiler.training.description import LowRank
from compiler.training.tasks import with_head
from compiler.training.trainer import batches
from sim import run as running
from sim import train
from support.checkpoints import Bert, write_folder
from support.training_steps import Both, Work, config, training

WORDS = "[PAD] ? [C] [S] which colour is it red green blue the a sky leaf rose has was".split()
COLOURS = ["red", "green", "blue"]


@pytest.fixture
def folder(tmp_path):
    """A small BERT for questions that knows two kinds of positions, with a tokenizer."""
    made, rng = Bert(tmp_path / "model"), np.random.default_rng(3)
    head = {"qa_outputs.weight": rng.normal(0, 0.5, (2, 8)).astype(np.float32),
            "qa_outputs.bias": np.zeros(2, np.float32)}
    # Norms of a gain about 1, so that positions differ in what comes out.
    body = {f"bert.{name}": values + name.endswith("LayerNorm.weight")
            for name, values in made.tensors().items()}
    path = write_folder(made.folder, made.config | {"architectures": ["BertForQuestionAnswering"]},
                        body | head)
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        "[C] $A [S]", "[C] $A [S] $B:1 [S]:1", [("[C]", 2), ("[S]", 3)])
    made.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def data(tmp_path):
    """64 contexts of 3 to 6 words, the colour among them to be found."""
    rng, path = np.random.default_rng(0), tmp_path / "qa.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["question", "context", "answer"])
        for number in range(64):
            count, colour = 2 + number % 4, COLOURS[number % 3]
            words = rng.choice(WORDS[11:], count).tolist()
            words.insert(int(rng.integers(0, count + 1)), colour)
            rows.writerow(["which colour", " ".join(words), colour])
    return path


def trained(capsys, folder, data, *more):
    """The code, and losses, exact matches and F1 before and after."""
    code = train.main([str(folder), "--data", str(data), "--lora", "2", *map(str, more)])
    out, error = capsys.readouterr()
    found = re.findall(r"^(?:before|after): \d+ held out: loss (\S+), exact match (\S+), F1 (\S+)$",
                       out, re.M)
    return code, out, error, np.array(found, float)


def test_where_answers_stand_is_learned(folder, data, tmp_path, capsys):
    code, out, _, found = trained(
        capsys, folder, data, "--steps", 60, "--batch", 16, "--rate", "2e-2", "--fmt", "bf16",
        "--seed", 1, "--out", tmp_path / "adapter")
    (before, few, _), (after, exact, f1) = found
    assert code == 0 and "qa.csv: 56 examples" in out and "before: 8 held out" in out
    assert after < 0.5 * before and few < 0.5 and f1 >= exact >= 0.75
    # Inference with the adapters answers as the training's evaluation did.
    model = load(folder)
    merged = merge(model, load_adapters(tmp_path / "adapter", model))
    assert merged.task == "question answering" and merged.head.weight.shape == (2, 8)
    assert running.main([str(folder), "--adapter", str(tmp_path / "adapter"), "--text",
                         "which colour", "--context", "sky green was leaf"]) == 0
    assert "'green'" in capsys.readouterr().out


@pytest.mark.parametrize("more", [["--micro", "2"], ["--fmt", "fp8", "--softmax", "pwl"]],
                         ids=["posit8", "fp8"])
def test_programs_learn_from_questions(more, folder, data, capsys):
    """As numpy does, whose sums of products are added in another order."""
    both = []
    for on in ("numpy", "machine"):
        code, out, _, found = trained(capsys, folder, data, "--steps", 2, "--batch", 4, "--rate",
                                      "1e-2", "--acc", "exact", "--on", on, *more)
        assert code == 0
        steps = np.array(re.findall(r"step \d of 2: loss (\S+), norm (\S+),", out), float)
        assert steps.shape == (2, 2) and steps.all() and found.shape == (2, 3)
        both.append([*steps.ravel(), *found[:, 0]])
    assert np.allclose(*both, rtol=0.02)


def test_steps_from_a_file_have_the_bits_of_the_rules(folder, data):
    """Pairs of unequal lengths with positions of two kinds, numpy against the machine model."""
    model = load(folder)
    task = own_task(data, registry.tokenizer(folder), model, 12)
    own = training(4, LowRank(rank=2), micro=2)
    first = task.train.part(slice(0, own.micro))
    sample = Inputs("ids", first.inputs, first.valid, first.segments)
    assert len(set(task.train.valid.sum(axis=1))) == 4 and first.segments.any()
    both = Both(config(), own, work=Work(with_head(model, 2, "spans"), batches(
        task.train, own.batch, 0), sample, "spans")).calibrate().step().step()
    print(f"questions: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 5_000


@pytest.mark.parametrize(("content", "more", "message"), [
    ("question,context\na,b\n", [], "must have the columns text and label, or question, context "
                                    "and answer, or text and labels, or text, but its first "
                                    "line has question, context"),
    ("question,context,answer\nwhich,sky,leaf\n", [], "line 2: the answer must stand in its "
                                                      "context as it is, but 'leaf' does not"),
    ("question,context,answer\nwhich,a sky,sky\nwhich,a leaf,leaf\n", ["--tokens", "5"],
     "must hold answers that --tokens 5 leaves, but all 2 are cut off")])
def test_questions_that_cannot_be_trained_on_are_one_line(content, more, message, folder, tmp_path,
                                                          capsys):
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        train.main([str(folder), "--data", str(path), *more])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and message in error, error


def test_what_is_left_out_is_told(folder, tmp_path, capsys):
    path = tmp_path / "own.csv"
    path.write_text("question,context,answer\n" + "".join(
        f"which,{text},sky\n" for text in ("a sky", "the sky", "leaf leaf leaf sky", "sky a sky")))
    code, out, error, _ = trained(capsys, folder, path, "--steps", 1, "--batch", 2, "--tokens", 7,
                                  "--plain")
    assert code == 0 and "own.csv: 2 examples" in out
    assert "warning: " in error and "1 of 4 questions are left out: --tokens 7" in error
    assert "1 of 4 answers stand several times" in error
