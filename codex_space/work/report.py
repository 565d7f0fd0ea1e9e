"""What a trainer tells the owner: curves, checkpoints, and its answers to Stop and Save now."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import TrainOutput

from codex_space.core import durable, sources
from codex_space.core.errors import TrainingError
from codex_space.core.paths import MANIFEST
from codex_space.core.shared_recipe import TrainingRecipe
from codex_space.grade.library import ASKED, PASS_RATE
from codex_space.work import checkpoint, environment, probe, processes
from codex_space.work.attempt import Attempt
from codex_space.work.loop import Ending, Loop
from codex_space.work.machine import Machine
from codex_space.work.samples import Sampler
from codex_space.work.speed import Speed
from codex_space.work.track import Trackers

log = logging.getLogger(__name__)

_NOT_CURVES = ("epoch", "step", "total_flos", "train_")
_NOT_CURVE_ENDS = ("runtime", "per_second", "num_tokens", "num_input_tokens_seen")


class Reporter(TrainerCallback):
    """Writes events; asks for checkpoints at the recipe's pace; turns them into complete ones."""

    def __init__(
        self,
        attempt: Attempt,
        *,
        evaluates: bool,
        base_model: str = "",
        finish: Callable[[Path], None] | None = None,
        examine: Callable[[int], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take `finish` as what a kind still has to do to a saved folder before it counts as complete.

        `examine(step)` asks the model its benchmarks, as it is after that step.
        """
        assert isinstance(attempt.recipe, TrainingRecipe)  # noqa: S101  # narrows the type
        self._attempt, self._recipe = attempt, attempt.recipe
        self._evaluates, self._base_model, self._finish = evaluates, base_model, finish
        self._examine = examine
        self.sampler: Sampler | None = None
        self.trackers: Trackers | None = None
        self._metrics: dict[str, float] = {}
        saved = (durable.read_json(attempt.resume_from / MANIFEST) or {}) if attempt.resume_from else {}
        self._judged: list[tuple[int, float]] = [(int(at), float(value)) for at, value in saved.get("judged", [])]
        self._evaluated_step = int(saved.get("evaluated_step", attempt.resume_from_step))
        self._is_due = False
        self.speed = Speed(monotonic)
        self._machine = Machine(monotonic)
        self._is_fp16 = False
        self._every_steps = 1
        self.was_stopped = False
        self._asked_after_save: list[Callable[[int], None]] = []
        self.ended_early = self._why_early(attempt.resume_from_step)
        self.agree: Callable[..., Sequence[bool]] = lambda *wishes: wishes
        """What any process wishes, all do; our own loop tells the first process alone and asks there."""
        self.evaluate: Callable[[], object] = lambda: None
        """The trainer's own, for an evaluation that a stop left out."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: object
    ) -> None:
        """Fix the pace of checkpoints; counts start where the run goes on.

        Raises:
            TrainingError: The model was to be shared among processes and is not.
        """
        if isinstance(model := given.get("model"), torch.nn.Module):
            processes.require_shared(self._recipe, model)
        self._every_steps = self._recipe.checkpoints.interval(state.max_steps)
        step = state.global_step
        if self._evaluates and step % self._every_steps == 0 and self._evaluated_step != step:
            self._is_due = True
            self.evaluate()
            if self.ended_early:
                raise _EndedEarly
        if self.sampler:
            self.sampler.begin(state.max_steps)
        self._ask(step, self._due(step, at_checkpoint=True, again=True))
        self._is_fp16 = getattr(args, "fp16", False)  # our own loop has no scaler
        self.speed.begin(state.num_input_tokens_seen)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Leave the time of evaluation and saving out of the speed."""
        self.speed.begin_step()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Decide what follows this step."""
        at_end = state.global_step >= state.max_steps
        due = at_end or state.global_step % self._every_steps == 0
        control.should_evaluate = control.should_evaluate or (due and self._evaluates)
        is_main = processes.is_main()
        early = self._why_early(state.global_step) if due and not at_end and self._by_pass_rate and is_main else ""
        asked_to_stop, asked_to_save, ends_early = self.agree(
            self._attempt.is_stop_asked(), self._attempt.job.save_request.exists(), bool(early)
        )
        control.should_save = due or asked_to_save
        self._is_due = due
        if ends_early:
            self.ended_early, control.should_training_stop = early, True
        if asked_to_stop and not at_end:
            self.was_stopped = control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        # A log at each checkpoint: what is averaged over steps then starts afresh there, as it does after a resume.
        control.should_log = control.should_log or control.should_save
        asked = [] if self.was_stopped else self._due(state.global_step, at_checkpoint=due)
        if control.should_save or control.should_evaluate or asked:
            self.speed.pause()
        self._asked_after_save = asked if control.should_save else []
        if not control.should_save:
            self._ask(state.global_step, asked)
        self.speed.end_step()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Write the numbers of this step; a loss that is no number ends the run before it can be saved."""
        logs = cast("dict[str, float]", kwargs.get("logs") or {})
        state.log_history.clear()  # events.jsonl holds them; here they would be saved again with each checkpoint
        metrics = {name: float(value) for name, value in logs.items() if _is_curve(name, value)}
        if not metrics:
            return
        if self._is_fp16 and not math.isfinite(metrics.get("grad_norm", 0.0)):
            del metrics["grad_norm"]  # the scaler has left this step out and tries again with a smaller scale
        metrics |= self._perplexities(metrics)
        if "loss" in metrics:
            metrics |= {**self.speed.metrics(state.num_input_tokens_seen), **self._machine.metrics()}
        self._metrics.update(metrics)
        if any(name.startswith("eval_") for name in metrics):
            self._evaluated_step = state.global_step
        self._judge(metrics, state, control)
        self._attempt.say("log", step=state.global_step, epoch=state.epoch, metrics=metrics)
        if self.trackers:
            self.trackers.write(state.global_step, self._attempt.clock(), metrics)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("step %s/%s  %s", state.global_step, state.max_steps, shown)
        _require_numbers(metrics, state.global_step)
        self.speed.end_step()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Make what the trainer has just saved a complete checkpoint, and say so."""
        self.agree(False)  # each process has written its part
        if not processes.is_main():
            self._metrics = {}
            return
        job, step = self._attempt.job, state.global_step
        size_bytes = self._complete(step)
        if self._recipe.hub:
            checkpoint.spool(job, step)
        self._attempt.say("checkpoint", step=step, size_bytes=size_bytes, metrics=self._metrics)
        self._metrics = {}
        job.save_request.unlink(missing_ok=True)
        checkpoint.rotate(job, self._recipe.checkpoints)
        log.info("saved checkpoint-%s, %.1f MiB", step, size_bytes / 2**20)
        self._ask(step, self._asked_after_save)  # saved first: an evaluation that dies takes no work with it

    def secure(self, step: int) -> None:
        """Make what was saved a complete checkpoint before an evaluation that may die; `on_save` adds what that finds."""
        self._complete(step)

    def _complete(self, step: int) -> int:
        job = self._attempt.job
        folder = job.checkpoint(step)
        facts = {
            "run_id": job.root.name,
            "step": step,
            "kind": getattr(self._recipe, "kind", ""),
            "base_model": self._base_model,
            "sources": sources.read(job).as_dict(),
            "judged": self._judged,
            "evaluated_step": self._evaluated_step,
        }
        if (folder / MANIFEST).is_file():
            return checkpoint.amend(folder, self._metrics, **facts)
        checkpoint.rename_base(folder, self._base_model)
        if self._finish:
            self._finish(folder)
        return checkpoint.complete(folder, self._metrics, **facts)

    def _perplexities(self, metrics: dict[str, float]) -> dict[str, float]:
        """Return e to the loss where the loss is the tokens' own; past e^20 it says nothing."""
        if getattr(self._recipe, "kind", "") not in {"sft", "pretrain"} or self._recipe.train.get("loss_type") == "dft":
            return {}
        named = {"loss": "perplexity", "eval_loss": "eval_perplexity"}
        return {named[name]: math.exp(value) for name, value in metrics.items() if name in named and value < 20}

    @property
    def _by_pass_rate(self) -> bool:
        return self._recipe.checkpoints.metric.startswith(PASS_RATE)

    def _judge(self, metrics: dict[str, float], state: TrainerState, control: TrainerControl) -> None:
        """Note what a due checkpoint is judged by; it is logged before the checkpoint is saved."""
        value = metrics.get(self._recipe.checkpoints.metric)
        if not self._is_due or value is None or self._by_pass_rate:
            return
        self._is_due = False
        self._judged.append((state.global_step, value))
        if state.global_step < state.max_steps:
            self._end_early(state, control)

    def _end_early(self, state: TrainerState, control: TrainerControl) -> None:
        self.ended_early = self._why_early(state.global_step)
        control.should_training_stop = control.should_training_stop or bool(self.ended_early)

    def _why_early(self, step: int) -> str:
        wanted, job = self._recipe.checkpoints, self._attempt.job
        judged = checkpoint.graded(job, wanted.metric, step) if self._by_pass_rate else self._judged
        return checkpoint.end_early(wanted, judged)

    def _is_asked(self, step: int, *, at_checkpoint: bool) -> bool:
        section = self._recipe.evaluate
        return section is not None and (step % section.every_steps == 0 if section.every_steps else at_checkpoint)

    def _was_asked(self, step: int) -> bool:
        section = self._recipe.evaluate
        names = section.benchmarks if section else []
        return all((self._attempt.job.evaluation(step, name) / ASKED).is_file() for name in names)

    def _due(self, step: int, *, at_checkpoint: bool, again: bool = False) -> list[Callable[[int], None]]:
        """Return what the model is asked after this step.

        With `again` only what is not answered yet: a run that was cut off while it answered is asked where it goes on.
        """
        due: list[Callable[[int], None]] = []
        is_answered = again and step > 0 and self._was_asked(step)
        if self._examine and self._is_asked(step, at_checkpoint=at_checkpoint) and not is_answered:
            due.append(self._examine)
        if self.sampler and self.sampler.is_due(step) and not (again and self.sampler.was_done(step)):
            due.append(self.sampler.run)
        return due

    def _ask(self, step: int, due: list[Callable[[int], None]]) -> None:
        for each in due:
            if not self._attempt.is_stop_asked():
                each(step)


class _EndedEarly(Exception):  # noqa: N818  # no error
    """The evaluation that a stop left out says that the run is over; not one step more is taken."""


def train(attempt: Attempt, trainer: Trainer | Loop, reporter: Reporter, **ready: Any) -> None:  # noqa: ANN401  # JSON values
    """Say `ready`, train from the start or the checkpoint, say `done`.

    Raises:
        TrainingError: The loss is no number, or the checkpoint to go on from is damaged.
    """
    if isinstance(trainer, Loop):
        max_steps = trainer.max_steps
    else:
        *_, max_steps = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    attempt.say("ready", max_steps=max_steps, **ready)
    if attempt.check_only:
        return
    environment.write(attempt)  # again, now that the rows are known
    if attempt.resume_from:
        checkpoint.verify(attempt.resume_from)
    if attempt.resume_from_step >= max_steps or reporter.ended_early:
        attempt.say("done", step=attempt.resume_from_step, summary={}, reason=reporter.ended_early)
        return
    probe.run(attempt, trainer)
    reporter.evaluate = trainer.evaluate
    length = getattr(attempt.recipe, "block_size", 0) or ready["total_tokens"] / max(ready["num_rows"], 1)
    model = cast("PreTrainedModel", trainer.model)
    reporter.speed.know(model, cast("TrainingRecipe", attempt.recipe), length, probe.world_size(trainer))
    attempt.stop.is_training = True
    if processes.is_main():
        reporter.trackers = Trackers(attempt)
    try:
        output: TrainOutput | Ending
        if isinstance(trainer, Loop):
            trainer.reporter = reporter
            output = trainer.train(attempt.resume_from)
        else:
            reporter.agree = processes.agree
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(reporter)
            output = trainer.train(resume_from_checkpoint=str(attempt.resume_from) if attempt.resume_from else None)
    except _EndedEarly:
        attempt.say("done", step=attempt.resume_from_step, summary={}, reason=reporter.ended_early)
        return
    finally:
        if reporter.trackers:
            reporter.trackers.close()
    ending: dict[str, Any] = {"stopped": True} if reporter.was_stopped else {"reason": reporter.ended_early}
    attempt.say("done", step=output.global_step, summary={"train_loss": output.training_loss}, **ending)
    if processes.is_main():
        shutil.rmtree(attempt.job.root / "cache", ignore_errors=True)


def _is_curve(name: str, value: object) -> bool:
    return isinstance(value, int | float) and not name.startswith(_NOT_CURVES) and not name.endswith(_NOT_CURVE_ENDS)


def _require_numbers(metrics: dict[str, float], step: int) -> None:
    for name in ("loss", "grad_norm"):
        if not math.isfinite(metrics.get(name, 0.0)):
            raise TrainingError(
                f"the {name.replace('_', ' ')} is {metrics[name]} at step {step}",
                where="training",
                cure="Lower train.learning_rate, add warmup_steps, or look for broken rows.",
            )
