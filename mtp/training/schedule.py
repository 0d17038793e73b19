"""The learning rate over a run (Table S13), and until when runs of several budgets are one."""

import math

from mtp.config import TrainConfig, decay_share


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up to lr, then a decay to lr * min_lr at the last step: a cosine (Table S13), or
    a line over the last share of the run, before which the rate is constant (config.lr_schedule).
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.lr_schedule != "cosine":
        begin = max(config.warmup, first_of_decay(config, steps))
        done = max(0, step + 1 - begin) / max(1, steps - begin)
        return config.lr * (1 - (1 - config.min_lr) * done)
    done = (step - config.warmup) / max(1, steps - 1 - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.min_lr + (1 - config.min_lr) * cosine)


def first_of_decay(config: TrainConfig, steps: int) -> int:
    """The first step, from 0, at which a run of so many steps with a wsd schedule has a lower
    learning rate than a longer run."""
    return steps - max(1, round(decay_share(config.lr_schedule) * steps))


def steps_of(config: TrainConfig, tokens: float) -> int:
    """The optimizer steps of a budget in tokens."""
    return max(1, round(tokens / (config.batch * config.model.context)))


def shared_steps(config: TrainConfig, steps: int) -> int:
    """How many steps a run of so many has in common with every longer run that differs in its
    budget alone; 0 if the budget changes the run from the beginning on. Besides the learning rate
    only a schedule of the objective's weights goes by shares of the budget."""
    return first_of_decay(config, steps) if config.objective.schedule == "constant" else 0
