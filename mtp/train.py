"""The training loop: one config, one folder, resumable at any moment.

    python -m mtp.train --run runs/first tokens=2e6 model.n=4 data.source=files:texts
    torchrun --nproc-per-node 8 -m mtp.train -- --run runs/first ...     (with the --)
    python -m mtp.train --run runs/tuned init=runs/first ...             (mtp/finetune.py)

    RUN/config.json     the frozen config         RUN/metrics.jsonl  a line per logged step
    RUN/status.json     state, step, ETA          RUN/checkpoint/    weights and optimizer
    RUN/start           sha256 of its init        RUN/kept/          weights of earlier steps

SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C save at the end of the step and leave; the same command goes
on. So does a run that was killed: it ends with the weights of an uninterrupted one, bit for bit on
a CPU.
"""

import argparse
import dataclasses
import fcntl
import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtp import checkpoint, finetune, parallel
from mtp.batches import IGNORE, Batches, epoch_tokens, evaluation_batches
from mtp.checkpoint import Checkpoint
from mtp.config import TrainConfig, differences, from_dict, to_json
from mtp.corpus import Corpus, build
from mtp.errors import BadInput, exit_cleanly
from mtp.loss import SCHEMES, score
from mtp.model import MultiTokenTransformer, flops_per_token
from mtp.pairs import Pairs
from mtp.parse import parse
from mtp.progress import Progress
from mtp.records import replace
from mtp.signals import Interrupted, catch_signals
from mtp.tokenizer import Tokenizer, load_if_any, same

EVAL_TOKENS = 65_536  # of the validation split, for the periodic evaluation


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up to lr, then a cosine down to lr * min_lr at the last step (Table S13)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - 1 - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.min_lr + (1 - config.min_lr) * cosine)


def new_optimizer(config: TrainConfig, weights: dict[str, Tensor]) -> torch.optim.AdamW:
    """AdamW with decoupled weight decay on matrices only."""
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


class Trainer:
    """Everything that changes during a run, from its start or its last checkpoint on.

    corpus    tokens and tokenizer, built from config.data (mtp/corpus.py)
    folder    the run's; created if need be. One process trains in it at a time.
    """

    def __init__(self, config: TrainConfig, corpus: Corpus, folder: Path) -> None:
        self.config, self.corpus, self.folder = config, corpus, folder
        self.rank, self.world = parallel.start_distributed()
        parallel.check_scheme(config, self.world)
        if config.model.vocab < corpus.tokenizer.vocab_size:
            raise BadInput(
                f"model.vocab {config.model.vocab} is smaller than the {corpus.tokenizer.name} "
                f"tokenizer's {corpus.tokenizer.vocab_size}; set model.vocab to at least that"
            )
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
        self.sums = torch.zeros(config.model.n, dtype=torch.float64)  # losses since the last log

        self.notes: list[str] = []  # to be told when training begins
        if isinstance(corpus.train, Pairs):
            self.notes.append(corpus.train.told(config.model.context))
        if config.init:
            if self.rank == 0:
                self.notes.append(finetune.begin(config, corpus.tokenizer, folder))
            parallel.wait_for_all()
        found = checkpoint.load(folder / "checkpoint")
        in_tokens = dataclasses.replace(
            config, epochs=0.0, tokens=self.steps * self.tokens_per_step
        )
        engine = parallel.keep_engine(
            parallel.choose_engine(in_tokens), found.state.get("engine") if found else None
        )
        self.engine = parallel.first_ranks(engine)
        torch.manual_seed(config.seed)
        model = MultiTokenTransformer(config.model)
        self.trainable = parallel.Trainable(model, self.engine, self.world)
        self.optimizer = new_optimizer(config, self.trainable.weights())
        if found:
            self._restore(found)

    # ----------------------------------------------------------------------------------------------
    # a step

    def train_step(self) -> tuple[Tensor, Tensor, float]:
        """One optimizer step: the heads' losses (n,), the gradient norm, the learning rate."""
        config, device = self.config, self.engine.device
        tokens, targets = self.batches.next()
        counts = (targets != IGNORE).flatten(1).sum(1).to(device)
        counts = parallel.sum_over_ranks(counts).clamp(min=1) / self.world  # FSDP averages
        losses = torch.zeros(config.model.n, device=device)
        for x, y in self._parts(tokens, targets):
            with self.trainable.autocast():
                losses += SCHEMES[config.loss](self.trainable.model, x, y, counts)
            self.trainable.collect_gradients()
        rate = learning_rate(config, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = parallel.clip_gradients(self.trainable.weights().values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trainable.publish()
        self.step += 1
        return parallel.sum_over_ranks(losses) / self.world, norm, rate

    def _parts(self, tokens: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        rows = self.config.micro or len(tokens)
        for first in range(0, len(tokens), rows):
            part = slice(first, first + rows)
            yield (
                tokens[part].to(self.engine.device, non_blocking=True),
                targets[:, part].to(self.engine.device, non_blocking=True),
            )

    def validate(self) -> list[float]:
        """Held-out loss per head, on the validation split's first tokens."""
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
        """A checkpoint of this step; all ranks take part, rank 0 writes."""
        model, moments = {}, {}
        for name, w in self.trainable.weights().items():
            state = self.optimizer.state[w]
            whole = [parallel.whole(t) for t in (w, state["exp_avg"], state["exp_avg_sq"])]
            if self.rank == 0:  # the others take part and keep nothing
                model[name], moments[f"exp_avg.{name}"], moments[f"exp_avg_sq.{name}"] = whole
        if self.rank == 0:
            state = {
                "step": self.step,
                "data": self.batches.state(),
                "loss_sums": self.sums.tolist(),
                "engine": vars(self.engine),
            }
            checkpoint.save(
                self.folder / "checkpoint", Checkpoint(self.step, model, moments, state)
            )

    def keep(self) -> None:
        """The weights of this step, for good; all ranks take part, rank 0 writes."""
        weights = {}
        for name, w in self.trainable.weights().items():
            whole = parallel.whole(w)
            if self.rank == 0:  # the others take part and keep nothing
                weights[name] = whole
        if self.rank == 0:
            checkpoint.keep(self.folder, self.step, weights)

    def _restore(self, found: Checkpoint) -> None:
        self.trainable.load(found.model)
        if not found.optimizer:  # weights to begin with: imported, grown or another run's
            return
        self.step = found.step
        self.batches.load_state(found.state["data"])
        self.sums = torch.tensor(found.state["loss_sums"], dtype=torch.float64)
        weights = self.trainable.weights()
        for name, weight in weights.items():
            state = self.optimizer.state[weight]
            state["step"] = torch.tensor(float(found.step), device=weight.device)
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.zeros_like(weight)
                parallel.assign(state[key], found.optimizer[f"{key}.{name}"])

    # ----------------------------------------------------------------------------------------------
    # the loop

    def run(self) -> None:
        """Train to the end. Raises Interrupted once a signal has been obeyed, and BadInput where
        the loss is no number any more."""
        with catch_signals() as caught:
            progress = Progress(self.folder, self.step, self.steps, quiet=self.rank > 0)
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
        peak = parallel.peak_flops(self.engine)
        if config.init and config.eval_every and self.step == 0:  # what finetuning has to improve
            progress.log({"step": 0, "validation_loss": self.validate()})
        while self.step < self.steps:
            losses, norm, rate = self.train_step()
            self.sums += losses.double().cpu()
            if not math.isfinite(self.sums.sum() + float(norm)):
                raise BadInput(
                    f"the loss or its gradient is not finite at step {self.step}; choose a "
                    f"smaller lr than {config.lr:g}, a longer warmup than {config.warmup}, or "
                    "precision=float32"
                )
            last = self.step == self.steps
            due = config.save_every and self.step % config.save_every == 0
            every = config.log_every or self.steps
            if self.step % every == 0 or last:
                seconds = progress.seconds_per_step(self.step)
                logged = self.step % every or every
                row: dict[str, Any] = {
                    "step": self.step,
                    "tokens": self.step * self.tokens_per_step,
                    "loss": (self.sums / logged).tolist(),
                    "lr": rate,
                    "grad_norm": float(norm),
                    "tokens_per_second": self.tokens_per_step / seconds,
                    "peak_memory_mb": parallel.peak_memory(self.engine) / 2**20,
                }
                if peak:
                    row["mfu"] = flops / seconds / peak / self.world
                self.sums.zero_()
                progress.log(row)
            if config.eval_every and (self.step % config.eval_every == 0 or last):
                progress.log({"step": self.step, "validation_loss": self.validate()})
            if config.keep_every and (self.step % config.keep_every == 0 or last):
                self.keep()
            stop = parallel.any_rank(bool(caught), self.engine.device)
            if due or last or stop:
                self.save()
            progress.tick(self.step)
            if stop and not last:
                progress.finish("interrupted")
                raise Interrupted(caught[0] if caught else signal.SIGTERM)
        progress.finish("finished")


def train(config: TrainConfig, folder: Path, data: Path = Path("data")) -> None:
    """Train `config` in `folder`, from its last checkpoint if it has one; nothing if finished.

    Raises BadInput where the folder holds another config or another process trains in it, and
    Interrupted after a signal.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadInput(f"{folder} cannot be the run's folder: {error.strerror}") from None
    with (folder / ".lock").open("w") as lock:
        if int(os.environ.get("RANK", "0")) == 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BadInput(f"another process is training in {folder}") from None
            claim(folder, config)
        own = own_tokenizer(folder)
        corpus = build(config.data, data, own=own)
        check_corpus(folder, corpus)
        if own and not same(own, corpus.tokenizer):
            raise BadInput(
                f"data.tokenizer={config.data.tokenizer} is not the one that {folder} has weights "
                f"for, {own.name}; train with that, or in another folder"
            )
        if int(os.environ.get("RANK", "0")) == 0:
            if not own:
                corpus.tokenizer.save(folder)  # what decoding from the run's folder needs
            (folder / "corpus").write_text(corpus.folder.name)
        Trainer(config, corpus, folder).run()


def own_tokenizer(folder: Path) -> Tokenizer | None:
    """What a run that has begun keeps of its tokenizer, the one that it has weights for."""
    return load_if_any(folder) if checkpoint.any_saved(folder / "checkpoint") else None


def check_corpus(folder: Path, corpus: Corpus) -> None:
    """BadInput where the run in `folder` began on another corpus: its source, a generator say, has
    changed since."""
    file = folder / "corpus"
    if file.exists() and (there := file.read_text()) != corpus.folder.name:
        raise BadInput(
            f"{folder} was trained on corpus {there}; its source makes {corpus.folder.name} now. "
            f"Delete {folder} to train anew, or go back to the source as it was"
        )


def claim(folder: Path, config: TrainConfig) -> None:
    """Write the config into the folder, or check that it is the one there."""
    file = folder / "config.json"
    if not file.exists():
        replace(file, to_json(config).encode())
        return
    try:
        there = from_dict(TrainConfig, parse(file.read_bytes()))
    except ValueError:
        raise BadInput(f"{file} is torn; delete {folder} to start over") from None
    if there != config:
        raise BadInput(
            f"{folder} holds a run of another config ({', '.join(differences(there, config))}); "
            "choose another folder"
        )


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mtp.train", description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--config", type=Path, help="a config.json to start from")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are built")
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="e.g. model.n=4")
    args = parser.parse_args()
    file = args.config or (args.run / "config.json" if not args.overrides else None)
    in_epochs = any(text.partition("=")[0].strip() == "epochs" for text in args.overrides)
    values: dict[str, Any] = {"epochs": 1} if in_epochs else {"tokens": 1e6}
    if file and (args.config or file.exists()):
        try:
            values = parse(file.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"config {file} cannot be read: {error}") from None
    config = finetune.override_from_start(from_dict(TrainConfig, values), args.overrides, args.run)
    try:
        train(config, args.run, args.data)
    except Interrupted as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        sys.exit(128 + stopped.signum)


if __name__ == "__main__":
    main()
