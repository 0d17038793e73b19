"""Choices: losses, divergence and sampled blocks, of models whose answers are known."""

import math
import re
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from evals.probes import choices as probe
from mtp.config import CorpusConfig, ModelConfig
from mtp.data.batches import Batches
from mtp.data.corpus import Corpus, build
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from mtp.objective.token_weights import ByLabel
from synthetic.choices import Task, task

OPTIONS = {"m": "2", "gap": "1", "tables": "3", "blocks": "8", "count": "60"}
SOURCE = "python:synthetic.choices?" + ",".join(f"{k}={v}" for k, v in OPTIONS.items())
TASK = task(OPTIONS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = CorpusConfig(SOURCE, "bytes", validation=0.1)
    return build(config, tmp_path_factory.mktemp("choices"), progress=False)


class Knowing:
    """Stands for a model that knows the process, but spreads `doubt` of its probability over all
    ids where a choice of these kinds comes next."""

    def __init__(self, kinds: str, doubt: float) -> None:
        self.kinds, self.doubt = kinds, doubt
        self.embedding = SimpleNamespace(weight=torch.zeros(1))
        self.config = SimpleNamespace(context=TASK.context)

    def __call__(self, tokens: Tensor, k: int) -> list[Tensor]:
        found = []
        for row in tokens.tolist():
            text = bytes(row[1:]).decode()
            p = TASK.truth(text)
            for start in range(0, len(text), TASK.length):
                if text[start] in self.kinds:
                    at = start + 3 + TASK.gap
                    p[at] = (1 - self.doubt) * p[at] + self.doubt / 258
            columns = np.zeros((len(p), 258))
            columns[:, [*range(256), 257]] = p[:, :257]
            if self.doubt:
                columns[columns.sum(1) < 1, 256] = self.doubt / 258  # bos
            found.append(torch.from_numpy(columns.clip(1e-30)).log())
        return [torch.stack(found)]


def model_of(kinds: str, doubt: float) -> MultiTokenTransformer:
    return cast(MultiTokenTransformer, Knowing(kinds, doubt))


def test_a_model_that_knows_the_process_has_no_loss_and_no_divergence(made: Corpus) -> None:
    model = model_of("", 0.0)
    assert probe.choice_losses(model, made, 1) == pytest.approx({"A": 0, "B": 0}, abs=1e-5)
    assert probe.divergence(model, made, 1) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", "AB")
def test_doubt_at_one_kinds_choices_is_seen_there_alone(made: Corpus, kind: str) -> None:
    model, nats = model_of(kind, 0.5), -math.log(0.5 + 0.5 / 258)
    losses = probe.choice_losses(model, made, 1)
    assert losses[kind] == pytest.approx(nats, rel=1e-3)
    assert losses["AB".replace(kind, "")] == pytest.approx(0, abs=1e-5)
    # half of the blocks have a choice of the kind, and all else is known
    assert probe.divergence(model, made, 1) == pytest.approx(nats / 2, rel=1e-3)


def test_a_new_model_is_about_uniform(made: Corpus) -> None:
    torch.manual_seed(0)
    model = MultiTokenTransformer(
        ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, n=2, context=TASK.context)
    ).eval()
    losses = probe.choice_losses(model, made, 1)
    assert losses == pytest.approx({"A": math.log(258) + 0.5, "B": math.log(258) + 0.5}, rel=0.15)
    least = TASK.length * math.log(258) - TASK.entropy
    assert probe.divergence(model, made, 1) == pytest.approx(least, rel=0.25)
    drawn = probe.sampled(model, made, 5)
    assert sum(drawn.valid.values()) == 0 < sum(drawn.blocks.values())
    assert drawn == probe.sampled(model, made, 5), "of one seed"


def test_sampled_blocks_are_cut_at_kinds_and_judged(
    made: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    (document,) = TASK.exam(1)[:1]
    first = document[: TASK.length]
    wrong = f"{first[:4]}{'g' if first[4] != 'g' else 'h'}{first[5:]}"
    texts = [document, f"xx{wrong}{first}", f"{first}{first[:-1]}", ""]
    made_of = [list(text.encode()) for text in texts]
    monkeypatch.setattr(probe, "generate", lambda *args, **kwargs: SimpleNamespace(tokens=made_of))
    drawn = probe.sampled(model_of("", 0.0), made, 4)
    kinds = [document[i] for i in range(0, len(document), TASK.length)]
    for kind in "AB":
        own = kind == first[0]
        assert drawn.valid[kind] == kinds.count(kind) + 2 * own
        assert drawn.blocks[kind] == kinds.count(kind) + 4 * own
    assert drawn.blocks[probe.OTHER] == 1 and drawn.valid[probe.OTHER] == 0


def test_windows_are_whole_documents_and_choices_get_their_weights(made: Corpus) -> None:
    text = made.tokenizer
    window = Batches(made.train, 4, TASK.context, 2, 0).next()
    assert (window.inputs[:, 0] == text.bos).all() and (window.inputs[:, -1] == text.eos).all()
    factors = ByLabel(SOURCE, {"choice_A": 2.5, "noise": 0.0}, text)(window.inputs)
    for tokens, own in zip(window.inputs.tolist(), factors.tolist(), strict=True):
        document = text.decode(tokens)
        wanted = [1.0]
        for start in range(0, len(document), TASK.length):
            block = document[start : start + TASK.length]
            assert TASK.is_valid(block)
            a = block[0] == "A"
            wanted += [1, 1, 1, 1, 2.5 if a else 1, *[1 if a else 0] * TASK.m]
        assert own == [*wanted, 1]


@pytest.mark.parametrize(
    ("source", "tokenizer"),
    [("python:synthetic.polynomials?p=5", "bytes"), (SOURCE, "bpe")],
)
def test_other_corpora_are_refused(source: str, tokenizer: str) -> None:
    manifest = {"config": vars(CorpusConfig(source, tokenizer))}
    with pytest.raises(BadInput, match=re.escape("needs python:synthetic.choices in bytes")):
        probe.task_of(cast(Corpus, SimpleNamespace(manifest=manifest)))


def test_the_task_is_read_from_the_corpus(made: Corpus) -> None:
    assert probe.task_of(made) == TASK == Task(2, 1, 3, 8, count=60)
