import pytest

from support.checkpoints import Bert, Llama


@pytest.fixture
def bert(tmp_path):
    return Bert(tmp_path / "bert")


@pytest.fixture
def llama(tmp_path):
    return Llama(tmp_path / "llama")
