"""What the heads learn from, as a config says it: weights, their schedule, balance and controls.

Nothing here needs torch. mtp/objective/ computes what is written here.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mtp.errors import BadInput, choose

TERMS = ("order", "bag", "latent", "embedding")  # fields that are weights
# How many places ahead each term looks: the field that says so, and its smallest value.
REACH = {
    "order": ("order_window", 0),
    "bag": ("bag_window", 2),
    "latent": ("latent_steps", 1),
    "embedding": ("embedding_steps", 1),
}
OPTIONS = {name: term for term, (name, _) in REACH.items()}
OPTIONS |= dict.fromkeys(("embedding_loss", "embedding_target", "embedding_decay"), "embedding")
LARGEST = 1e6  # weight; far below what float32 holds, with the sums and products of weights
SMALLEST = 1e-30  # other than 0
MEASURE = 25  # steps between two measurements, for balances that need them


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective: the weighted sum over heads of their mean cross-entropies.

    weights        of the heads' losses: equal (1 each, the paper's), sum1 (1/n each),
                   geometric:R (R^(i-1) for head i), or a number for each head, with commas
    schedule       of the weights of heads 2..n, over the budget from 0 to 1: constant, ramp:A:B (0
                   before A, growing to 1 at B), decay:A:B:F (1 before A, falling to F at B),
                   forward (one more head in each n-th of the budget), reverse (one fewer)
    balance        none; gradient (weights divided by the running norm of each head's gradient at
                   the trunk's latent); cosine (multiplied by its agreement with head 1's, at least
                   0); uncertainty (weights that are learned)
    measure_every  steps between measurements of the heads' gradients at the trunk's latent, which
                   go to metrics.jsonl; 0: none, or every 25 for a balance that needs them
    detach         heads 2..n change only weights of their own: their gradient reaches neither the
                   trunk nor what they share with head 1
    targets        what head i predicts: ahead (x[t+i]), same (x[t+1], as head 1), shuffled (x[t+i]
                   of another sequence of the batch)
    loss           of heads 2..n: ce (cross-entropy), kl (KL divergence from head 1's distribution
                   of the same token, which it gives i-1 positions later), tv (total variation from
                   it, 1 minus the rate at which speculative sampling accepts tokens drawn from the
                   head)
    token_weights  factors for the loss at each token as a target: FILE.py:NAME or MODULE:NAME of a
                   function from tokens (B, T+n) to factors, or labels:LABEL=FACTOR,.. with the
                   labels that the source's generator gives its text (1 for those not named,
                   other=FACTOR for text without one); empty: 1

    Terms beside the heads' losses, which read the next-token head (mtp/objective/terms/):

    order             weight of token-order prediction, the ranking of tokens by how soon they come;
                      0: none
    order_window      how many places ahead it looks; 0: the context
    bag               weight of the future summary, the set of the tokens x[t+2]..x[t+bag_window];
                      0: none
    bag_window        how many places ahead that set reaches
    latent            weight of next-latent prediction, of the latent at t+1 from the one at t and
                      x[t+1]; 0: none
    latent_steps      how many places ahead it is rolled
    embedding         weight of the prediction of a vector for each of the next tokens; 0: none
    embedding_steps   how many next tokens
    embedding_loss    cosine (distance) or infonce (contrast with the sequence's other tokens)
    embedding_target  which vectors: tokens (their embeddings) or average (the latents there of an
                      averaged copy of the trunk and head 1)
    embedding_decay   share of the average that stays at each step; for embedding_target=average
    """

    weights: str = "equal"
    schedule: str = "constant"
    balance: Literal["none", "gradient", "cosine", "uncertainty"] = "none"
    measure_every: int = 0
    detach: bool = False
    targets: Literal["ahead", "same", "shuffled"] = "ahead"
    loss: Literal["ce", "kl", "tv"] = "ce"
    token_weights: str = ""
    order: float = 0.0
    order_window: int = 0
    bag: float = 0.0
    bag_window: int = 8
    latent: float = 0.0
    latent_steps: int = 1
    embedding: float = 0.0
    embedding_steps: int = 4
    embedding_loss: Literal["cosine", "infonce"] = "cosine"
    embedding_target: Literal["tokens", "average"] = "tokens"
    embedding_decay: float = 0.999

    def __post_init__(self) -> None:
        parse_schedule(self.schedule)
        if self.detach and self.balance in ("gradient", "cosine"):
            raise BadInput(
                f"objective.balance={self.balance} weighs what heads do to the trunk; with "
                "objective.detach=true they do nothing to it"
            )
        if self.loss != "ce" and self.balance != "none":
            raise BadInput(
                f"objective.balance={self.balance} weighs cross-entropies; heads with "
                f"objective.loss={self.loss} have none"
            )
        if self.loss != "ce" and self.measure_every:
            raise BadInput(
                f"objective.loss={self.loss} is not what is measured at the latent, the gradients "
                "of cross-entropies; set measure_every=0"
            )
        if self.loss != "ce" and self.targets != "ahead":
            raise BadInput(
                f"objective.loss={self.loss} compares heads with head 1 on the same token; "
                f"objective.targets={self.targets} gives them another"
            )
        if self.measure_every < 0:
            raise BadInput(
                f"objective.measure_every is {self.measure_every}; it must be at least 0"
            )
        if self.token_weights and not self.token_weights.rpartition(":")[0]:
            raise BadInput(
                f"objective.token_weights is {self.token_weights!r}; it must be FILE.py:NAME or "
                "MODULE:NAME"
            )
        if self.token_weights.startswith("labels:"):
            label_factors(self.token_weights)
        for term, (name, least) in REACH.items():
            _check_weights(f"objective.{term}", str(getattr(self, term)), [getattr(self, term)])
            if getattr(self, name) < least:
                raise BadInput(
                    f"objective.{name} is {getattr(self, name)}; it must be at least {least}"
                )
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, term in OPTIONS.items():
            if not getattr(self, term) and getattr(self, name) != defaults[name]:
                raise BadInput(
                    f"objective.{name} is set, but objective.{term} is 0; set its weight above 0"
                )
        if not 0 <= self.embedding_decay <= 1:
            raise BadInput(
                f"objective.embedding_decay is {self.embedding_decay}; it must be from 0 to 1"
            )
        decays = self.embedding_decay != defaults["embedding_decay"]
        if decays and self.embedding_target != "average":
            raise BadInput(
                "objective.embedding_decay is set, but objective.embedding_target is "
                f"{self.embedding_target}; only embedding_target=average has an average"
            )

    @property
    def terms(self) -> dict[str, float]:
        """The terms whose weight is above 0, and their weights."""
        return {term: getattr(self, term) for term in TERMS if getattr(self, term)}

    @property
    def averages(self) -> bool:
        """Whether a term has an averaged copy of the model."""
        return self.embedding > 0 and self.embedding_target == "average"

    @property
    def measured_every(self) -> int:
        """Steps between measurements of the heads' gradients; 0: none."""
        return self.measure_every or (MEASURE if self.balance in ("gradient", "cosine") else 0)


def base_weights(text: str, n: int) -> list[float]:
    """The weights (n,) of an ObjectiveConfig.weights. Raises BadInput if it is none, or not for n
    heads.

    >>> base_weights("geometric:0.5", 3)
    [1.0, 0.5, 0.25]
    """
    if text == "equal":
        return [1.0] * n
    if text == "sum1":
        return [1.0 / n] * n
    kind, colon, ratio = text.partition(":")
    if kind == "geometric" and colon:
        allowed = "geometric takes 1 number R of at least 0"
        (r,) = _numbers("objective.weights", text, ratio, ":", 1, allowed)
        # one by one: the first that is too large is refused before a power overflows
        return _check_weights("objective.weights", text, (r**i for i in range(n)))
    numbers = "1 number" if n == 1 else f"{n} numbers with commas, one for each head"
    allowed = f"it must be equal, sum1, geometric:R, or {numbers}, of at least 0"
    found = _numbers("objective.weights", text, text, ",", n, allowed)
    _check_weights("objective.weights", text, found)
    if not found[0]:
        raise BadInput(f"objective.weights is {text!r}; that of head 1 must be above 0")
    return found


def _check_weights(where: str, text: str, weights: Iterable[float]) -> list[float]:
    """The weights. Raises BadInput unless each is 0 or a number that float32 holds well."""
    found = []
    for weight in weights:
        if weight != 0 and not SMALLEST <= weight <= LARGEST:
            gives = "" if text == str(weight) else f", which gives a weight of {weight:g}"
            raise BadInput(
                f"{where} is {text}{gives}; a weight must be 0, or from {SMALLEST:g} to {LARGEST:g}"
            )
        found.append(weight)
    return found


SCHEDULES = {"constant": 0, "ramp": 2, "decay": 3, "forward": 0, "reverse": 0}  # and their numbers
ALLOWED = {
    "ramp": "ramp:A:B takes 2 numbers with 0 <= A <= B <= 1",
    "decay": "decay:A:B:F takes 3 numbers with 0 <= A <= B <= 1 and F of at least 0",
}


def parse_schedule(text: str) -> tuple[str, list[float]]:
    """The kind and the numbers of an ObjectiveConfig.schedule. Raises BadInput if it is none.

    >>> parse_schedule("ramp:0.2:0.4")
    ('ramp', [0.2, 0.4])
    """
    kind, _, rest = text.partition(":")
    choose("objective.schedule", kind, SCHEDULES)
    if not SCHEDULES[kind]:
        if text != kind:
            raise BadInput(f"objective.schedule is {text!r}; {kind} takes no numbers")
        return kind, []
    numbers = _numbers("objective.schedule", text, rest, ":", SCHEDULES[kind], ALLOWED[kind])
    if not 0 <= numbers[0] <= numbers[1] <= 1:
        raise BadInput(f"objective.schedule is {text!r}; {ALLOWED[kind]}")
    _check_weights("objective.schedule", text, numbers[2:])
    return kind, numbers


def scheduled(config: ObjectiveConfig, n: int, share: float) -> list[float]:
    """The weights (n,) of the heads when this share of the budget, from 0 to below 1, is used. With
    `sum1` they add up to 1 at every moment, after a balance too."""
    kind, numbers = parse_schedule(config.schedule)
    factors = [1.0] * n
    if kind in ("ramp", "decay"):
        begin, end = numbers[:2]
        done = min(1.0, max(0.0, share - begin) / (end - begin)) if end > begin else share >= begin
        factor = float(done) if kind == "ramp" else 1 + (numbers[2] - 1) * done
        factors[1:] = [factor] * (n - 1)
    elif kind in ("forward", "reverse"):
        passed = min(n - 1, int(share * n))  # whole n-ths of the budget
        active = passed + 1 if kind == "forward" else n - passed
        factors = [float(i < active) for i in range(n)]
    weights = [w * f for w, f in zip(base_weights(config.weights, n), factors, strict=True)]
    if config.weights == "sum1":
        weights = [w / sum(weights) for w in weights]
    return weights


def most_weights(config: ObjectiveConfig, n: int) -> list[float]:
    """The largest weight (n,) that each head has at any moment."""
    kind, numbers = parse_schedule(config.schedule)
    times = {0.0, 1 - 1e-9, *(x for x in numbers[:2] if kind in ("ramp", "decay") and x < 1)}
    found = [scheduled(config, n, share) for share in times]
    return [max(each) for each in zip(*found, strict=True)]


def _numbers(
    where: str, text: str, part: str, separator: str, count: int, allowed: str
) -> list[float]:
    """`count` numbers of at least 0. Raises BadInput that shows the whole `text` and what is
    `allowed`."""
    pieces = part.split(separator) if part else []
    try:
        found = [float(piece) for piece in pieces]
    except ValueError:
        found = []
    if len(found) != count or len(pieces) != count or not all(0 <= x < math.inf for x in found):
        raise BadInput(f"{where} is {text!r}; {allowed}")
    return found


def label_factors(text: str) -> dict[str, float]:
    """The factors by label.

    >>> label_factors("labels:answer=4,other=0")
    {'answer': 4.0, 'other': 0.0}
    """
    found: dict[str, float] = {}
    for part in text.removeprefix("labels:").split(","):
        label, equals, number = part.partition("=")
        try:
            factor = float(number) if equals and label else -1.0
        except ValueError:
            factor = -1.0
        wrong = "" if 0 <= factor <= 1e6 else "is not LABEL=FACTOR with a factor from 0 to 1e6"
        if wrong := wrong or "names a label for the second time" * (label in found):
            raise BadInput(f"objective.token_weights is {text!r}: {part!r} {wrong}")
        found[label] = factor
    return found
