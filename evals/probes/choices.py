"""Choices with and without consequences (synthetic/choices.py; section 5.1, Appendix L.3).

Since the process is known, nothing here is estimated from held-out text: the losses are on all
questions of both kinds, the divergence is from the true distribution, and a sampled block is one
that the process can make, or not.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtp.config import CorpusConfig
from mtp.data.corpus import Corpus
from mtp.data.sources import generator_options
from mtp.decoding.generate import generate
from mtp.decoding.sampling import Sampling
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic import choices

MODULE = "synthetic.choices"
UNIFORM = math.log(choices.WAYS)  # nats of a choice to a model that knows its place alone
OTHER = "other"


def task_of(corpus: Corpus) -> choices.Task:
    """The task that a corpus was made for. Raises BadInput if it is not one of choices in bytes."""
    config = CorpusConfig(**corpus.manifest["config"])
    module, options = generator_options(config.source)
    if module != MODULE or config.tokenizer != "bytes":
        raise BadInput(
            f"the corpus is of source {config.source} in {config.tokenizer}; this evaluation needs "
            f"python:{MODULE} in bytes"
        )
    return choices.task(options)


@torch.inference_mode()
def head_one(model: MultiTokenTransformer, corpus: Corpus, documents: Sequence[str]) -> Tensor:
    """Head 1's log-probabilities (N, T, V) after each prefix of N documents of one length, the
    first after bos alone; float32 on the CPU."""
    text, device = corpus.tokenizer, model.embedding.weight.device
    tokens = torch.tensor([[text.bos, *text.encode(d)] for d in documents], device=device)
    return model(tokens, 1)[0].float().log_softmax(-1).cpu()


def choice_losses(model: MultiTokenTransformer, corpus: Corpus, times: int) -> dict[str, float]:
    """Head 1's loss in nats at the choices of kind A and of kind B, with each question asked so
    many times."""
    task = task_of(corpus)
    exam = task.exam(times)
    log_p = head_one(model, corpus, exam)
    at = 3 + task.gap + task.length * np.arange(task.blocks)  # (blocks,)
    ids = torch.tensor([list(d.encode()) for d in exam])  # (N, T)
    losses = -log_p[:, at].gather(-1, ids[:, at, None])[..., 0]  # (N, blocks)
    kinds = ids[:, at - 3 - task.gap]
    return {kind: float(losses[kinds == ord(kind)].mean()) for kind in choices.KINDS}


def divergence(model: MultiTokenTransformer, corpus: Corpus, times: int) -> float:
    """KL divergence of head 1 from the process, in nats per block: the sum over a document's places
    of the divergence there, over its blocks."""
    task = task_of(corpus)
    exam = task.exam(times)
    log_p = head_one(model, corpus, exam).double()
    ids = [*range(choices.END), corpus.tokenizer.eos]  # of the columns of the truth
    truth = torch.from_numpy(np.stack([task.truth(document) for document in exam]))
    nats = torch.xlogy(truth, truth) - truth * log_p[..., ids]  # (N, T, 257)
    return float(nats.sum()) / (len(exam) * task.blocks)


@dataclass(frozen=True)
class Sampled:
    """Blocks drawn from a model by kind (A, B or OTHER, text before a document's first kind), and
    how many of them are valid."""

    blocks: dict[str, int]
    valid: dict[str, int]


def sampled(model: MultiTokenTransformer, corpus: Corpus, count: int, seed: int = 0) -> Sampled:
    """`count` documents drawn from head 1, cut where a kind begins."""
    task, text = task_of(corpus), corpus.tokenizer
    draw = Sampling(temperature=1.0, seed=seed)
    made = generate(
        model, [[text.bos]] * count, task.context - 2, k=1, eos=text.eos, sampling=draw
    ).tokens
    parts = [re.split(f"(?=[{choices.KINDS}])", text.decode(tokens)) for tokens in made]
    blocks = [block for part in parts for block in part if block]
    kinds = (*choices.KINDS, OTHER)
    kind_of = {block: block[0] if block[0] in choices.KINDS else OTHER for block in blocks}
    return Sampled(
        {kind: sum(kind_of[b] == kind for b in blocks) for kind in kinds},
        {kind: sum(kind_of[b] == kind and task.is_valid(b) for b in blocks) for kind in kinds},
    )
