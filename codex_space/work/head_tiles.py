"""The loss's tiles of logits on a CPU, worked on where they lie: the bits of TRL's own, without its dozen copies of each.

TRL 1.16 folds tiles of logits into sums with a Triton kernel, and without a GPU with plain torch operations, of which each makes
a tile anew. Every number here comes from the same operations on the same numbers in the same order (tests compare the bits).
"""

import math
from typing import Any

import torch
from trl.kernels import chunked_logprob

_forward_of_trl, _backward_of_trl = chunked_logprob._forward_tile, chunked_logprob._backward_tile


def install() -> None:
    """Let TRL's trainers in this process use them."""
    chunked_logprob._forward_tile = _forward  # ty: ignore[invalid-assignment]
    chunked_logprob._backward_tile = _backward  # ty: ignore[invalid-assignment]


def _forward(  # noqa: PLR0913  # TRL calls it
    tile: torch.Tensor,
    tile_stride: int,
    targets: torch.Tensor,
    running_max: torch.Tensor,
    sum_exp: torch.Tensor,
    x_sum_exp: torch.Tensor,
    sq_sum_exp: torch.Tensor,
    z_sum: torch.Tensor,
    max_before_target: torch.Tensor,
    target_logit: torch.Tensor,
    vocab_start: int,
    n_cols: int,
    **how: Any,  # noqa: ANN401  # TRL's flags
) -> None:
    if not _is_plain(tile, how) or how["HAS_LOG_SUM_SQ_PROBS"] or how["HAS_MEAN_LOGITS"]:
        sums = (running_max, sum_exp, x_sum_exp, sq_sum_exp, z_sum, max_before_target, target_logit)
        _forward_of_trl(tile, tile_stride, targets, *sums, vocab_start, n_cols, **how)
        return
    local = targets - vocab_start
    in_tile = (local >= 0) & (local < n_cols)
    target_z = tile.gather(-1, local.clamp(0, n_cols - 1).unsqueeze(-1)).squeeze(-1)
    highest = tile.amax(-1)
    if how["HAS_IS_TOP1"]:
        before = _max_before(tile, local, highest, in_tile & (target_z >= highest))
        max_before_target.copy_(torch.maximum(max_before_target, before))
    new_max = torch.maximum(running_max, highest)
    rescale = torch.exp(running_max - new_max)
    powers = torch.sub(tile, new_max.unsqueeze(-1)).exp_()
    sum_exp.mul_(rescale).add_(powers.sum(-1))
    if how["HAS_ENTROPY"]:
        x_sum_exp.mul_(rescale).add_(powers.mul_(tile).sum(-1))
    running_max.copy_(new_max)
    target_logit.copy_(torch.where(in_tile, target_z, target_logit))


def _max_before(tile: torch.Tensor, local: torch.Tensor, highest: torch.Tensor, ties: torch.Tensor) -> torch.Tensor:
    """Return the highest logit before each row's target; looked for only where the target's own is the tile's highest.

    Elsewhere the tile's highest stands for it: the target is not the first choice either way.
    """
    found = torch.where(local < 0, -math.inf, highest)
    rows = ties.nonzero().squeeze(-1)
    if len(rows):
        after = torch.arange(tile.shape[-1], device=tile.device) >= local[rows].unsqueeze(-1)
        found[rows] = tile[rows].masked_fill_(after, -math.inf).amax(-1)
    return found


def _backward(  # noqa: PLR0913  # TRL calls it
    tile: torch.Tensor,
    tile_stride: int,
    targets: torch.Tensor,
    log_z: torch.Tensor,
    entropy: torch.Tensor,
    grad_logprobs: torch.Tensor,
    grad_entropy: torch.Tensor,
    vocab_start: int,
    n_cols: int,
    **how: Any,  # noqa: ANN401  # TRL's flags
) -> None:
    if not _is_plain(tile, how) or how["HAS_ENTROPY_GRAD"] or not how["HAS_LOGPROB_GRAD"]:
        given = (targets, log_z, entropy, grad_logprobs, grad_entropy)
        _backward_of_trl(tile, tile_stride, *given, vocab_start, n_cols, **how)
        return
    local = targets - vocab_start
    rows = ((local >= 0) & (local < n_cols)).nonzero().squeeze(-1)
    tile.sub_(log_z.unsqueeze(-1)).exp_()
    of_targets = 1 - tile[rows, local[rows]]
    tile.neg_()
    tile[rows, local[rows]] = of_targets
    tile.mul_(grad_logprobs.unsqueeze(-1))


def _is_plain(tile: torch.Tensor, how: dict[str, Any]) -> bool:
    """Whether the logits are taken as they are, in the precision of the sums."""
    is_scaled = how["HAS_SOFTCAP"] or how["logit_scale"] != 1.0 or how["inv_t"] != 1.0
    return tile.dtype == torch.float32 and not is_scaled
