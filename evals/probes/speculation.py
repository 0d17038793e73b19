"""What self-speculative decoding saves: the measures of Table S2 (and S3, for byte models)."""

import copy
import dataclasses
import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from mtp.decoding.generate import Generation, check_arguments, generate, stream
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.heads import reach
from mtp.model.loading import with_weights
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import Block

Prompts = list[list[int]]
Way = Callable[[Prompts], Generation]  # one way to continue prompts
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Speed:
    """One way of decoding.

    tokens     new tokens of each prompt
    accepted   (k,) row-forwards that accepted draft i, at index i - 1 (as in Generation)
    seconds    wall clock of each repeat, prefill included
    """

    tokens: list[list[int]]
    accepted: Tensor
    seconds: list[float]

    @property
    def tokens_per_forward(self) -> float:
        """Verified and accepted tokens per row-forward ("tokens / forward"), 1 + acceptances."""
        return 1 + sum(self.acceptance)

    @property
    def acceptance(self) -> list[float]:
        """Share of row-forwards in which the draft of head 2, 3, .. was accepted."""
        return (self.accepted[1:] / self.accepted[0]).tolist()

    @property
    def tokens_per_second(self) -> float:
        return sum(map(len, self.tokens)) / self.median_seconds

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    def ratios(self, other: "Speed") -> list[float]:
        """Tokens per second relative to another way, in each repeat."""
        more = sum(map(len, self.tokens)) / sum(map(len, other.tokens))
        pairs = zip(self.seconds, other.seconds, strict=True)
        return [more * theirs / ours for ours, theirs in pairs]

    def over(self, other: "Speed") -> float:
        """The median of these ratios. From the lowest to the highest of five is a 94% interval of
        the median of very many repeats."""
        return statistics.median(self.ratios(other))


def side_by_side(
    ways: Mapping[Name, Way], prompts: Prompts, batch: int, repeats: int
) -> dict[Name, Speed]:
    """Decode `prompts`, `batch` at a time, in each way: a warm-up, then `repeats` times in turn, so
    that other load on the machine affects all alike. Every other repeat takes the ways from last to
    first, so that none always has the same one before it."""
    if batch < 1 or repeats < 1:
        raise BadInput(f"batch is {batch}, repeats is {repeats}; both must be at least 1")
    if not prompts:
        raise BadInput("there are no prompts; give at least one list of token ids")
    groups = [prompts[i : i + batch] for i in range(0, len(prompts), batch)]
    seconds: dict[Name, list[float]] = {name: [] for name in ways}
    made: dict[Name, list[Generation]] = {}
    for way in ways.values():
        way(groups[0])
    for repeat in range(repeats):
        for name, way in list(ways.items())[:: -1 if repeat % 2 else 1]:
            start = time.perf_counter()
            made[name] = [way(group) for group in groups]  # ends on the host, hence synchronised
            seconds[name].append(time.perf_counter() - start)
    return {
        name: Speed(
            [row for each in made[name] for row in each.tokens],
            torch.stack([each.accepted for each in made[name]]).sum(0),
            seconds[name],
        )
        for name in ways
    }


def measure(
    model: MultiTokenTransformer,
    prompts: Prompts,
    max_new: int,
    k: int,
    eos: int | None = None,
    batch: int = 1,
    repeats: int = 3,
) -> dict[str, float]:
    """Greedy self-speculation with k heads against the same model with one, side by side.

    tokens_per_forward    verified and accepted tokens per row-forward ("tokens / forward")
    acceptance_2 .. _k    share of row-forwards in which draft i was accepted
    tokens_per_second     new tokens per second of wall clock, prefill included, with k heads
    tokens_per_second_k1  the same with one head
    speedup               their ratio ("relative speedup")
    identical             1.0 if both gave the same tokens, else 0.0

    With k=1 the speedup is an A/A control: two timings of the same, which differ by noise.

    As in the paper, the baseline of the speedup is the same model with k=1, which does not pay for
    its other heads. The paper decodes 4200 prompts of 512 tokens by 512 more at batch 42, on GPUs
    with 7B models; here all of that is the caller's, and our models are far smaller: a block of k
    tokens and the heads' layers cost relatively more. BadInput as in `generate`.
    """
    check_arguments(model, prompts, max_new, eos)
    on_gpu = model.embedding.weight.is_cuda  # with CUDA graphs: else launches would be timed
    ways = {
        name: partial(generate, model, max_new=max_new, k=heads, eos=eos, compiled=on_gpu)
        for name, heads in (("one", 1), ("all", k))  # both are timed if k is 1 too
    }
    found = side_by_side(ways, prompts, batch, repeats)
    one, block = found["one"], found["all"]
    return {
        "tokens_per_forward": block.tokens_per_forward,
        **{f"acceptance_{i}": share for i, share in enumerate(block.acceptance, 2)},
        "tokens_per_second": block.tokens_per_second,
        "tokens_per_second_k1": one.tokens_per_second,
        "speedup": block.over(one),
        "identical": float(one.tokens == block.tokens),
    }


# --------------------------------------------------------------------------------------------------
# drafts, position by position


@torch.inference_mode()
def ranks(
    model: MultiTokenTransformer, prompts: Prompts, outputs: list[list[int]], k: int
) -> list[list[int]]:
    """What each head would have drafted along texts, mostly the model's own outputs.

    An entry for each position of an output with k - 1 tokens after it: the ranks that heads 2..k,
    one step before, give to the tokens that came (0: the draft was right). Heads that read tokens
    are given those that came, not their drafts. Input of mtp.decoding.trees.best_tree.
    """
    found = []
    for prompt, output in zip(prompts, outputs, strict=True):
        text = torch.tensor([prompt + output], device=model.embedding.weight.device)
        # where head 1 predicts the output's tokens and head k's target is still in the text
        first, last = len(prompt) - 1, text.shape[1] - k
        if k == 1 or last <= first:
            continue
        columns = []
        for i, logits in enumerate(model(text, k)[1:], 2):
            logits = logits[0, first:last]  # (P, V) of x[t + i]
            came = text[0, first + i : last + i, None]  # (P, 1)
            columns.append((logits > logits.gather(1, came)).sum(1))  # (P,)
        found += torch.stack(columns, 1).tolist()
    return found


def with_shared_weights(model: MultiTokenTransformer) -> MultiTokenTransformer:
    """Another model of the same weights: modules of its own around the same tensors."""
    shared: dict[int, Tensor] = {}
    for module in model.modules():
        if isinstance(module, Block):
            module.prepare()  # else each would lay out the weights anew in its turn
        own = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        shared |= {id(each): each for each in own if isinstance(each, Tensor)}
    return copy.deepcopy(model, shared)  # pyright: ignore[reportArgumentType]


def plain_layer(layer: Block) -> Block:
    """The same layer without what it reads besides a latent."""
    if type(layer).enter is Block.enter:
        return layer
    plain = Block.__new__(Block)
    torch.nn.Module.__init__(plain)
    for name in ("attention_norm", "attention", "ffn_norm", "feed_forward"):
        setattr(plain, name, getattr(layer, name))
    plain.recompute = layer.recompute
    return plain


def with_one_head(model: MultiTokenTransformer, layers: int = 0) -> MultiTokenTransformer:
    """An n=1 model of equal size that has the layers of `model`, its heads' too, in one trunk, or
    the first `layers` of them. It shares their weights, so it needs no memory; its text means
    nothing, but a pass takes as long as that of a trained n=1 model."""
    config = dataclasses.replace(model.config, n=1)
    if layers:
        config = dataclasses.replace(config, layers=layers, extra_layers=0)
    with torch.device("meta"):
        single = MultiTokenTransformer(config)
    own = [plain_layer(part) for part in (*model.trunk, *model.heads) if isinstance(part, Block)]
    for name in ("embedding", "rope", "norm"):
        setattr(single, name, getattr(model, name))
    single.unembeddings = torch.nn.ModuleList([model.unembeddings[0]])
    first, last = own[: len(single.trunk)], own[len(single.trunk) :]
    single.trunk = torch.nn.ModuleList(first)
    is_layer = HEADS[config.head].is_layer
    single.heads = torch.nn.ModuleList(last[:1] if is_layer else [model.heads[0]])
    return single


def shifted(model: MultiTokenTransformer) -> MultiTokenTransformer:
    """The same next-token model, whose draft i is made for the place after its own: it is what head
    i + 1 predicts, and what head 2 predicts in place of the last. Raises BadInput for fewer than
    three heads, and for heads that read one another."""
    if model.config.n < 3 or HEADS[model.config.head].reads_heads(model.config.n):
        raise BadInput(
            f"drafts of {model.config.n} {model.config.head} heads cannot be shifted; it "
            "takes three that do not read one another"
        )
    wrong = with_shared_weights(model)
    one, two, *rest = wrong.heads
    wrong.heads = torch.nn.ModuleList([one, *rest, two])
    if len(wrong.unembeddings) > 1:
        one, two, *rest = wrong.unembeddings
        wrong.unembeddings = torch.nn.ModuleList([one, *rest, two])
    return wrong


def exchanged(model: MultiTokenTransformer) -> MultiTokenTransformer:
    """The same next-token model, whose drafts for a row of the batch are those made for the row
    before it. Raises BadInput for a single head, and for heads that read one another."""
    if model.config.n < 2 or HEADS[model.config.head].reads_heads(model.config.n):
        raise BadInput(
            f"drafts of {model.config.n} {model.config.head} heads cannot be exchanged; it "
            "takes two that do not read one another"
        )
    wrong = with_shared_weights(model)
    for head in list(wrong.heads)[1:]:
        made = "extend" if isinstance(head, Block) else "forward"
        setattr(head, made, partial(_rolled, getattr(head, made)))
    return wrong


def _rolled(extend: Callable[..., Tensor], *args: object) -> Tensor:
    return extend(*args).roll(1, 0)


def acceptance_while_all_run(
    model: MultiTokenTransformer, prompts: Prompts, max_new: int
) -> tuple[float, int]:
    """Share of row-forwards that accepted head 2's draft while no row was finished, so that every
    row had another one before it; and the number of these row-forwards."""
    accepted = passes = 0
    for gains in itertools.islice(stream(model, prompts, max_new), 1, None):
        if len(gains) < len(prompts):
            break
        accepted += sum(gain.accepted > 0 for gain in gains)
        passes += len(gains)
    return accepted / passes if passes else math.nan, passes


@torch.inference_mode()
def chance(model: MultiTokenTransformer, prompts: Prompts, outputs: list[list[int]]) -> float:
    """How often head 2's drafts would be right in other places than their own: the probability that
    a draft and a token, each taken from anywhere in the outputs, are equal."""
    drafts, tokens = Counter[int](), Counter[int]()
    for prompt, output in zip(prompts, outputs, strict=True):
        text = torch.tensor([prompt + output], device=model.embedding.weight.device)
        known = text.shape[1] - reach(model.config, 2)  # where the tokens that head 2 reads are
        drafts.update(model(text, 2)[1][0, len(prompt) - 1 : known].argmax(-1).tolist())
        tokens.update(output)
    return sum(drafts[t] * count for t, count in tokens.items()) / drafts.total() / tokens.total()


@torch.inference_mode()
def agreement(
    model: MultiTokenTransformer,
    prompts: Prompts,
    outputs: list[list[int]],
    head: int,
    places: Iterable[int],
) -> float:
    """Share of a head's drafts along finished outputs that equal the token so many places after
    their own (0: their own, -1: the one before), over all of `places`. It is counted without the
    decoder."""
    right = drafts = 0
    for prompt, output in zip(prompts, outputs, strict=True):
        text = torch.tensor(prompt + output, device=model.embedding.weight.device)
        best = model(text[None], head)[head - 1][0].argmax(-1)  # (T,)
        for place in places:
            at = torch.arange(len(prompt) - 1, len(text), device=text.device)
            at = at[(at + head + place >= len(prompt)) & (at + head + place < len(text))]
            right += int((best[at] == text[at + head + place]).sum())
            drafts += len(at)
    return right / max(drafts, 1)


@dataclass(frozen=True)
class Divergence:
    """Where two outputs for one prompt first differ, and how near the two best logits are there,
    in units in the last place of the larger one, when the text up to there is fed in one pass."""

    position: int
    gap: float


@torch.inference_mode()
def divergences(
    model: MultiTokenTransformer, prompts: Prompts, a: list[list[int]], b: list[list[int]]
) -> list[Divergence]:
    """The first difference of each prompt's two greedy outputs, in the model's own precision."""
    found = []
    for prompt, one, other in zip(prompts, a, b, strict=True):
        at = next(
            (i for i, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), None
        )
        if at is not None:
            text = torch.tensor([prompt + one[:at]], device=model.embedding.weight.device)
            best, second = model(text, 1)[0][0, -1].topk(2).values
            ulp = 2.0 ** torch.frexp(best.float()).exponent.item() * torch.finfo(best.dtype).eps / 2
            found.append(Divergence(at, float(best.float() - second.float()) / ulp))
    return found


def in_bf16(model: MultiTokenTransformer) -> MultiTokenTransformer:
    """A copy with bf16 weights, whose outputs need not be equal."""
    state = {name: weight.detach() for name, weight in model.state_dict().items()}
    return with_weights(model.config, {name: w.to(torch.bfloat16) for name, w in state.items()})
