"""Folders with all heads: transformers loads them, and decodes with the heads as drafts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mtp.config import ModelConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.formats.hf_heads import write_hf_heads
from mtp.model.model import MultiTokenTransformer

SHAPE = {"dim": 32, "layers": 5, "attn_heads": 4, "kv_heads": 2, "vocab": 258, "context": 64}
PROMPT = [256, 104, 101, 108, 108, 111]


def model_of(head: str, n: int = 3) -> MultiTokenTransformer:
    torch.manual_seed(0)
    model = MultiTokenTransformer(ModelConfig(head=head, n=n, **SHAPE)).eval()  # type: ignore[arg-type]
    with torch.no_grad():  # so that the text repeats itself, and drafts are right now and then
        for weight in model.unembeddings.parameters():
            weight[:240] *= 0.05
    return model


@pytest.mark.parametrize("head", ["parallel", "causal", "linear", "replicated"])
def test_transformers_decodes_with_our_heads(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[hf]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = model_of(head)
    write_hf_heads(tmp_path, model, ByteTokenizer())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    passes: list[int] = []
    theirs.model.register_forward_hook(lambda *_: passes.append(1))
    ids = torch.tensor([PROMPT, PROMPT[::-1]])

    def decode(**options: Any) -> list[list[int]]:
        passes.clear()
        found = theirs.generate(ids, max_new_tokens=40, eos_token_id=-1, **options)
        return found[:, len(PROMPT) :].tolist()

    ours = generate(model, ids.tolist(), 40)
    plain = decode(do_sample=False)
    assert plain == ours.tokens
    own = {"custom_generate": str(tmp_path), "trust_remote_code": True}
    assert decode(**own) == ours.tokens
    # As many passes as ours, prefills included: so every draft is the one that we would make.
    assert len(passes) == sum(ours.row_forwards) + 2
    assert sum(ours.row_forwards) < 2 * 39 or head == "linear", "some drafts are accepted"
    assert decode(k=1, **own) == ours.tokens and len(passes) == 2 * 40
    with pytest.raises(ValueError, match="k is 4; it must be from 1 to the folder's 3 heads"):
        decode(k=4, **own)
    with pytest.raises(ValueError, match="greedy"):
        decode(do_sample=True, **own)


def test_rows_end_at_eos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[hf]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = model_of("parallel")
    write_hf_heads(tmp_path, model, ByteTokenizer())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    whole = generate(model, [PROMPT], 30).tokens[0]
    eos = whole[7]
    found = theirs.generate(
        torch.tensor([PROMPT]), max_new_tokens=30, eos_token_id=eos,
        custom_generate=str(tmp_path), trust_remote_code=True,
    )  # fmt: skip
    assert found[0, len(PROMPT) :].tolist() == whole[: whole.index(eos) + 1]


def test_heads_that_head_1_reads_through_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="hf-heads cannot hold anticausal heads"):
        write_hf_heads(tmp_path, model_of("anticausal"), None)
    assert not list(tmp_path.iterdir())
