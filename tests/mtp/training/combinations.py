"""The axes of a run's objective, heads and execution, the combinations that make no sense, and a
list of the others in which each pair of values of different axes occurs."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mtp.head_types import HEADS

Values = dict[str, Any]  # fields of a TrainConfig by their names on a command line
Combination = dict[str, str]  # axis -> value
Pair = tuple[str, str, str, str]  # axis, value, another axis, its value

LISTED = {1: "0.5", 2: "1,0.5", 3: "0.5,1,0"}  # a weight for each of n heads
TRIGGER = "tests.mtp.objective.test_objective:trigger"


def plain(name: str, *values: Any) -> dict[str, Values]:
    """An axis of one field."""
    return {str(value) or "none": {name: value} for value in values}


def term(name: str, **options: Values) -> dict[str, Values]:
    """An axis of a term: without it, and with it and such options."""
    return {"none": {}} | {
        label: {f"objective.{name}": 0.25} | {f"objective.{name}_{k}": v for k, v in own.items()}
        for label, own in options.items()
    }


# Axis -> value -> what it sets. The first value of an axis goes with all values of all others.
# With one head there is nothing to weigh, detach or teach: a pair of values is trained with more.
AXES: dict[str, dict[str, Values]] = {
    "n": plain("model.n", 2, 3),
    "head": plain("model.head", *HEADS),
    "weights": plain("objective.weights", "equal", "sum1", "geometric:0.5", "listed"),
    "schedule": plain(
        "objective.schedule", "constant", "ramp:0.2:0.6", "decay:0:1:0.1", "forward", "reverse"
    ),
    "balance": plain("objective.balance", "none", "gradient", "cosine", "uncertainty"),
    "measure_every": plain("objective.measure_every", 0, 2),
    "detach": plain("objective.detach", False, True),
    "targets": plain("objective.targets", "ahead", "same", "shuffled"),
    "loss": plain("objective.loss", "ce", "kl", "tv"),
    "token_weights": {"none": {}, "trigger": {"objective.token_weights": TRIGGER}},
    "order": term("order", whole={}, near={"window": 5}),
    "bag": term("bag", far={}, near={"window": 3}),
    "latent": term("latent", once={}, twice={"steps": 2}),
    "embedding": term(
        "embedding",
        cosine={"steps": 2},
        average={"target": "average", "loss": "infonce", "decay": 0.5},
    ),
    "start": {
        "none": {},
        "init": {"init": "START"},
        "frozen": {"init": "START", "freeze": "trunk"},
    },
    "scheme": plain("scheme", "fused", "sequential", "plain"),
    "micro": plain("micro", 0, 2),
    "recompute": plain("recompute", 0, 2),
}
FIRST: Combination = {axis: next(iter(values)) for axis, values in AXES.items()}


def values_of(combination: Combination) -> Values:
    """The fields that a combination sets."""
    found: Values = {"model.n": int(combination["n"])}  # n=1 is not on its axis
    for axis, value in combination.items():
        found |= AXES[axis].get(value, {})
    if found["objective.weights"] == "listed":
        found["objective.weights"] = LISTED[found["model.n"]]
    return found


def name_of(combination: Combination) -> str:
    """The head type and n, and what else is not the first value of its axis."""
    other = (f"{a}={v}" for a, v in combination.items() if v != FIRST[a] and a not in ("n", "head"))
    return " ".join([combination["head"], f"n={combination['n']}", *other])


# --------------------------------------------------------------------------------------------------
# what makes no sense


@dataclass(frozen=True)
class Rule:
    """What is refused, and the words of the message: the fields whose values do not go together."""

    words: tuple[str, ...]
    broken: Callable[[Values], bool]


# Of all fields that a rule reads. With the first value of each no rule is broken.
FIELDS: dict[str, tuple[Any, ...]] = {
    "model.n": (2, 1, 3),
    "model.head": tuple(HEADS),
    "objective.weights": ("equal", "sum1", "1,0.5", "1,0,0"),
    "objective.schedule": ("constant", "reverse", "ramp:0.5", "ramp:0.6:0.2", "decay:0:0:0"),
    "objective.balance": ("none", "gradient", "cosine", "uncertainty"),
    "objective.measure_every": (0, 2),
    "objective.detach": (False, True),
    "objective.targets": ("ahead", "same", "shuffled"),
    "objective.loss": ("ce", "kl", "tv"),
    "objective.token_weights": ("", TRIGGER, "trigger"),
    "objective.order": (0.0, 0.25),
    "objective.order_window": (0, 5),
    "objective.bag": (0.0, 0.25),
    "objective.bag_window": (8, 3),
    "objective.latent": (0.0, 0.25),
    "objective.latent_steps": (1, 2),
    "objective.embedding": (0.0, 0.25),
    "objective.embedding_steps": (4, 2),
    "objective.embedding_loss": ("cosine", "infonce"),
    "objective.embedding_target": ("tokens", "average"),
    "objective.embedding_decay": (0.999, 0.5),
    "init": ("", "START"),
    "freeze": ("none", "trunk"),
    "batch": (4, 3),
    "micro": (0, 2),
}
DEFAULTS: Values = {name: values[0] for name, values in FIELDS.items()}
OPTIONS = {
    "order": ("order_window",),
    "bag": ("bag_window",),
    "latent": ("latent_steps",),
    "embedding": ("embedding_steps", "embedding_loss", "embedding_target", "embedding_decay"),
}
TOLD = ("sequential", "sequential-shared", "inject")  # head 2 reads x[t+1]


def frozen(v: Values) -> bool:
    return v["freeze"] == "trunk"


def taught(v: Values) -> bool:
    return v["objective.loss"] != "ce"


def of_latent(v: Values) -> bool:
    """Whether the balance measures gradients at the latent."""
    return v["objective.balance"] in ("gradient", "cosine")


def through_others(v: Values) -> bool:
    """Whether head 1 reads other heads."""
    return v["model.n"] > 1 and v["model.head"] == "anticausal"


def option_alone(term: str, option: str) -> Rule:
    name, weight = f"objective.{option}", f"objective.{term}"
    return Rule((name, f"{weight} is 0"), lambda v: not v[weight] and v[name] != DEFAULTS[name])


def frozen_term(term: str) -> Rule:
    weight = f"objective.{term}"
    return Rule(("freeze=trunk", f"{weight} "), lambda v: frozen(v) and v[weight] > 0)


def listed(v: Values) -> list[str]:
    return v["objective.weights"].split(",") if "," in v["objective.weights"] else []


RULES = [
    Rule(("objective.weights", "number"), lambda v: len(listed(v)) not in (0, v["model.n"])),
    Rule(
        ("objective.schedule is",),
        lambda v: v["objective.schedule"] in ("ramp:0.5", "ramp:0.6:0.2"),
    ),
    Rule(("objective.token_weights is",), lambda v: v["objective.token_weights"] == "trigger"),
    Rule(("micro 2", "batch 3"), lambda v: v["micro"] > 0 and v["batch"] % v["micro"] > 0),
    Rule(
        ("objective.targets=shuffled", "batch is 3"),
        lambda v: v["objective.targets"] == "shuffled" and v["batch"] % 2 > 0,
    ),
    Rule(
        ("objective.targets=same", "heads are told"),
        lambda v: v["objective.targets"] == "same" and v["model.n"] > 1 and v["model.head"] in TOLD,
    ),
    Rule(
        ("objective.balance", "objective.detach"), lambda v: v["objective.detach"] and of_latent(v)
    ),
    Rule(
        ("objective.detach", "anticausal"), lambda v: v["objective.detach"] and through_others(v)
    ),
    Rule(
        ("objective.balance", "objective.loss"),
        lambda v: taught(v) and v["objective.balance"] != "none",
    ),
    Rule(
        ("objective.loss", "measure_every"),
        lambda v: taught(v) and v["objective.measure_every"] > 0,
    ),
    Rule(
        ("objective.loss", "objective.targets"),
        lambda v: taught(v) and v["objective.targets"] != "ahead",
    ),
    Rule(("freeze=trunk", "set init"), lambda v: frozen(v) and not v["init"]),
    Rule(("freeze=trunk", "head 1 has no other heads"), lambda v: frozen(v) and v["model.n"] == 1),
    Rule(("freeze=trunk", "other anticausal heads"), lambda v: frozen(v) and through_others(v)),
    Rule(("freeze=trunk", "objective.balance"), lambda v: frozen(v) and of_latent(v)),
    Rule(
        ("freeze=trunk", "objective.weights and schedule"),
        lambda v: (
            frozen(v)
            and v["model.n"] > 1
            and ("decay:0:0:0" in v["objective.schedule"] or set(listed(v)[1:]) == {"0"})
        ),
    ),
    Rule(
        ("objective.embedding_decay", "objective.embedding_target"),
        lambda v: (
            v["objective.embedding_decay"] != 0.999
            and v["objective.embedding_target"] != "average"
        ),
    ),
    *(option_alone(term, option) for term, options in OPTIONS.items() for option in options),
    *(frozen_term(term) for term in OPTIONS),
]  # fmt: skip


def broken(values: Values) -> list[Rule]:
    """The rules that these fields break, the others at their defaults; none if it makes sense."""
    return [rule for rule in RULES if rule.broken(DEFAULTS | values)]


def random_values(rng: random.Random) -> Values:
    """Any value for the head type and n; each other field mostly at its default."""
    found = {
        name: rng.choice(values if rng.random() < 0.2 else values[:1])
        for name, values in FIELDS.items()
    }
    return found | {
        "model.n": rng.choice(FIELDS["model.n"]),
        "model.head": rng.choice(FIELDS["model.head"]),
        "init": rng.choice(FIELDS["init"]),
    }


# --------------------------------------------------------------------------------------------------
# the pairs of values, and combinations that cover them


def all_pairs() -> list[Pair]:
    return [
        (a, x, b, y) for a, b in combinations(AXES, 2) for x in AXES[a] for y in AXES[b]
    ]  # fmt: skip


def refused_pairs() -> list[Pair]:
    """Those that make no sense."""
    return [pair for pair in all_pairs() if broken(values_of(with_pair(pair)))]


def with_pair(pair: Pair) -> Combination:
    """All other axes at their first values."""
    a, x, b, y = pair
    return FIRST | {a: x, b: y}


def pairs_of(combination: Combination) -> list[Pair]:
    """The pairs of values in a combination."""
    return [(a, combination[a], b, combination[b]) for a, b in combinations(AXES, 2)]


def cover(seed: int, candidates: int = 16) -> list[Combination]:
    """Combinations without a refused pair in which each other pair occurs, drawn greedily:
    each has one pair that is missing, and then axis by axis the value with the most of them; of
    some such candidates the one with the most is taken."""
    rng, never = random.Random(seed), set(refused_pairs())
    places = {axis: i for i, axis in enumerate(AXES)}
    missing = {pair: None for pair in all_pairs() if pair not in never}  # in a fixed order

    def pair(a: str, x: str, b: str, y: str) -> Pair:
        return (a, x, b, y) if places[a] < places[b] else (b, y, a, x)

    def candidate() -> Combination:
        a, x, b, y = rng.choice(list(missing))
        found = {a: x, b: y}
        others = [axis for axis in AXES if axis not in found]
        rng.shuffle(others)
        for axis in others:
            best = (-1.0, "")
            for value in AXES[axis]:
                made = [pair(axis, value, other, own) for other, own in found.items()]
                if not any(each in never for each in made):
                    gain = sum(each in missing for each in made) + rng.random() / 2
                    best = max(best, (gain, value))
            found[axis] = best[1]
        return {axis: found[axis] for axis in AXES}

    chosen = []
    while missing:
        drawn = [candidate() for _ in range(candidates)]
        chosen.append(max(drawn, key=lambda c: sum(each in missing for each in pairs_of(c))))
        for each in pairs_of(chosen[-1]):
            missing.pop(each, None)
    return chosen


def with_one_head(chosen: list[Combination], number: int) -> list[Combination]:
    """The first of these combinations that begin with random weights, but with one head."""
    return [c | {"n": "1"} for c in chosen if c["start"] == "none"][:number]
