"""Read from a run's curves what goes wrong, each with one thing to do about it, and how far it has come in one number."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

METRICS = ("loss", "eval_loss", "grad_norm", "learning_rate", "data_wait", "gpu_percent")
"""What is looked at."""
MIN_POINTS = 12
SCORE = "0.4 x share of the first loss that is gone + 0.3 x share of the steps done + 0.3 x (usual / newest gradient norm, at most 1)"


class Curve(Protocol):
    """Values at steps in rising order."""

    @property
    def steps(self) -> Sequence[int]:
        """Optimizer steps."""

    @property
    def values(self) -> Sequence[float]:
        """One value a step."""


@dataclass(frozen=True)
class Alert:
    """One thing that goes wrong: what is seen, since which step, and what to do."""

    kind: str
    text: str
    action: str
    step: int


Curves = Mapping[str, Curve]


def find(curves: Curves, *, max_steps: int | None = None) -> list[Alert]:
    """Return what the curves show, the most serious first."""
    found = (
        _diverged(curves),
        _zero_gradients(curves),
        _overfitting(curves),
        _plateau(curves, max_steps),
        _starved(curves),
    )
    return [alert for alert in found if alert]


def as_dicts(alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    """Return the alerts as JSON values."""
    return [asdict(alert) for alert in alerts]


def score(curves: Curves, *, max_steps: int | None) -> float | None:
    """Return the composite progress of a run, 0 to 1 (see SCORE); None before there is enough to go by."""
    loss, norm = curves.get("loss"), curves.get("grad_norm")
    if not max_steps or loss is None or norm is None or min(len(loss.values), len(norm.values)) < MIN_POINTS:
        return None
    first, newest = loss.values[0], _smooth(loss.values)[-1]
    gone = (first - newest) / abs(first) if first else 0.0
    usual, now = statistics.median(norm.values), statistics.median(norm.values[-5:])
    health = min(1.0, usual / now) if now > 0 else 0.0
    return 0.4 * _clip(gone) + 0.3 * _clip(loss.steps[-1] / max_steps) + 0.3 * health


def _diverged(curves: Curves) -> Alert | None:
    """The loss has given back half of what it had won, by far more than it usually jumps."""
    loss = curves.get("loss")
    if loss is None or len(loss.values) < MIN_POINTS:
        return None
    smooth = _smooth(loss.values)
    low = min(smooth)
    at = smooth.index(low)
    rise = smooth[-1] - low
    jumps = _spread([value - mean for value, mean in zip(loss.values[: at + 5], smooth, strict=False)])
    if rise <= max(0.5 * (smooth[0] - low), 0.2 * abs(low), 4 * jumps):
        return None
    rates = curves.get("learning_rate")
    peak = max(rates.values) if rates and rates.values else 0.0
    rate = f" train.learning_rate={peak / 10:.2g}, a tenth of now" if peak else " a tenth of the learning rate"
    text = f"The loss was {low:.3g} and is now {smooth[-1]:.3g}: the run has diverged."
    return Alert("diverged", text, f"Start again with{rate}.", loss.steps[at])


def _zero_gradients(curves: Curves) -> Alert | None:
    norm, loss = curves.get("grad_norm"), curves.get("loss")
    if norm is None or loss is None or len(norm.values) < 5 or not loss.values:
        return None
    if max(norm.values[-5:]) > 1e-7 or abs(loss.values[-1]) < 1e-3:
        return None
    text = "The gradients are zero: nothing is learnt, although the loss is not."
    action = "Stop it and see on Train which tokens are trained; a mask or a frozen layer leaves nothing to learn from."
    return Alert("zero_gradients", text, action, norm.steps[-5])


def _overfitting(curves: Curves) -> Alert | None:
    """The validation loss has risen at the last two evaluations while the training loss kept falling."""
    held, loss = curves.get("eval_loss"), curves.get("loss")
    if held is None or loss is None or len(held.values) < 3 or len(loss.values) < 3:
        return None
    low = min(held.values)
    at = len(held.values) - 1 - list(reversed(held.values)).index(low)
    newest = held.values[at + 1 :][-2:]
    margin = max(0.02 * abs(low), 1e-4)
    if len(newest) < 2 or min(newest) - low < margin or newest[-1] < newest[0]:
        return None
    smooth, best_step = _smooth(loss.values), held.steps[at]
    then = next(
        value for step, value in zip(loss.steps, smooth, strict=True) if step >= best_step or step == loss.steps[-1]
    )
    if smooth[-1] >= then - 0.01 * abs(then):
        return None
    text = f"The validation loss was best at step {best_step:,} ({low:.3g}) and is {held.values[-1]:.3g}, while the loss falls: it learns its rows by heart."
    action = f"Stop it and use the checkpoint of step {best_step:,}; checkpoints.early_stopping_patience=3 does so by itself."
    return Alert("overfitting", text, action, best_step)


def _plateau(curves: Curves, max_steps: int | None) -> Alert | None:
    """The last quarter of a long run is no better than the quarter before, at a learning rate that could still move it."""
    loss, rates = curves.get("loss"), curves.get("learning_rate")
    if loss is None or len(loss.values) < 60 or loss.steps[-1] < 100:
        return None
    if rates and rates.values and rates.values[-1] < 0.2 * max(rates.values):
        return None  # it was to come to rest
    if max_steps and loss.steps[-1] >= 0.95 * max_steps:
        return None
    quarter = len(loss.values) // 4
    before, newest = loss.values[-2 * quarter : -quarter], loss.values[-quarter:]
    gain = statistics.fmean(before) - statistics.fmean(newest)
    size = abs(statistics.fmean(before))
    doubt = 2 * (_spread(before) ** 2 + _spread(newest) ** 2) ** 0.5 / quarter**0.5
    if size < 0.05 or abs(gain) + doubt > 0.004 * size:
        return None
    since = loss.steps[-2 * quarter]
    text = f"The loss has stayed at {statistics.fmean(newest):.3g} since step {since:,}."
    if loss.values[0] - statistics.fmean(newest) > 0.05 * abs(loss.values[0]):
        return Alert("plateau", text, "Stop and keep it: more steps like these bring little.", since)
    peak = max(rates.values) if rates and rates.values else 0.0
    rate = f" train.learning_rate={3 * peak:.2g}" if peak else " three times the learning rate"
    return Alert("plateau", f"{text} It has hardly learnt.", f"Start again with{rate}.", since)


def _starved(curves: Curves) -> Alert | None:
    wait, busy = curves.get("data_wait"), curves.get("gpu_percent")
    if wait is None or len(wait.values) < 10:
        return None
    share = statistics.median(wait.values[-10:])
    if share < 0.3 or (busy and busy.values and statistics.median(busy.values[-10:]) >= 70):
        return None
    text = f"{share:.0%} of the time goes into waiting for rows."
    return Alert("data_starved", text, "Start again with train.dataloader_num_workers=4.", wait.steps[-10])


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the running median of the last points, a twentieth of all but five to fifty."""
    width = min(50, max(5, len(values) // 20))
    return [statistics.median(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]


def _spread(values: Sequence[float]) -> float:
    """Return the standard deviation by the median distance, which a few wild points do not move."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
