import numpy as np
import pytest

from compiler.checkpoints import NAMES, load, model_inputs
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.packages import ModelUnavailable

OWN = ("digits-vit", "digits-integer", "char-integer")


@pytest.mark.parametrize("path, message", [
    ("mini-lm", "model must be one of minilm, bert-tiny, smollm2, minilm-int8, "
                "paraphrase-minilm, digits-vit, digits-integer, char-integer or the path of a "
                "checkpoint, not 'mini-lm'"),
    ("model.bin", "a checkpoint must be a folder, a .safetensors, .gguf or .onnx file, "),
    ("empty.gguf", "must be a whole GGUF file"),
    ("empty", "config.json must be a readable JSON file: No such file"),
])
def test_what_is_no_checkpoint_is_one_line(path, message, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"?")
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    found = tmp_path / path
    for read in (load, lambda name: model_inputs(name, 4)):
        if path == "empty" and read is not load:
            continue
        with pytest.raises(CheckpointError, match=message) as error:
            read(found if found.exists() else path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OWN])
def test_without_network_a_model_is_unavailable(name, tmp_path):
    for read in (lambda: load(name, tmp_path, offline=True),
                 lambda: model_inputs(name, 8, cache=tmp_path, offline=True)):
        with pytest.raises(ModelUnavailable, match="is not in the cache"):
            read()


def test_tokens_of_a_folder(bert):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = bert.write()
    words = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "high": 3, "note": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)])
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(folder / "tokenizer.json"))
    for path in (folder, folder / "model.safetensors"):
        found = [model_inputs(path, count, "high note").tolist() for count in (1, 2, 3, 6)]
        assert found == [[3], [3, 4], [0, 3, 1], [0, 3, 4, 3, 4, 1]]
    with pytest.raises(ValueError, match="tokens must be at least 1, not 0"):
        model_inputs(folder, 0)
    with pytest.raises(ValueError, match="text must hold at least one token, not ' '"):
        model_inputs(folder, 4, " ")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="must be a readable tokenizer") as error:
        model_inputs(folder, 4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ids, message", [
    (np.array([3, 30]), "token ids must be from 0 to 29, not 30"),
    (np.array([3, -1]), "token ids must be from 0 to 29, not -1"),
    (np.arange(13), "positions must be from 1 to 12, not 13"),
    (np.array([0.5]), r"token ids must be a row of whole numbers, not float64 of shape \(1,\)"),
    (np.zeros((2, 2), int), r"not int64 of shape \(2, 2\)"),
])
def test_wrong_inputs_are_refused(bert, ids, message):
    from compiler.checkpoints.reference import forward

    with pytest.raises(ValueError, match=message):
        forward(load(bert.write()), ids)


def test_wrong_patches_are_refused():
    from compiler.checkpoints.reference import forward

    model = load("digits-vit")
    with pytest.raises(ValueError, match=r"patches must be rows of 4 values, not \(16, 5\)"):
        forward(model, np.zeros((16, 5)))
    with pytest.raises(ValueError, match="positions must be from 1 to 16, not 17"):
        forward(model, np.zeros((17, 4)))


def test_adapters_beside_a_model_are_told(tmp_path):
    from support.checkpoints import Bert

    folder = Bert(tmp_path / "bert").write()
    assert load(folder).notes == ()
    (folder / "adapter_config.json").write_text("{}")
    note, = load(folder).notes
    assert "adapter_config.json lies beside the model" in note and "--adapter" in note
