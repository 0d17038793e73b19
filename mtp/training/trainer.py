"""The training loop: a run's steps, validation and saving."""

import dataclasses
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtp import checkpoint, hardware
from mtp.checkpoint import Checkpoint
from mtp.config import TrainConfig
from mtp.data.batches import IGNORE, Batches, epoch_tokens, evaluation_batches
from mtp.data.corpus import Corpus
from mtp.data.pairs import Pairs
from mtp.data.tokenizer import check_vocab
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import flops_per_token, parameter_counts
from mtp.objective.cross_entropy import SCHEMES, score
from mtp.overrides import execution
from mtp.training import distributed, finetune, sinks
from mtp.training.engine import choose_engine
from mtp.training.executions import record_execution
from mtp.training.progress import Progress
from mtp.training.signals import Interrupted, catch_signals
from mtp.training.trainable import Trainable, clip_gradients

EVAL_TOKENS = 65_536  # of the validation split, for periodic validation


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up to lr, then a cosine decay to lr * min_lr at the last step (Table S13)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - 1 - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.min_lr + (1 - config.min_lr) * cosine)


def new_optimizer(config: TrainConfig, weights: dict[str, Tensor]) -> torch.optim.AdamW:
    """AdamW, with decoupled weight decay on matrices only."""
    groups = [
        {"params": [w for w in weights.values() if w.dim() >= 2]},
        {"params": [w for w in weights.values() if w.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def check_memory(config: TrainConfig, device: str, world: int) -> None:
    """Raise BadInput if weights, gradients and the optimizer's two moments, 16 bytes per parameter,
    exceed the memory of the device that holds one of `world` shares of them."""
    count = parameter_counts(config.model)["total"]
    need, have = 16 * count / world / 2**30, hardware.total_memory(device) / 2**30
    if need > have:
        raise BadInput(
            f"the model has {count:,} parameters; training it needs more than {need:,.0f} GB for "
            f"weights, gradients and optimizer, and this {device} has {have:,.0f} GB"
        )


class Trainer:
    """Everything that changes during a run, which starts or continues from its last checkpoint.

    corpus     tokens and tokenizer, built from config.data (mtp/data/corpus.py)
    folder     the run's folder
    precision  for a config that says "auto"; "": what suits this machine
    """

    def __init__(
        self, config: TrainConfig, corpus: Corpus, folder: Path, precision: str = ""
    ) -> None:
        self.config, self.corpus, self.folder = config, corpus, folder
        self.rank, self.world = distributed.start()
        distributed.check_scheme(config, self.world)
        check_vocab(config, corpus.tokenizer.name, corpus.tokenizer.vocab_size)
        self.batches = Batches(
            corpus.train,
            config.batch,
            config.model.context,
            config.model.n,
            config.seed,
            self.rank,
            self.world,
        )
        self.tokens_per_step = config.batch * config.model.context
        if config.eval_every and corpus.validation.tokens < 2:
            raise BadInput(
                f"eval_every is {config.eval_every}, but the corpus has no validation documents; "
                "choose a larger data.validation or corpus, or eval_every=0"
            )
        tokens = config.tokens or config.epochs * epoch_tokens(corpus.train, config.model.context)
        self.steps = max(1, round(tokens / self.tokens_per_step))
        self.step = 0
        self.loss_sums = torch.zeros(config.model.n, dtype=torch.float64)  # since the last log
        self.loss_steps = 0  # how many steps are summed

        sinks.check(config.log_to)
        self.notes: list[str] = []  # lines to print when training begins
        if config.warmup >= self.steps:
            self.notes.append(
                f"warning: warmup is {config.warmup} steps and the run has {self.steps}, so the "
                "learning rate never reaches lr; set a smaller warmup"
            )
        if busy := hardware.other_load():
            self.notes.append(busy)
        if isinstance(corpus.train, Pairs):
            self.notes.append(corpus.train.summary(config.model.context))
        if config.init:
            if self.rank == 0:
                self.notes.append(finetune.save_start_weights(config, corpus.tokenizer, folder))
            distributed.wait_for_all()
        found = checkpoint.load(folder / "checkpoint")
        in_tokens = dataclasses.replace(
            config, epochs=0.0, tokens=self.steps * self.tokens_per_step
        )
        saved = found.state.get("engine") if found else None
        self.engine = distributed.from_first_rank(choose_engine(in_tokens, precision, saved))
        check_memory(config, self.engine.device, self.world)
        torch.manual_seed(config.seed)
        model = MultiTokenTransformer(config.model)
        self.trainable = Trainable(model, self.engine, self.world)
        self.optimizer = new_optimizer(config, self.trainable.weights())
        if found:
            self._restore(found)

    def record_execution(self) -> None:
        """Write to RUN/engine.json how the steps that are left will be executed."""
        if self.step < self.steps:
            used = {"from_step": self.step} | execution(self.config) | vars(self.engine)
            used |= {"device_name": hardware.device_name(), "ranks": self.world}
            record_execution(self.folder, used)

    # ----------------------------------------------------------------------------------------------
    # a step

    def train_step(self) -> tuple[Tensor, Tensor, float]:
        """Take one optimizer step; returns the heads' losses (n,), the gradient norm and the
        learning rate."""
        config, device = self.config, self.engine.device
        tokens, targets = self.batches.next()
        counts = (targets != IGNORE).flatten(1).sum(1).to(device)
        counts = distributed.sum_over_ranks(counts).clamp(min=1) / self.world  # FSDP averages
        losses = torch.zeros(config.model.n, device=device)
        for x, y in self._parts(tokens, targets):
            with self.trainable.autocast():
                losses += SCHEMES[config.scheme](self.trainable.model, x, y, counts)
            self.trainable.collect_gradients()
        rate = learning_rate(config, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = clip_gradients(self.trainable.weights().values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trainable.update_model()
        self.step += 1
        return distributed.sum_over_ranks(losses) / self.world, norm, rate

    def _parts(self, tokens: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.config.micro or len(tokens)
        for first in range(0, len(tokens), rows):
            part = slice(first, first + rows)
            yield (
                tokens[part].to(self.engine.device, non_blocking=True),
                targets[:, part].to(self.engine.device, non_blocking=True),
            )

    def validate(self) -> list[float]:
        """Loss per head on the first EVAL_TOKENS of the validation split."""
        model, config = self.trainable.model, self.config.model
        sums = torch.zeros(3, config.n, dtype=torch.float64)
        rows = self.config.micro or self.config.batch // self.world
        with self.trainable.autocast():
            for x, y in evaluation_batches(
                self.corpus.validation, rows, config.context, config.n, EVAL_TOKENS
            ):
                sums += score(model, x.to(self.engine.device), y.to(self.engine.device))
        self.trainable.reshard()
        return (sums[0] / sums[1]).tolist()

    # ----------------------------------------------------------------------------------------------
    # saving

    def save(self) -> None:
        """Save a checkpoint of this step. All ranks take part; rank 0 writes."""
        model, moments = {}, {}
        for name, w in self.trainable.weights().items():
            state = self.optimizer.state[w]
            full = [distributed.full_copy(t) for t in (w, state["exp_avg"], state["exp_avg_sq"])]
            if self.rank == 0:  # the others take part and keep nothing
                model[name], moments[f"exp_avg.{name}"], moments[f"exp_avg_sq.{name}"] = full
        if self.rank == 0:
            state = {
                "step": self.step,
                "data": self.batches.state(),
                "loss_sums": self.loss_sums.tolist(),
                "loss_steps": self.loss_steps,
                "engine": vars(self.engine),
            }
            checkpoint.save(
                self.folder / "checkpoint", Checkpoint(self.step, model, moments, state)
            )

    def save_kept_weights(self) -> None:
        """Save the weights of this step for good. All ranks take part; rank 0 writes."""
        weights = {}
        for name, w in self.trainable.weights().items():
            full = distributed.full_copy(w)
            if self.rank == 0:  # the others take part and keep nothing
                weights[name] = full
        if self.rank == 0:
            checkpoint.save_kept_weights(self.folder, self.step, weights)

    def _restore(self, found: Checkpoint) -> None:
        self.trainable.load(found.model)
        if not found.optimizer:  # step 0 of a run with weights from elsewhere
            return
        self.step = found.step
        self.batches.load_state(found.state["data"])
        self.loss_sums = torch.tensor(found.state["loss_sums"], dtype=torch.float64)
        self.loss_steps = found.state["loss_steps"]
        weights = self.trainable.weights()
        for name, weight in weights.items():
            state = self.optimizer.state[weight]
            state["step"] = torch.tensor(float(found.step), device=weight.device)
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.zeros_like(weight)
                distributed.copy_into(state[key], found.optimizer[f"{key}.{name}"])

    # ----------------------------------------------------------------------------------------------
    # the loop

    def run(self) -> None:
        """Train to the end. Raises Interrupted when it has saved after a signal, and BadInput if
        the loss is no longer a number."""
        with catch_signals() as caught:
            progress = Progress(
                self.folder,
                self.step,
                self.steps,
                quiet=self.rank > 0,
                log_to=self.config.log_to,
                config=dataclasses.asdict(self.config),
            )
            try:
                self._loop(progress, caught)
            except Exception:
                progress.finish("failed")
                raise

    def _loop(self, progress: Progress, caught: list[int]) -> None:
        config = self.config
        for note in (*self.notes, f"engine: {self.engine.reason}"):
            progress.say(note)
        flops = flops_per_token(config.model) * self.tokens_per_step
        peak = hardware.peak_flops(hardware.device_name(), self.engine.precision)
        if config.init and config.eval_every and self.step == 0:  # the loss before finetuning
            progress.log({"step": 0, "validation_loss": self.validate()})
        clock = progress.clock
        while self.step < self.steps:
            losses, norm, rate = self.train_step()
            self.loss_sums += losses.double().cpu()
            self.loss_steps += 1
            if not math.isfinite(self.loss_sums.sum() + float(norm)):
                raise BadInput(
                    f"the loss or its gradient is not finite at step {self.step}; choose a "
                    f"smaller lr than {config.lr:g}, a longer warmup than {config.warmup}, or "
                    "precision=float32"
                )
            clock.step_done(self.step)
            last = self.step == self.steps
            due = config.save_every and self.step % config.save_every == 0
            every = config.log_every or self.steps
            if self.step % every == 0 or last:
                seconds = clock.lap(self.step)
                row: dict[str, Any] = {
                    "step": self.step,
                    "tokens": self.step * self.tokens_per_step,
                    "loss": (self.loss_sums / self.loss_steps).tolist(),
                    "lr": rate,
                    "grad_norm": float(norm),
                    "peak_memory_mb": hardware.peak_memory(self.engine.device) / 2**20,
                }
                if seconds:
                    row["tokens_per_second"] = self.tokens_per_step / seconds
                if seconds and peak:
                    row["mfu"] = flops / seconds / peak / self.world
                self.loss_sums.zero_()
                self.loss_steps = 0
                progress.log(row)
            stop = distributed.true_on_any_rank(bool(caught), self.engine.device)
            with clock.paused():
                if config.eval_every and (self.step % config.eval_every == 0 or last):
                    progress.log({"step": self.step, "validation_loss": self.validate()})
                if config.keep_every and (self.step % config.keep_every == 0 or last):
                    self.save_kept_weights()
                if due or last or stop:
                    self.save()
            progress.tick(self.step)
            if stop and not last:
                progress.finish("interrupted")
                raise Interrupted(caught[0] if caught else signal.SIGTERM)
        progress.finish("finished")
