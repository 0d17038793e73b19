"""The training loop: a run's steps, validation and saving."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import torch
import torch._functorch.config as functorch
from torch import Tensor

from mtp import checkpoint, hardware
from mtp.checkpoint import Saved
from mtp.config import TrainConfig
from mtp.data.batches import Batches, epoch_tokens, evaluation_batches
from mtp.data.corpus import Corpus
from mtp.data.pairs import Pairs
from mtp.data.tokenizer import check_vocab
from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.model.memory import check_memory, whole_gradients_fit
from mtp.model.model import AUXILIARY
from mtp.model.sizes import run_flops_per_token
from mtp.objective.cross_entropy import score
from mtp.objective.measure import norms_and_cosines
from mtp.objective.objective import Objective, Part
from mtp.overrides import execution
from mtp.training import branch, distributed, finetune, sinks, time_limit
from mtp.training.branch import Branch
from mtp.training.clock import Clock
from mtp.training.engine import choose_engine
from mtp.training.executions import record_execution
from mtp.training.optimizer import clip_gradients, new_optimizer
from mtp.training.progress import Progress
from mtp.training.saving import Saver
from mtp.training.schedule import learning_rate, shared_steps, steps_of
from mtp.training.signals import Interrupted, catch_signals
from mtp.training.state import check_state, own_files
from mtp.training.stream import Stream
from mtp.training.trainable import Trainable

EVAL_TOKENS = 65_536  # of the validation split, for periodic validation
CHECK_EVERY = 100  # steps, at most, between looks at whether the loss is a number; as many
# without a factor above 0 are a mistake in token weights
MOMENTS = ("exp_avg", "exp_avg_sq")


class Trainer:
    """Everything that changes during a run, which starts or continues from its last checkpoint, or
    from that of a shorter run (`branch`).

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
        distributed.check_pairs(config, self.world)
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
        self.steps = steps_of(config, tokens)
        self.shared_steps = shared_steps(config, self.steps)  # with longer runs
        self.step = 0
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
        self.saver = Saver(folder / "checkpoint")
        saved = self.saver.newest()
        in_tokens = dataclasses.replace(
            config, epochs=0.0, tokens=self.steps * self.tokens_per_step
        )
        begun = saved.state.get("engine") if saved else None
        self.branch = None if saved and saved.has_moments else self._branch(precision)
        if self.branch:  # its precision; what suits a longer run may differ otherwise
            saved, begun = self.branch.saved, None
            precision = saved.state["engine"]["precision"]
        self.engine = distributed.from_first_rank(choose_engine(in_tokens, precision, begun))
        device = self.engine.device
        where = self.engine.precision, self.world, hardware.total_memory(device), device
        check_memory(config, *where)
        mesh = distributed.mesh_of(self.world, config.shard, device)
        self.objective = Objective(config, device, corpus.tokenizer)
        terms = self.objective.terms.by_name
        if config.objective.measured_every:  # goes back through a compiled layer more than once
            functorch.donated_buffer = False
        freeze = config.freeze == "trunk"
        own = config.model, self.engine, mesh, config.recompute, terms, freeze
        self.trainable = Trainable(*own)
        self.optimizer = new_optimizer(config, self.trainable.trained())
        self.stream = Stream(self.batches, device, ahead=device != "cpu")
        self.whole_gradients = whole_gradients_fit(config, *where)
        # Sums since the last log, of heads and terms, and the first step without a finite loss: on
        # the device, where adding to them waits for nothing.
        losses = config.model.n + len(terms)
        self.loss_sums = torch.zeros(losses, dtype=torch.float64, device=device)
        self.loss_steps = 0
        self.first_bad = torch.zeros((), dtype=torch.int64, device=device)
        if saved:
            self._restore(saved)
        else:
            self.trainable.draw(config.seed)
        self.began = self.step

    def _branch(self, precision: str) -> Branch | None:
        """The shorter run that this one continues instead of training from the start. Notes say
        which, and which not and why."""
        if not self.shared_steps:
            return None

        def check(state: dict[str, Any]) -> None:
            given = precision if self.config.precision == "auto" else ""
            for name, own in (("device", hardware.default_device()), ("precision", given)):
                if own and (there := state["engine"][name]) != own:
                    raise BadInput(f"its {name} is {there}, not {own}")
            check_state(state, self.config, self.batches)

        own = self.config, self.folder, self.shared_steps, self.corpus.folder.name
        found, notes = branch.find(*own, check, self.saver)
        self.notes += notes
        return found

    def record_beginning(self) -> None:
        """Take over what a shorter run has done, and write to RUN/engine.json how the steps that
        are left will be executed."""
        if self.branch:
            self.branch.take_over(self.folder, self.config.keep_every)
        if self.step < self.steps:
            used = {"from_step": self.step} | execution(self.config) | vars(self.engine)
            used |= {"device_name": hardware.device_name(), "ranks": self.world}
            record_execution(self.folder, used)

    # ----------------------------------------------------------------------------------------------
    # a step

    def train_step(self) -> tuple[Tensor, Tensor, float]:
        """Take one optimizer step; returns the heads' losses (n,) on this rank's share of the
        batch, the gradient norm and the learning rate. Waits for no result of the device."""
        config = self.config
        window = self.stream.next()
        rows = len(window.tokens)
        micro = config.micro or rows
        parts = self.objective.derive(window, micro)
        counts = distributed.sum_over_ranks(self.objective.counts(parts))
        counts = counts.where(counts > 0, 1) / self.world  # FSDP averages
        if self.objective.measures(self.step):
            self._measure(parts, counts)
        self.objective.begin_step(self.step / self.steps)
        losses = torch.zeros(config.model.n, device=self.engine.device)
        for part in parts:
            last = part is parts[-1]
            distributed.reduce_next(self.trainable.model, last or not self.whole_gradients)
            with self.trainable.autocast():
                losses += self.objective.backward(self.trainable.model, part, counts)
            self.trainable.collect_gradients()
        if self.objective.balance.learns:
            self.objective.balance.end_step(distributed.sum_over_ranks(losses / self.world))
        rate = learning_rate(config, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        weight = self.objective.total_weight
        self._check_trained()
        norm = clip_gradients(self.trainable.trained().values(), config.clip, weight)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trainable.update_averages(config.objective.embedding_decay)
        self.trainable.update_model()
        self.step += 1
        return losses, norm, rate

    def _check_trained(self) -> None:
        """Refuse weights that no head's loss depends on. Only a user's own head types have them."""
        if ":" not in (head := self.config.model.head):
            return
        for name, weight in self.trainable.trained().items():
            if weight.grad is None and not self.optimizer.state.get(weight):
                raise BadInput(
                    f"model.head={head}: {name} gets no gradient; use it in forward, or set its "
                    "requires_grad to False"
                )

    def _measure(self, parts: list[Part], counts: Tensor) -> None:
        """Measure the heads' gradients at the latent, for the log and for a balance."""
        with self.trainable.autocast():
            found = self.objective.measure(self.trainable.model, parts, counts)
        self.trainable.reshard()
        # Counts are divided by the ranks, as FSDP averages, which gradients here are not.
        found = distributed.sum_over_ranks(found / self.world**2)
        self.objective.balance.add(self.step, *norms_and_cosines(found))

    def _add(self, losses: Tensor, norm: Tensor) -> None:
        """Add a step's losses to the sums since the last log."""
        self.loss_sums += torch.cat([losses, self.objective.terms.losses])
        self.loss_steps += 1
        bad = ~torch.isfinite(losses.sum() + norm)
        self.first_bad = torch.where((self.first_bad == 0) & bad, self.step, self.first_bad)

    def mean_losses(self) -> list[float]:
        """The mean losses of the heads, then of the terms, since the last log, over all ranks."""
        return [each / max(1, self.loss_steps) for each in self._sums()]

    def _sums(self) -> list[float]:
        return (distributed.sum_over_ranks(self.loss_sums.clone()) / self.world).tolist()

    def _check_finite(self) -> None:
        self.objective.check()
        looked = self.step - self.began
        factors = self.objective.may_train_nothing
        if factors and (looked >= CHECK_EVERY or self.step == self.steps):
            factors.check_total(float(distributed.sum_over_ranks(factors.total.clone())))
        if step := int(self.first_bad):
            raise BadInput(
                f"the loss or its gradient is not finite at step {step}; choose a smaller lr than "
                f"{self.config.lr:g}, a longer warmup than {self.config.warmup}, or "
                "precision=float32"
            )

    def validate(self) -> list[float]:
        """Loss per head on the first EVAL_TOKENS of the validation split, which the ranks share."""
        model, config = self.trainable.model, self.config.model
        sums = torch.zeros(3, config.n, dtype=torch.float64)
        rows = self.config.micro or self.config.batch // self.world
        split = self.corpus.validation
        batches = list(evaluation_batches(split, rows, config.context, config.n, EVAL_TOKENS))
        mine = batches[self.rank :: self.world]
        if len(mine) < -(-len(batches) // self.world):  # all ranks gather weights as often
            first = batches[0]
            mine.append(dataclasses.replace(first, valid=torch.zeros_like(first.valid)))
        with self.trainable.autocast():
            for window in mine:
                sums += score(model, window.to(self.engine.device))
        sums = distributed.sum_over_ranks(sums)
        self.trainable.reshard()
        return (sums[0] / sums[1]).tolist()

    # ----------------------------------------------------------------------------------------------
    # saving

    def save(self, folder: Path | None = None) -> None:
        """Begin to save a checkpoint of this step, in RUN/checkpoint or another `folder`;
        `saver.wait` waits for its end. All ranks take part."""
        weights = {name: w.detach() for name, w in self.trainable.weights().items()}
        moments = {
            f"{key}.{name}": self.optimizer.state[w][key]
            for name, w in self.trainable.trained().items()
            for key in MOMENTS
        }
        state = {
            "step": self.step,
            "data": self.batches.state(),
            "loss_sums": self._sums(),
            "loss_steps": self.loss_steps,
            "engine": vars(self.engine),
            "objective": self.objective.state(),
            "files": own_files(self.config),
        }
        self.saver.save(weights, moments, state, folder)

    def save_kept_weights(self) -> None:
        """Save the weights of this step for good. All ranks take part; rank 0 writes."""
        weights = {}
        for name, w in self.trainable.weights().items():
            if name.startswith(AUXILIARY):
                continue
            full = distributed.full(w)
            if self.rank == 0:  # the others take part and keep nothing
                weights[name] = full.cpu()
        if self.rank == 0:
            checkpoint.save_kept_weights(self.folder, self.step, weights)

    def _restore(self, saved: Saved) -> None:
        weights, moments = self.trainable.weights(), dict[str, Tensor]()
        if saved.has_moments:
            for name, weight in self.trainable.trained().items():
                state = self.optimizer.state[weight]
                state["step"] = torch.tensor(float(saved.step), device=weight.device)
                for key in MOMENTS:
                    moments[f"{key}.{name}"] = state[key] = torch.zeros_like(weight.detach())
        else:  # step 0 of a run with weights from elsewhere, which has none for terms
            self.trainable.draw(self.config.seed, AUXILIARY)
            weights = {n: w for n, w in weights.items() if not n.startswith(AUXILIARY)}
        saved.read_into({name: w.detach() for name, w in weights.items()}, moments)
        if not saved.has_moments:
            self.trainable.start_averages()
        self.trainable.update_model()
        if not saved.has_moments:
            return
        check_state(saved.state, self.config, self.batches)
        self.step = saved.step
        self.batches.load_state(saved.state["data"])
        self.objective.load_state(saved.state["objective"])
        self.loss_sums += torch.tensor(saved.state["loss_sums"], dtype=torch.float64).to(
            self.loss_sums
        )
        self.loss_steps = saved.state["loss_steps"]

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
        flops = run_flops_per_token(config) * self.tokens_per_step
        peak = hardware.peak_flops(hardware.device_name(), self.engine.precision)
        if config.init and config.eval_every and self.step == 0:  # the loss before finetuning
            progress.log({"step": 0, "validation_loss": self.validate()})
        clock = progress.clock
        while self.step < self.steps:
            losses, norm, rate = self.train_step()
            self._add(losses, norm)
            if clock.first is None:
                hardware.synchronize(self.engine.device)  # compilation is over
            clock.step_done(self.step)
            last = self.step == self.steps
            every = config.log_every or self.steps
            log = self.step % every == 0 or last
            validate = bool(config.eval_every) and (self.step % config.eval_every == 0 or last)
            keep = bool(config.keep_every) and (self.step % config.keep_every == 0 or last)
            save = bool(config.save_every) and self.step % config.save_every == 0
            stable = self.step == self.shared_steps
            stop = distributed.true_on_any_rank(bool(caught) or self._time_is_up(clock))
            looks = log, validate, keep, save, stable, stop, self.step % CHECK_EVERY == 0
            if any(looks):
                self._check_finite()  # the device is waited for here alone
            if log:
                seconds = clock.lap(self.step)
                means, n = self.mean_losses(), config.model.n
                row: dict[str, Any] = {
                    "step": self.step,
                    "tokens": self.step * self.tokens_per_step,
                    "loss": means[:n],
                    "lr": rate,
                    "grad_norm": float(norm),
                    "peak_memory_mb": hardware.peak_memory(self.engine.device) / 2**20,
                }
                if terms := self.objective.terms.weights:
                    row["terms"] = dict(zip(terms, means[n:], strict=True))
                row |= self.objective.logged()
                if seconds:
                    row["tokens_per_second"] = self.tokens_per_step / seconds
                if seconds and peak:
                    row["mfu"] = flops / seconds / peak / self.world
                self.loss_sums.zero_()
                self.loss_steps = 0
                progress.log(row)
            with clock.paused():
                if validate:
                    progress.log({"step": self.step, "validation_loss": self.validate()})
                if keep:
                    self.save_kept_weights()
                if stable:
                    self.save(branch.stable(self.folder))
                if save or last or stop:
                    self.save()
                if last or stop:
                    self.saver.wait()
                if save or last or stop:
                    self._record_timings(clock)
            progress.tick(self.step)
            if stop and not last:
                progress.finish("interrupted")
                raise Interrupted(caught[0] if caught else signal.SIGUSR2)
        progress.finish("finished")

    def _time_is_up(self, clock: Clock) -> bool:
        """Whether the job's time limit leaves just enough to finish a step and save."""
        left = time_limit.seconds_left()
        step = clock.mean(self.step) or 0.0
        return left is not None and left < time_limit.margin(self.saver.seconds, step)

    def _record_timings(self, clock: Clock) -> None:
        """What a step and a save took, for the launcher's next time limit."""
        if self.rank == 0 and (step := clock.mean(self.step)):
            timings = {"save_seconds": self.saver.seconds, "step_seconds": step}
            write_atomically(self.folder / "timings.json", json.dumps(timings).encode())
