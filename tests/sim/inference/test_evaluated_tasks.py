"""Answers and speech of small checkpoints, from a data set to the table; workers elsewhere."""

import csv
import json
from functools import cache

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler.checkpoints import load
from compiler.checkpoints.reference import forward
from hdl.spec.config import AcceleratorConfig
from sim import evaluate as tool
from sim.inference.datasets import SetError, read_set
from sim.inference.evaluation import evaluate
from sim.inference.judging import Plan
from sim.inference.metrics import word_errors
from support.families import stored
from support.require import module, require
from tools import family_vectors, speech_vectors

WORDS = {"[C]": 0, "[S]": 1, "?": 2, **{f"w{number}": number for number in range(3, 30)}}
SPEECH = json.loads(speech_vectors.FILE.read_text())


def tokenizer(folder, pairs):
    made = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if pairs:
        made.post_processor = processors.TemplateProcessing(
            single="[C] $A [S]", pair="[C] $A [S] $B:1 [S]:1",
            special_tokens=[("[C]", 0), ("[S]", 1)])
    made.add_special_tokens(["[C]", "[S]"])
    made.save(str(folder / "tokenizer.json"))


def called(capsys, *arguments):
    assert tool.main([*map(str, arguments), "--quiet", "--jobs", "1"]) == 0
    return capsys.readouterr().out.splitlines()


# Answers

@pytest.fixture
def questions(tmp_path):
    """A checkpoint that answers, and questions of which it knows some answers."""
    folder = stored("bert-question-answering").write(tmp_path / "model")
    tokenizer(folder, pairs=True)
    rng, rows = np.random.default_rng(3), []
    for number in range(6):
        question, context = (" ".join(f"w{n}" for n in rng.integers(3, 30, count))
                             for count in (3, 6 + number))
        best = likeliest(load(folder), question.split(), context.split())
        right = [best, "w3 w4"] if number % 2 else [f"{best} w29 w28 w27"]
        rows.append({"question": question, "context": context,
                     "answers": {"text": right, "answer_start": [0]}})
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder, tmp_path / "data.jsonl", rows


def likeliest(model, question, context):
    """By trying all spans of the context, of the fp32 model."""
    ids = [0, *(WORDS[word] for word in question), 1, *(WORDS[word] for word in context), 1]
    first = len(question) + 2
    segments = np.array([0] * first + [1] * (len(context) + 1))
    logits = forward(model, np.array(ids), segments=segments).output[first:-1].astype(np.float64)
    spans = [(logits[a, 0] + logits[b, 1], a, b) for a in range(len(context))
             for b in range(a, len(context))]
    _, start, end = max(spans)
    return " ".join(context[start:end + 1])


def test_answers_from_a_data_set_to_the_table(questions, tmp_path, capsys):
    folder, data, rows = questions
    options = "--columns", "text=question", "--build", "fp32", "bf16", "posit8"
    for metric in ("exact-match", "f1"):
        lines = called(capsys, folder, data, "--metric", metric, *options,
                       "-o", tmp_path / metric, "--json", tmp_path / f"{metric}.json")
        assert [line.split()[0] for line in lines[2:]] == ["fp32", "bf16", "posit8"]
    table = {metric: json.loads((tmp_path / f"{metric}.json").read_text())["builds"]
             for metric in ("exact-match", "f1")}
    # Every second answer is right; the others are right but for three words too few.
    assert table["exact-match"]["fp32"]["value"] == 0.5
    assert table["exact-match"]["fp32"]["low"] < 0.5 < table["exact-match"]["fp32"]["high"]
    record = [json.loads(line) for line in (tmp_path / "f1").read_text().splitlines()[1:]]
    fp32 = sorted((one for one in record if one["build"] == "fp32"), key=lambda one: one["row"])
    wanted = []
    for number, (own, row) in enumerate(zip(fp32, rows, strict=True)):
        assert own["answer"] == likeliest(load(folder), row["question"].split(),
                                          row["context"].split())
        count = len(own["answer"].split())
        wanted.append(1 if number % 2 else 2 * count / (count + count + 3))
        assert own["f1"] == pytest.approx(wanted[-1])
    assert table["f1"]["fp32"]["value"] == pytest.approx(np.mean(wanted))
    assert table["f1"]["bf16"]["value"] > 0.5 and table["f1"]["fp32"]["differ"] == 0
    contexts = [row["context"] for row in rows]
    assert all(one["answer"] in contexts[one["row"]] for one in record)


# Speech

@pytest.fixture
def sounds(tmp_path):
    """A checkpoint that hears, and what transformers heard in four sounds, one of it spoiled."""
    case, folder = SPEECH["tokens that are never said"], tmp_path / "model"
    family_vectors.write(folder, case["config"], case["shapes"])
    (folder / "generation_config.json").write_text(json.dumps(case["generation"]))
    tokenizer(folder, pairs=False)
    heard = [" ".join(f"w{token}" for token in ids) for ids in case["ids"]]
    (tmp_path / "sounds").mkdir()
    with (tmp_path / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "sentence"])
        for number, (sound, text) in enumerate(zip(case["sounds"], heard, strict=True)):
            np.save(tmp_path / f"sounds/{number}.npy", np.array(sound))
            told = text.upper() + "." if number else text.replace("w", "v", 2)
            rows.writerow([f"sounds/{number}.npy", told])
    return folder, tmp_path / "data.csv", heard


def test_words_from_sounds_to_the_table(sounds, tmp_path, capsys, monkeypatch):
    folder, data, heard = sounds
    monkeypatch.chdir("/")  # files of sound are found from the data's folder
    called(capsys, folder, data, "--metric", "wer", "--columns", "audio=file,text=sentence",
           "--new", speech_vectors.NEW, "--build", "fp32", "bf16", "-o", tmp_path / "record",
           "--json", tmp_path / "table.json")
    found = json.loads((tmp_path / "table.json").read_text())["builds"]
    assert found["fp32"]["value"] == found["bf16"]["value"] == pytest.approx(2 / 24)
    assert found["bf16"]["differ"] == 0 and found["fp32"]["low"] == 0 < found["fp32"]["high"]
    record = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()[1:]]
    assert {one["row"]: one["answer"] for one in record} == dict(enumerate(heard))
    with pytest.raises(SystemExit):
        called(capsys, folder, data, "--metric", "wer", "--columns", "audio=file,text=sentence",
               "--new", "2", "-o", tmp_path / "record")
    assert "another evaluation: new was 6, not 2" in capsys.readouterr().err


@pytest.mark.parametrize("model, metric, row, message", [
    ("random-llama", "wer", {}, "metric wer takes a model that hears"),
    (None, "wer", {"text": "a"}, "audio must be a text, not None"),
    (None, "wer", {"text": "a", "audio": "none.npy"}, "none.npy"),
    (None, "wer", {"audio": "x.wav"}, "text must be a text, not None")])
def test_sounds_that_are_none(model, metric, row, message, sounds, capsys):
    folder, data, _ = sounds
    path = data.with_suffix(".jsonl")
    path.write_text(json.dumps({"ids": [1]} | row))
    with pytest.raises(SystemExit) as caught:
        tool.main([model or str(folder), str(path), "--metric", metric, "--jobs", "1", "--quiet"])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1 and message in told


def by_definition(said, right):
    """The fewest changes, by trying each at the first words."""
    @cache
    def least(a, b):
        if a == len(said) or b == len(right):
            return len(said) - a + len(right) - b
        return min(least(a + 1, b) + 1, least(a, b + 1) + 1,
                   least(a + 1, b + 1) + (said[a] != right[b]))
    return least(0, 0)


def test_errors_of_words():
    rng = np.random.default_rng(4)
    for _ in range(200):
        said, right = (tuple(rng.choice(list("abcd"), rng.integers(0, 9))) for _ in range(2))
        assert word_errors(" ".join(said), " ".join(right)) == (by_definition(said, right),
                                                                len(right))
    assert word_errors("Hello, World!", "hello world") == (0, 2)
    assert word_errors("it's well-known", "It's well known.") == (0, 3)
    assert word_errors("", "a b") == (2, 2) and word_errors("a b", "") == (2, 0)


# Workers of a scheduler

CONFIG = AcceleratorConfig("bf16", dim=4)


@pytest.fixture
def texts(tmp_path):
    rows = [{"ids": np.random.default_rng(n).integers(0, 40, 3 + n).tolist()} for n in range(4)]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_set(path, load_llama())


def load_llama():
    from compiler.checkpoints.samples import llama
    return llama()


@pytest.mark.filterwarnings("ignore")  # of a package that is not ours
def test_workers_of_a_scheduler_give_the_same_and_go_on(texts, tmp_path):
    distributed = require(module, "distributed")
    plan = Plan("random-llama", "perplexity", {"bf16": CONFIG, "fp32": None})
    record, told = tmp_path / "record", []
    here = evaluate(plan, texts, record)
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:4]))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False,
                                  dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert evaluate(plan, texts, scheduler=address) == here
        assert evaluate(plan, texts, record, scheduler=address,
                        tell=lambda share, where: told.append(share)) == here
        assert told == [0.5, 0.625, 0.75, 0.875, 1.0]
        broken = Plan("nothing", "perplexity", {"bf16": CONFIG})
        with pytest.raises(ValueError, match="model must be one of"):
            evaluate(broken, texts, scheduler=address)


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there(texts, monkeypatch):
    require(module, "distributed")
    monkeypatch.setattr("sim.inference.workers._CONNECTED_WITHIN", 0.5)
    plan = Plan("random-llama", "perplexity", {"bf16": CONFIG})
    for address in ("tcp://127.0.0.1:9", "no address"):
        with pytest.raises(SetError, match="scheduler must be the address of one of dask") as told:
            evaluate(plan, texts, scheduler=address)
        assert "\n" not in str(told.value)
