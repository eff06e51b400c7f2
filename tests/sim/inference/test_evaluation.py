import json
import math

import numpy as np
import pytest

from compiler.balanced import balanced
from compiler.calibration import calibration_examples
from compiler.checkpoints.digits import DRAWN
from compiler.checkpoints.reference import forward
from compiler.checkpoints.samples import llama
from hdl.spec.config import AcceleratorConfig
from sim import evaluate as tool
from sim.inference.datasets import SetError, read_set
from sim.inference.evaluation import evaluate
from sim.inference.judging import Plan
from sim.inference.results import softmax

CONFIG = AcceleratorConfig("bf16", dim=4)


@pytest.fixture
def digits(tmp_path):
    labels = np.arange(10)
    labels[4] = 5  # one that is wrong on purpose
    np.savez(tmp_path / "digits.npz", images=np.stack([*DRAWN.values()]), labels=labels)
    return tmp_path / "digits.npz"


@pytest.fixture
def texts(tmp_path):
    rows = [{"ids": np.random.default_rng(n).integers(0, 40, 3 + n).tolist()} for n in range(4)]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def called(capsys, *arguments):
    code = tool.main([*map(str, arguments), "--quiet"])
    return code, capsys.readouterr().out.splitlines()


def test_builds_side_by_side(digits, tmp_path, capsys):
    code, lines = called(capsys, "digits-vit", digits, "--metric", "accuracy", "--build", "posit8",
                         "posit8/pwl", "bf16", "fp32", "--jobs", 1, "-o", tmp_path / "record",
                         "--json", tmp_path / "table.json")
    assert code == 0 and [line.split()[0] for line in lines[2:]] == [
        "posit8", "posit8/pwl", "bf16", "fp32"]
    told = json.loads((tmp_path / "table.json").read_text())
    assert told["builds"]["fp32"]["value"] == 0.9 and told["rows"] == 10
    assert told["builds"]["bf16"]["value"] == 0.9
    assert told["builds"]["posit8/pwl"]["config"]["softmax"] == "pwl"
    record = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert len(record) == 41 and record[0]["about"]["metric"] == "accuracy"
    wrong = [one for one in record[1:] if one["predicted"] != one["label"]]
    assert {one["row"] for one in wrong if one["build"] == "fp32"} == {4}


def test_perplexity_is_that_of_the_definition(texts):
    plan = Plan("random-llama", "perplexity", {"bf16": CONFIG, "fp32": None})
    found = evaluate(plan, read_set(texts, llama()))
    for number, row in enumerate(read_set(texts, llama()).rows):
        ids = np.array(row.values["ids"])
        rows = forward(llama(), ids).output
        loss = -sum(math.log(softmax(rows[i])[ids[i + 1]]) for i in range(len(ids) - 1))
        assert found["fp32"][number] == {"loss": pytest.approx(loss, abs=1e-4),
                                         "tokens": len(ids) - 1}
        assert found["bf16"][number]["loss"] == pytest.approx(loss, rel=0.1, abs=0.1)
    assert found["bf16"] != found["fp32"]


def test_processes_give_the_same(texts):
    plan = Plan("random-llama", "perplexity", {"bf16": CONFIG})
    data = read_set(texts, llama())
    assert evaluate(plan, data, jobs=2) == evaluate(plan, data)


def test_an_evaluation_goes_on(texts, tmp_path):
    plan = Plan("random-llama", "perplexity", {"bf16": CONFIG})
    data, record, told = read_set(texts, llama()), tmp_path / "record", []

    def stop(share, where):
        told.append(share)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, data, record, tell=stop)
    whole = record.read_text()
    record.write_text(whole + '{"build": "bf16", "row": 3, "los')  # cut while it was written
    told.clear()
    found = evaluate(plan, data, record, tell=lambda share, where: told.append(share))
    assert found == evaluate(plan, data) and told == [0.75, 1.0]
    told.clear()
    assert evaluate(plan, data, record, tell=lambda share, where: told.append(share)) == found
    assert told == []
    both = Plan("random-llama", "perplexity", {"bf16": CONFIG, "fp32": None})
    assert evaluate(both, data, record, tell=lambda share, where: told.append(share))[
        "bf16"] == found["bf16"]
    assert len(told) == 4


@pytest.mark.parametrize("change, message", [
    ({"tokens": 5}, "is of another evaluation: tokens was None, not 5"),
    ({"builds": {"bf16": AcceleratorConfig("bf16", dim=8)}}, "another evaluation: bf16 was"),
    ({"fusion": "none"}, "fusion was 'residual', not 'none'"),
    ({"balance": True}, "balance was None, not True"),
    ({"centring": "twice"}, "centring was None, not 'twice'")])
def test_a_record_of_another_evaluation(change, message, texts, tmp_path):
    plan = {"model": "random-llama", "metric": "perplexity", "builds": {"bf16": CONFIG}}
    data = read_set(texts, llama())
    evaluate(Plan(**plan), data, tmp_path / "record")
    before = (tmp_path / "record").read_bytes()
    with pytest.raises(SetError, match=message):
        evaluate(Plan(**plan | change), data, tmp_path / "record")
    assert (tmp_path / "record").read_bytes() == before


@pytest.mark.parametrize("more", [{"scales": "row"}, {"balance": True},
                                  {"centring": "twice"}])
def test_what_is_no_longer_asked_for_is_another_evaluation(more, texts, tmp_path):
    plan = {"model": "random-llama", "metric": "perplexity", "builds": {
        "int8": AcceleratorConfig("int8", dim=4)}}
    data = read_set(texts, llama())
    evaluate(Plan(**plan | more), data, tmp_path / "record")
    with pytest.raises(SetError, match=f"another evaluation: {next(iter(more))} was .*, not None"):
        evaluate(Plan(**plan), data, tmp_path / "record")


def test_a_balanced_model_is_evaluated(texts, capsys):
    """As fp32 has it, in all builds but that."""
    plan = {"model": "random-llama", "metric": "perplexity", "builds": {
        "e4m3": AcceleratorConfig("e4m3", dim=4), "fp32": None}}
    data = read_set(texts, llama())
    found, plain = evaluate(Plan(**plan, balance=True), data), evaluate(Plan(**plan), data)
    assert found["fp32"] == plain["fp32"] and found["e4m3"] != plain["e4m3"]
    own = Plan(**plan, balance=True).opened("e4m3").model
    wanted = balanced(llama(), calibration_examples("random-llama", llama()))
    assert np.array_equal(own.head.weight, wanted.head.weight)
    assert called(capsys, "random-llama", texts, "--metric", "perplexity", "--build", "e4m3",
                  "--balance", "--dim", 4, "--jobs", 1)[0] == 0


@pytest.mark.parametrize("content", ["no record\n", "[1]\n", '{"build": 1}\n', '{"about": 5}\n',
                                     '{"about": {}, "builds": 3}\n', "[" * 100_000 + "\n"])
def test_a_damaged_record(content, texts, tmp_path):
    (tmp_path / "record").write_text(content)
    plan = Plan("random-llama", "perplexity", {"bf16": CONFIG})
    with pytest.raises(SetError, match="record"):
        evaluate(plan, read_set(texts, llama()), tmp_path / "record")
    assert (tmp_path / "record").read_text() == content


@pytest.mark.parametrize("arguments, message", [
    (["random-llama", "--metric", "accuracy"], "metric accuracy takes a model that gives classes"),
    (["random-bert", "--metric", "perplexity"], "takes a model that gives next token"),
    (["random-llama", "--metric", "perplexity", "--build", "posit9"], "must be one of"),
    (["random-llama", "--metric", "perplexity", "--build", "posit8/best"],
     "build must be a format, then a softmax of pwl, .* not 'posit8/best'"),
    (["random-llama", "--metric", "perplexity", "--columns", "text"], "columns must be NAME=COL"),
    (["random-llama", "--metric", "perplexity", "--language", "en"],
     "language and task are for metric wer, not for perplexity"),
    (["random-llama", "--metric", "perplexity", "--columns", "label=class"],
     "must have a column 'class'"),
    (["nothing", "--metric", "perplexity"], "model must be one of"),
    (["random-llama", "--metric", "perplexity", "--json", "/nowhere/x"], "json must be a writable"),
    (["random-llama", "--metric", "magic"], "--metric must be one of accuracy")])
def test_errors_are_one_line(arguments, message, texts, capsys):
    import re
    model, *others = arguments
    with pytest.raises(SystemExit) as caught:
        tool.main([model, str(texts), *others])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1 and re.search(message, told)


def test_rows_that_a_model_cannot_take(tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    for row, message in (({"ids": [3]}, "at least 2 tokens"), ({"ids": [3, 40]}, "from 0 to 39"),
                         ({"text": "a"}, "comes without a tokenizer"), ({"ids": "x"}, "whole")):
        path.write_text(json.dumps({"ids": [1, 2]}) + "\n" + json.dumps(row) + "\n")
        with pytest.raises(SystemExit) as caught:
            tool.main(["random-llama", str(path), "--metric", "perplexity", "--jobs", "1",
                       "--quiet"])
        told = capsys.readouterr().err
        assert caught.value.code == 2 and told.count("\n") == 1
        assert message in told and "line 2" in told
