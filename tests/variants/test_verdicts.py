"""Acceptance: each reason by a case made for it, in the order that they apply."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch

from reds_core.spec.fields import Goal
from reds_core.types import REASONS
from reds_core.variants.verdicts import Measured, classify, distances, farthest_apart, verdicts
from tests.support import ROOT

HELD, VARIED = {"id": 0.1, "place": 0.2}, {"hair": Goal(minimum=0.3)}
FAR = torch.full((9, 9), 5.0)


def one(drift: float, place: float, effect: float, agrees: bool = True) -> str:
    return verdicts(Measured({"id": [drift], "place": [place]}, {"hair": [effect]}, [agrees], FAR[:1, :1]), HELD, VARIED, 0.02)[0]


def test_the_first_reason_that_applies_is_given() -> None:
    nan = float("nan")
    assert one(0.1, 0.2, 0.3) == ""
    assert one(0.101, 0.2, 0.3) == "held:id"
    assert one(0.0, 0.21, 0.0) == "held:place"
    assert one(0.0, 0.0, 0.29) == "varied:hair"
    assert one(0.0, 0.0, 0.5, agrees=False) == "judge"
    assert one(nan, 0.0, 0.5) == "not_finite" == one(0.0, 0.0, nan, agrees=False)


def test_a_duplicate_is_one_of_an_accepted_variant_only() -> None:
    apart = torch.tensor([[0.0, 0.01, 0.03], [0.01, 0.0, 0.01], [0.03, 0.01, 0.0]])
    fine = {"id": [0.0] * 3, "place": [0.0] * 3}
    alike, one_weak = (Measured(fine, {"hair": effects}, [True] * 3, apart) for effects in ([0.5] * 3, [0.1, 0.5, 0.5]))
    assert verdicts(alike, HELD, VARIED, 0.02) == ["", "duplicate", ""]
    assert verdicts(one_weak, HELD, VARIED, 0.02)[1:] == ["", "duplicate"]
    assert verdicts(alike, HELD, VARIED, 0.0) == ["", "", ""]


def on_a_line(*places: float) -> Measured:
    """Returns variants at these distances from their seed, along one line."""
    x = torch.tensor(places, dtype=torch.float64)
    fine = {"id": [0.0] * len(x), "place": [0.0] * len(x)}
    return Measured(fine, {"hair": x.abs().tolist()}, [True] * len(x), (x[:, None] - x).abs())


def test_those_that_lie_farthest_apart_are_kept() -> None:
    found = on_a_line(0.4, 1.0, 0.9, -0.8, 0.5)
    assert farthest_apart(found, range(5), 3) == [1, 3, 4]
    assert verdicts(found, HELD, VARIED, 0.02, keep=3) == ["duplicate", "", "duplicate", "", ""]
    assert verdicts(found, HELD, VARIED, 0.02, keep=1) == ["duplicate", "", "duplicate", "duplicate", "duplicate"]
    assert verdicts(found, HELD, VARIED, 0.02, keep=9) == verdicts(found, HELD, VARIED, 0.02) == [""] * 5


def test_of_equals_the_earlier_one_is_kept() -> None:
    assert farthest_apart(on_a_line(1.0, -1.0, 1.0, -1.0), range(4), 4) == [0, 1, 2, 3]


def test_only_accepted_variants_are_among_those_that_are_kept() -> None:
    found = on_a_line(0.1, 5.0, 0.5, 1.0)
    rejected = Measured(found.drifts, found.effects, [True, False, True, True], found.apart)
    assert verdicts(rejected, HELD, VARIED, 0.02, keep=1) == ["varied:hair", "judge", "duplicate", ""]


def test_distances_to_the_seed_are_the_largest_of_several_varied_attributes() -> None:
    far = torch.full((3, 3), 9.0)
    found = Measured({}, {"hair": [0.5, 0.5, 0.6], "hat": [0.1, 0.9, 0.2]}, [True] * 3, far)
    assert farthest_apart(found, range(3), 2) == [1, 2]


def test_distances_are_in_spreads() -> None:
    assert distances(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(1, 2), 2.0) == [2.5, 0.0]


def test_scores_that_are_not_finite_agree_with_nothing() -> None:
    found = classify(torch.tensor([[0.0, 2.0], [float("nan"), 1.0]]))
    assert found.labels[0] == 1 and 0.5 < found.confidences[0] < 1 and found.finite == [True, False]
    assert found.agrees([1, found.labels[1]]) == [True, False] and found.agrees([0, 0])[0] is False


def returned(node: ast.AST) -> Iterator[ast.expr]:
    """Yields what a statement returns, or a choice comes out as."""
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Return | ast.Assign) and node.value is not None:
        yield node.value
    elif isinstance(node, ast.Tuple | ast.GeneratorExp):
        yield from node.elts if isinstance(node, ast.Tuple) else [node.elt]
    elif isinstance(node, ast.Starred | ast.List):
        yield from [node.value] if isinstance(node, ast.Starred) else node.elts


def test_every_reason_that_the_code_gives_has_a_meaning_and_no_other_has() -> None:
    """Of the files that deal in reasons: texts that stand where a reason is made."""
    texts = set()
    for room in ("directions", "trajectories", "variants"):
        for path in (ROOT / "reds_core" / room).glob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(n, ast.ImportFrom) and "Reason" in [a.name for a in n.names] for n in ast.walk(tree)):
                made = [value for node in ast.walk(tree) for value in returned(node)]
                made = [v.values[0] if isinstance(v, ast.JoinedStr) else v for v in made]
                texts |= {v.value for v in made if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    assert {t.partition(":")[0] for t in texts if re.fullmatch("[a-z_]+:?", t)} == set(REASONS)
