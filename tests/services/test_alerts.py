"""What is read from curves shaped like real ones: each fault is seen, and a healthy run raises no alarm."""

import math
import random
from dataclasses import dataclass

import pytest

from codex_space.services import alerts


@dataclass
class Curve:
    steps: list
    values: list


def curve(values, every=1):
    values = list(values)
    return Curve([every * (i + 1) for i in range(len(values))], values)


def falling(num=300, *, noise=0.05, start=4.0, floor=1.2, power=0.5, seed=0):
    """A power law with noise, as language models' losses fall (arXiv 2001.08361)."""
    rng = random.Random(seed)
    return [floor + (start - floor) * (i + 1) ** -power + rng.gauss(0, noise) for i in range(num)]


def kinds(curves, max_steps=None):
    return [alert.kind for alert in alerts.find({k: curve(v) for k, v in curves.items()}, max_steps=max_steps)]


def cosine(num, peak=1e-3):
    return [peak * 0.5 * (1 + math.cos(math.pi * i / num)) for i in range(num)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("num", [10, 30, 300, 1000])
def test_a_healthy_loss_raises_no_alarm_at_any_length(num, noise, seed):
    loss = falling(num, noise=noise, seed=seed)
    for end in {num, num // 2, num // 3}:
        assert kinds({"loss": loss[:end], "learning_rate": cosine(num)[:end], "grad_norm": [1.0] * end}, num) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_dpo_loss_raises_no_alarm(seed):
    rng = random.Random(seed)
    loss = [0.693 - 0.4 * min(1, i / 200) + rng.gauss(0, 0.08) for i in range(250)]
    assert kinds({"loss": loss, "learning_rate": [1e-6] * 250}, 300) == []


def test_steps_down_at_each_pass_and_one_wild_batch_raise_no_alarm():
    rng = random.Random(1)
    loss = [2.0 - 0.4 * (i // 100) + rng.gauss(0, 0.05) for i in range(350)]
    loss[210] = 6.0
    assert kinds({"loss": loss, "learning_rate": [1e-4] * 350}, 400) == []


def test_a_warm_up_that_rises_first_raises_no_alarm():
    loss = [5.0, 5.1, 5.2, 5.15, 5.0, *falling(100, start=5.0)]
    assert kinds({"loss": loss}) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_climbs_back_has_diverged(seed):
    rng = random.Random(seed)
    loss = [*falling(150, seed=seed), *(1.5 + 0.05 * i + rng.gauss(0, 0.1) for i in range(60))]
    found = alerts.find({"loss": curve(loss), "learning_rate": curve([2e-3] * len(loss))})
    assert [alert.kind for alert in found] == ["diverged"]
    assert "train.learning_rate=0.0002" in found[0].action
    assert 100 < found[0].step <= 165


def test_a_loss_that_only_ever_rises_has_diverged():
    assert kinds({"loss": [2.0 + 0.1 * i for i in range(30)]}) == ["diverged"]


def test_rows_learnt_by_heart_are_seen_and_the_best_checkpoint_named():
    loss = [2.0 * 0.97**i for i in range(100)]
    held = {"eval_loss": Curve([20, 40, 60, 80, 100], [1.8, 1.5, 1.55, 1.7, 1.9])}
    found = alerts.find({"loss": curve(loss), **held})
    assert [alert.kind for alert in found] == ["overfitting"]
    assert "step 40" in found[0].action
    assert found[0].step == 40


@pytest.mark.parametrize(
    "held",
    [
        [1.8, 1.5, 1.4, 1.35, 1.36],  # one evaluation is no trend
        [1.8, 1.5, 1.505, 1.5, 1.506],  # within the noise
        [1.8, 1.5, 1.7, 1.65, 1.55],  # coming back
        [1.8, 1.5],
    ],
)
def test_a_validation_loss_that_wavers_raises_no_alarm(held):
    loss = [2.0 * 0.97**i for i in range(100)]
    assert alerts.find({"loss": curve(loss), "eval_loss": curve(held, 20)}) == []


def test_both_losses_rising_is_not_learning_by_heart():
    loss = [1.0 + 0.001 * i for i in range(100)]
    assert "overfitting" not in [
        a.kind for a in alerts.find({"loss": curve(loss), "eval_loss": curve([1.0, 1.1, 1.2, 1.3], 25)})
    ]


def test_a_plateau_is_seen_unless_the_rate_has_come_to_rest_or_the_end_is_near():
    rng = random.Random(0)
    loss = [*falling(100, noise=0.01), *(1.48 + rng.gauss(0, 0.01) for i in range(300))]
    flat = {"loss": loss, "learning_rate": [1e-4] * 400}
    assert kinds(flat, 2000) == ["plateau"]
    assert kinds(flat, 410) == []
    assert kinds({**flat, "learning_rate": cosine(420)[:400]}, 2000) == []
    assert kinds({**flat, "loss": [0.01 + rng.gauss(0, 0.001) for _ in range(400)]}, 2000) == [], "it is learnt"


def test_a_loss_that_never_moves_asks_for_a_higher_rate():
    rng = random.Random(0)
    stuck = {"loss": [5.5 + rng.gauss(0, 0.01) for _ in range(400)], "learning_rate": [1e-7] * 400}
    found = alerts.find({k: curve(v) for k, v in stuck.items()}, max_steps=2000)
    assert [alert.kind for alert in found] == ["plateau"]
    assert "train.learning_rate=3e-07" in found[0].action


def test_zero_gradients_are_seen_but_not_where_all_is_learnt_or_once():
    loss = falling(20)
    assert "zero_gradients" in kinds({"loss": loss, "grad_norm": [0.0] * 20})
    assert kinds({"loss": [1e-6] * 20, "grad_norm": [0.0] * 20}) == []
    assert kinds({"loss": loss, "grad_norm": [0.0] * 3 + [1.0] * 17}) == []
    assert kinds({"loss": loss, "grad_norm": [1.0] * 19 + [0.0]}) == []


def test_waiting_for_rows_is_seen_unless_the_gpu_is_busy_all_the_same():
    assert kinds({"data_wait": [0.6] * 20}) == ["data_starved"]
    assert kinds({"data_wait": [0.6] * 20, "gpu_percent": [20.0] * 20}) == ["data_starved"]
    assert kinds({"data_wait": [0.6] * 20, "gpu_percent": [95.0] * 20}) == []
    assert kinds({"data_wait": [0.9] * 3 + [0.05] * 17}) == []
    assert kinds({"data_wait": [0.9] * 5}) == [], "the first rows take their time"


@pytest.mark.parametrize(
    "curves", [{}, {"loss": []}, {"loss": [1.0]}, {"eval_loss": [1, 2, 3]}, {"grad_norm": [0.0] * 9}]
)
def test_too_little_to_go_by_says_nothing(curves):
    assert kinds(curves) == []
    assert alerts.score({k: curve(v) for k, v in curves.items()}, max_steps=100) is None


def test_one_thing_to_do_each():
    loss = [*falling(150), *(1.5 + 0.05 * i for i in range(60))]
    for alert in alerts.find({"loss": curve(loss), "data_wait": curve([0.9] * 20), "grad_norm": curve([0.0] * 210)}):
        assert alert.action.endswith(".")
        assert alert.text.endswith(".")


def test_the_score_adds_up_as_its_formula_says():
    loss, norm = curve([4.0] + [1.0] * 49), curve([2.0] * 45 + [4.0] * 5)
    assert alerts.score({"loss": loss, "grad_norm": norm}, max_steps=100) == pytest.approx(
        0.4 * 0.75 + 0.3 * 0.5 + 0.3 * 0.5
    )
    assert alerts.score({"loss": curve([1.0] * 50), "grad_norm": curve([0.0] * 50)}, max_steps=50) == pytest.approx(0.3)
    assert alerts.score({"loss": loss, "grad_norm": norm}, max_steps=None) is None
