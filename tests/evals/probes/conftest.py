"""A corpus of stories, built once for the tests of names in them."""

import pytest

from mtp.config import CorpusConfig
from mtp.data.corpus import Corpus, build
from mtp.data.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = CorpusConfig("python:synthetic.stories?count=400", vocab=800, validation=0.1)
    return build(config, tmp_path_factory.mktemp("stories"), progress=False)


@pytest.fixture(scope="session")
def text(corpus: Corpus) -> Tokenizer:
    return corpus.tokenizer


@pytest.fixture(scope="session")
def train(corpus: Corpus) -> list[int]:
    return corpus.train.read(0, corpus.train.tokens).tolist()
