"""Held-out likelihood: of whole documents up to a limit, and continued after a kill."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evals.probes import held_out
from evals.probes.held_out import extent, measure
from mtp.config import CorpusConfig, TrainConfig
from mtp.data.corpus import Corpus, build
from mtp.data.window import Window
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from mtp.objective import cross_entropy
from tests.conftest import Cli, bytes_model, write_jsonl


@pytest.fixture(scope="module")
def corpus(texts: Path, data: Path) -> Corpus:
    return build(CorpusConfig(f"files:{texts}", "bytes", validation=0.3), data)


@pytest.fixture
def model() -> MultiTokenTransformer:
    return bytes_model(64)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_limit_admits_whole_documents_and_their_bytes(
    texts: Path, data: Path, tokenizer: str
) -> None:
    corpus = build(CorpusConfig(f"files:{texts}", tokenizer, vocab=300, validation=0.3), data)
    split, text = corpus.validation, corpus.tokenizer
    lengths = [len(document) for document in split.documents()]
    assert len(lengths) > 3
    first, second = lengths[0], lengths[0] + lengths[1]
    size = (texts / "00.txt").stat().st_size
    assert extent(split, text, first)[0] == extent(split, text, 1)[0] == first
    assert abs(extent(split, text, first)[1] - size) < 100  # each is about as long
    assert extent(split, text, first + 1)[0] == extent(split, text, second)[0] == second
    last = extent(split, text, sum(lengths[:-1]))
    assert last[0] == sum(lengths[:-1])
    ending = text.decode(list(split.documents())[-1].tolist())
    assert last[1] + len(ending.encode()) == split.bytes
    for limit in (None, split.tokens, split.tokens - 1, 10**9):
        assert extent(split, text, limit) == (split.tokens, split.bytes)


def test_a_limit_on_pairs_admits_whole_records(tmp_path: Path) -> None:
    records = [{"prompt": f"say {'a' * i}: ", "completion": "b" * (i + 1)} for i in range(40)]
    source = f"pairs:{write_jsonl(tmp_path / 'pairs.jsonl', *records)}"
    corpus = build(CorpusConfig(source, "bytes", validation=0.4), tmp_path / "data")
    split = corpus.validation
    whole, before, _ = split.lengths[:2].T.tolist()  # type: ignore[attr-defined]
    completions = [w - b - 1 for w, b in zip(whole, before, strict=True)]
    assert extent(split, corpus.tokenizer, whole[0]) == (whole[0], completions[0])
    assert extent(split, corpus.tokenizer, whole[0] + 1) == (sum(whole), sum(completions))
    found = measure(bytes_model(64), corpus, limit=whole[0] + 1)
    assert found.targets[0] == sum(completions) + 2  # with the ends


def test_fewer_heads_have_the_same_numbers(model: MultiTokenTransformer, corpus: Corpus) -> None:
    whole, one = measure(model, corpus), measure(model, corpus, heads=1)
    assert len(whole.loss) == 2 and one.loss == pytest.approx(whole.loss[:1], rel=1e-6)
    assert one.targets == whole.targets[:1]
    assert one.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-6)


def test_a_limited_measurement_is_of_the_first_documents(
    model: MultiTokenTransformer, corpus: Corpus
) -> None:
    documents = [d.tolist() for d in corpus.validation.documents()]
    text = documents[0] + documents[1]
    found = measure(model, corpus, limit=len(documents[0]) + 1)
    nats = targets = 0.0
    with torch.no_grad():
        for start in range(0, len(text) - 1, 64):  # windows, as in training
            window = torch.tensor(text[start : start + 65])
            log_p = model(window[None, :-1], 1)[0][0].log_softmax(-1)
            valid = window[:-1] != corpus.tokenizer.eos
            nats -= float(log_p.gather(1, window[1:, None])[valid].sum())
            targets += int(valid.sum())
    assert found.targets[0] == targets < measure(model, corpus).targets[0]
    assert found.loss[0] == pytest.approx(nats / targets, rel=1e-5)
    size = sum(len(corpus.tokenizer.decode(d).encode()) for d in documents[:2])
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_batches_have_a_bounded_number_of_tokens(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set[tuple[int, ...]]()
    score = cross_entropy.score
    monkeypatch.setattr(
        cross_entropy, "score", lambda m, w: shapes.add(tuple(w.inputs.shape)) or score(m, w)
    )
    monkeypatch.setattr(held_out, "BATCH_TOKENS", 256)
    for context, rows in ((16, 16), (64, 4), (512, 1)):
        shapes.clear()
        measure(bytes_model(context), corpus)
        assert max(shapes) == (rows, context)


def test_a_limit_below_one_is_refused(model: MultiTokenTransformer, corpus: Corpus) -> None:
    with pytest.raises(BadInput, match="the limit is 0 tokens; it must be at least 1"):
        measure(model, corpus, limit=0)


# --------------------------------------------------------------------------------------------------
# partial sums


class Killed(Exception):
    pass


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The batches that are scored. Partial sums are kept after each."""
    found: list[Tensor] = []
    score = cross_entropy.score

    def watched(model: MultiTokenTransformer, window: Window) -> Tensor:
        found.append(window.inputs)
        return score(model, window)

    monkeypatch.setattr(cross_entropy, "score", watched)
    monkeypatch.setattr(held_out, "SAVE_SECONDS", -1)
    return found


def kill_at(number: int, model: MultiTokenTransformer, corpus: Corpus, keep: Path) -> None:
    """Measure, but fail at the batch of this number."""
    with pytest.MonkeyPatch.context() as patch:
        score, count = cross_entropy.score, iter(range(1000))

        def failing(model: MultiTokenTransformer, window: Window) -> Tensor:
            if next(count) == number:
                raise Killed
            return score(model, window)

        patch.setattr(cross_entropy, "score", failing)
        with pytest.raises(Killed):
            measure(model, corpus, 4, keep=keep)


def test_a_killed_measurement_continues_and_ends_as_if_it_had_not_been_killed(
    model: MultiTokenTransformer, corpus: Corpus, tmp_path: Path, scored: list[Tensor]
) -> None:
    keep = tmp_path / "evals" / ".likelihood.partial"
    whole = measure(model, corpus, 4, keep=keep)
    assert not keep.exists()
    batches = list(scored)
    assert len(batches) > 10
    kill_at(6, model, corpus, keep)
    kill_at(3, model, corpus, keep)  # the first batch and two of what is left
    scored.clear()
    assert measure(model, corpus, 4, keep=keep) == whole  # bit for bit
    assert list(map(torch.equal, scored, [batches[0], *batches[8:]])) == [True] * len(scored)
    assert len(scored) == len(batches) - 7 and not keep.exists()


def test_partial_sums_of_something_else_are_not_used(
    model: MultiTokenTransformer, corpus: Corpus, tmp_path: Path, scored: list[Tensor]
) -> None:
    keep = tmp_path / "partial"
    kill_at(6, model, corpus, keep)
    kept = keep.read_bytes()
    with torch.no_grad():
        model.trunk[0].feed_forward.w2.weight.mul_(1.01)  # type: ignore[union-attr]
    expected = measure(model, corpus, 4)
    count = len(scored) - 6
    scored.clear()
    assert measure(model, corpus, 4, keep=keep) == expected  # another step
    assert len(scored) == count
    torn = json.loads(kept) | {"sums": [1.0]}
    for content in (kept[:-9], b"{}", b"[]", b'"x"', json.dumps(torn).encode()):
        keep.write_bytes(content)
        assert measure(model, corpus, 4, keep=keep) == expected
    keep.write_bytes(kept)
    assert measure(model, corpus, 4, 500, keep) == measure(model, corpus, 4, 500)  # another text


# --------------------------------------------------------------------------------------------------
# the command


def test_the_command_takes_a_limit_a_device_and_a_precision(
    make_config: Callable[..., TrainConfig], data: Path, tmp_path: Path, run_evals: Cli
) -> None:
    from mtp.training.run import train

    train(make_config(tokens=128), tmp_path / "run", data)

    def run(*args: str) -> str:
        done = run_evals(
            "--checkpoint", tmp_path / "run", "--data", data, *args, main=held_out.main
        )
        return done.out if done.code == 0 else done.err

    whole, few = run(), run("--limit-tokens", "1e2", "--device", "cpu", "--precision", "bf16")
    counts = [int(text.split()[-2].replace(",", "")) for text in (whole, few)]
    assert 100 <= counts[1] < counts[0]
    record = json.loads((tmp_path / "run" / "evals" / "held-out.json").read_text())
    assert record["measures"][0]["metric"] == "bits per byte"
    assert [path.name for path in (tmp_path / "run" / "evals").iterdir()] == ["held-out.json"]
    assert run("--limit-tokens", "many").startswith("error: argument --limit-tokens: 'many' is not")
    assert (
        run("--device", "gpu") == "error: unknown device 'gpu'; choose one of: cpu, cuda, cuda:N\n"
    )
    if not torch.cuda.is_available():
        said = "error: there is no cuda:1: torch sees no GPU here; choose cpu\n"
        assert run("--device", "cuda:1") == said
    said = "error: unknown precision 'fp8'; choose one of: float32, bf16\n"
    assert run("--precision", "fp8") == said
