"""Tiles of logits on a CPU: what comes out has TRL's own bits, ties, masked rows and rows in several tiles included."""

import pytest
import torch
from trl.kernels import chunked_logprob

from codex_space.work import head_tiles

OURS = ("_forward_tile", "_backward_tile")
TRLS = {"_forward_tile": head_tiles._forward_of_trl, "_backward_tile": head_tiles._backward_of_trl}
SFT = ("log_probs", "entropy", "is_top1")
CASES = {
    "one tile": {},
    "all weights": {"is_full": True},
    "several tiles": {"vocab": 997, "chunk": 128, "is_full": True},
    "log probabilities alone": {"outputs": ("log_probs",)},
    "a head with a bias": {"has_bias": True},
    "16 bits": {"dtype": torch.bfloat16},
    "a temperature": {"temperature": 0.7},
    "capped logits": {"softcap": 3.0},
    "a scale": {"scale": 0.5},
    "every output": {"outputs": ("log_probs", "entropy", "is_top1", "log_sum_sq_probs", "mean_logits")},
    "an entropy that is learnt from": {"learns_entropy": True},
}


def compute(
    vocab=300, chunk=32768, outputs=SFT, dtype=torch.float32, temperature=1.0, softcap=None, scale=1.0, **flags
):
    """Return all that a step takes from the head: values and gradients."""
    random = torch.Generator().manual_seed(3)
    hidden = torch.randn(90, 16, generator=random).to(dtype).requires_grad_()
    weight = torch.randn(vocab, 16, generator=random).to(dtype)
    weight[vocab // 2 :] = weight[: vocab - vocab // 2].clone()  # each of the first half has an equal in the second
    weight.requires_grad_(flags.get("is_full", False))
    bias = torch.linspace(-1, 1, vocab).to(dtype) if flags.get("has_bias") else None
    best = (hidden @ weight.T).argmax(-1)
    drawn = torch.randint(0, vocab, (90,), generator=random)
    order = torch.arange(90) % 3
    targets = torch.where(order == 0, best, torch.where(order == 1, (best + vocab // 2) % vocab, drawn))
    mask = (torch.rand(90, generator=random) > 0.3).float()
    found = chunked_logprob.ChunkedLogProbFunction.apply(
        hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs
    )
    loss = -(found[0] * mask).sum() / mask.sum()
    if flags.get("learns_entropy"):
        loss = loss + 0.1 * found[1].mean()
    loss.backward()
    return [each for each in (*found, loss, hidden.grad, weight.grad) if each is not None]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_bit_is_trls(monkeypatch, case):
    for name in OURS:
        monkeypatch.setattr(chunked_logprob, name, TRLS[name])
    expected = compute(**case)
    head_tiles.install()
    found = compute(**case)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(*(each.detach().reshape(-1).view(torch.uint8) for each in (one, other)))


def test_a_first_choice_is_the_first_of_equals(monkeypatch):
    for name in OURS:
        monkeypatch.setattr(chunked_logprob, name, TRLS[name])
    head_tiles.install()
    is_top1 = compute()[2]
    assert is_top1[::3].all()
    assert not is_top1[1::3].any()
