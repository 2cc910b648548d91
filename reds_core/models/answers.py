"""What a network answers: in single precision from here on; and alike when it is asked again, whatever else is in its batch.

Without the latter, two runs of one digest differ, and every tolerance is blamed for what no tolerance can cure. Rounding is no such
fault: a network may add in another order in another batch. What may differ is measured against what tells two inputs apart, and
against the precision of the answers themselves:

    from call to call   SHARE_AGAIN x spread + ROUNDING_AGAIN x norm
    with the batch      SHARE x spread + max(ROUNDING, 2 eps) x norm

with the median distance between the answers to unrelated inputs, the median norm of an answer, and eps of half, bfloat16 or
single precision, whichever all of the numbers fit in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.errors import ModelError, described
from reds_core.types import Rows

TRIED = 8  # inputs
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64)  # of batches, for a network that fails on TRIED
SHARE_AGAIN, ROUNDING_AGAIN = 1e-4, 1e-6
SHARE, ROUNDING = 1e-3, 1e-5

# Which of the inputs tried -> the answers to them, a row each.
Answers = Callable[[Rows], Tensor]


def is_dense(answer: Tensor) -> bool:
    """Returns whether a tensor holds its numbers one after the other."""
    return answer.layout == torch.strided and not (answer.is_nested or answer.is_meta or answer.is_quantized)


def single(answer: Tensor, title: str) -> Tensor:
    """Returns a network's answer in single precision, whatever it computes in. Raises ModelError if it is complex, or not dense."""
    if not is_dense(answer):
        raise ModelError(f"{title} returns a sparse, nested, quantized or meta tensor; let it return a plain one")
    if answer.is_complex():
        raise ModelError(f"{title} returns complex numbers; let it return real ones, such as their absolute values")
    return answer.float()


def check_alike(title: str, answers: Answers, first: Float[Tensor, "n ..."], *, may_vary: bool = False) -> None:
    """Asks a network again, and then for a few rows at a time.

    Args:
        title: what it is, for people.
        answers: asks it; of one input tried, it knows a second one to stand beside it.
        first: what it answered to all inputs at once, all in one batch.
        may_vary: whether answers may differ from call to call, as a user's own measurement may; batches are told apart even so.

    Raises:
        ModelError: names the network, and says whether its answers differ from call to call or with the batch.
    """
    n = len(first)
    rows = torch.arange(n, device=first.device)
    varies = _apart(first, answers(rows))
    if not may_vary and varies > _allowed(first, SHARE_AGAIN, ROUNDING_AGAIN):
        raise ModelError(
            f"{title} answers otherwise from call to call: {_in_words(varies, first)}. It draws random numbers of its own (noise, "
            "dropout). Save it in evaluation mode, a style-based generator with fixed noise (noise_mode='const')"
        )
    if n == 1:
        _check_beside(title, answers, first, varies)
    # Rows change their places too: noise that is drawn from a fixed seed goes by them.
    for part in rows.split([size for size in (1, 2, n - 3) if size > 0]) if n > 3 else rows.split(1) if n > 1 else ():
        try:
            found = answers(part)
        except torch.OutOfMemoryError:
            raise
        # A user's network may raise anything.
        except Exception as error:
            raise ModelError(
                f"{title} answers {n} inputs at once, but not {len(part)} ({described(error, -1)}): {FROZEN}, or it has BatchNorm "
                "in training mode"
            ) from error
        _check_apart(title, _apart(first[part], found), first, varies)


def _check_beside(title: str, answers: Answers, first: Float[Tensor, "1 ..."], varies: float) -> None:
    """Asks a network that will be asked for one input at a time for two: the batch is in no digest, and may be larger next time.

    Raises:
        ModelError: its answer differs. One that takes no two, or for which memory does not suffice, is as good as it was.
    """
    try:
        pair = answers(torch.arange(2, device=first.device))
    except Exception:  # whatever it is, the network does not take two
        return
    if len(pair) == 2:
        _check_apart(title, _apart(first, pair[:1]), pair, varies)


def _check_apart(title: str, differs: float, answers: Float[Tensor, "n ..."], varies: float) -> None:
    """Raises ModelError if answers in two batches differ by more than rounding, and more than from call to call (`varies`)."""
    if differs > _allowed(answers, SHARE, max(ROUNDING, 2 * _precision(answers))) + 4 * varies:
        raise ModelError(
            f"{title} answers otherwise with the batch: the same input alone, or beside other inputs: "
            f"{_in_words(differs, answers)}. It has BatchNorm in training mode, or another statistic over its batch. Call "
            "network.eval() before it is traced or exported"
        )


def too_large(device: torch.device) -> str:
    """Returns in words that even one image at a time exhausts a device's memory."""
    return f"the memory of {device} does not suffice for one image at a time; take a smaller network or another device"


FROZEN = "its batch size was frozen when it was traced. Trace it so that it takes any, or use torch.jit.script or torch.export"


def frozen_sizes(answers: Answers, n: int, device: torch.device) -> str:
    """Returns in words which batch sizes a network takes that failed on the n inputs tried, "" if it takes none."""
    works = []
    for size in SIZES:
        # Every input takes part, so that what fails on one of them fails here too, whatever the size.
        batches = [torch.arange(at, at + size, device=device) % n for at in range(0, n, size)]
        try:
            if all(len(answers(rows)) == size for rows in batches):
                works.append(size)
        except torch.OutOfMemoryError:
            break
        except Exception:  # whatever it is, the network does not take so many
            continue
    return f"it takes {', '.join(map(str, works))} at once, and no other number: {FROZEN}" if works else ""


def _apart(a: Float[Tensor, "n ..."], b: Float[Tensor, "n ..."]) -> float:
    """Returns the largest distance between rows of the same input; infinity if their shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    # A row that is not a number in one of the two is noise of a threshold; one that is in both is none.
    return float((a - b).flatten(1).double().nan_to_num(0, 0, 0).norm(dim=1).max())


def _allowed(answers: Float[Tensor, "n ..."], share: float, rounding: float) -> float:
    spread, norm = _scales(answers)
    return share * spread + rounding * norm


def _scales(answers: Float[Tensor, "n ..."]) -> tuple[float, float]:
    """Returns the median distance between rows, and their median norm."""
    rows = answers.flatten(1).double()
    rows = rows[torch.isfinite(rows).all(1)]
    if not len(rows):
        return 0.0, 0.0
    apart = [float((a - b).norm()) for i, a in enumerate(rows) for b in rows[:i]]
    return sorted(apart)[len(apart) // 2] if apart else 0.0, float(rows.norm(dim=1).median())


def _precision(answers: Float[Tensor, "n ..."]) -> float:
    """Returns the eps of the coarsest type that holds all numbers as they are."""
    known = answers.nan_to_num(0, 0, 0)
    fits = (t for t in (torch.bfloat16, torch.float16) if torch.equal(known.to(t).to(known), known))
    return torch.finfo(next(fits, torch.float32)).eps


def _in_words(differs: float, answers: Float[Tensor, "n ..."]) -> str:
    spread, _ = _scales(answers)
    if not differs < float("inf"):
        return "even their shape"
    return f"by up to {differs / spread:.2g} of the distance between two inputs' answers" if spread else f"by up to {differs:.2g}"
