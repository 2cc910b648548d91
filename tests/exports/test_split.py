"""Groups -> splits: none is cut, and every class is shared out as asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from reds_core.errors import UserError
from reds_core.exports.request import roles_of, splits_of
from reds_core.exports.split import split

TWO = {"train": 0.8, "val": 0.2}


def rows_of(groups: dict[str, list[int]]) -> pd.DataFrame:
    """Returns rows of groups with these labels, a sample for each."""
    return pd.DataFrame([(g, label) for g, labels in groups.items() for label in labels], columns=["group", "label"])


def counted(rows: pd.DataFrame, shares: dict[str, float]) -> Counter[tuple[int, str]]:
    """Returns samples by label and split."""
    of = split(rows, shares).of
    return Counter(zip(rows.label, rows.group.map(of), strict=True))


def test_equal_groups_are_shared_out_exactly() -> None:
    rows = rows_of({f"g{n}": [n % 2] * 3 for n in range(20)})
    assert counted(rows, TWO) == {(0, "train"): 24, (0, "val"): 6, (1, "train"): 24, (1, "val"): 6}
    three = {"a": 0.5, "b": 0.3, "c": 0.2}
    assert counted(rows, three) == {(label, name): 30 * share for label in (0, 1) for name, share in three.items()}


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_within_a_group_of_its_shares_and_all_of_them_nearer(seed: int) -> None:
    draw = np.random.RandomState(seed)
    groups = {f"g{n}": [n % 10] * draw.randint(1, 9) for n in range(150)}
    rows = rows_of(groups)
    found = counted(rows, TWO)
    for label in range(10):
        total = sum(found[label, name] for name in TWO)
        assert abs(found[label, "val"] - 0.2 * total) < 8
    assert abs(sum(found[label, "val"] for label in range(10)) - 0.2 * len(rows)) <= 2


def test_classes_of_few_groups_together_have_the_shares() -> None:
    rows = rows_of({f"g{n}": [n % 50] * 2 for n in range(350)})  # 7 groups a class: 1.4 of them would be right
    found = counted(rows, TWO)
    each = [found[label, "val"] for label in range(50)]
    assert set(each) == {2, 4} and sum(each) == 140


def test_a_split_has_a_group_of_every_class_of_which_half_a_group_is_due_to_it() -> None:
    found = counted(rows_of({f"g{n}": [n % 4] * 9 for n in range(24)}), {"train": 0.8, "val": 0.1, "test": 0.1})
    assert found == {(label, name): 9 * n for label in range(4) for name, n in (("train", 4), ("val", 1), ("test", 1))}


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_many_classes_of_few_groups_have_the_shares_together_and_each_is_in_the_largest_split(groups: int) -> None:
    shares = {"test": 0.1, "train": 0.7, "val": 0.2}
    found = split(rows := rows_of({f"g{n}": [n % 200] * (1 + n % 3) for n in range(200 * groups)}), shares)
    sizes = rows.groupby(rows.group.map(found.of)).size() / len(rows)
    assert rows[rows.group.map(found.of) == "train"].label.nunique() == 200
    if groups > 2:  # else there are not enough to spare
        assert all(abs(sizes[name] - share) < 0.07 for name, share in shares.items())
    assert set(found.short.values()) <= {groups} and bool(found.short)


def test_a_class_of_fewer_groups_than_splits_goes_to_the_largest_and_is_told() -> None:
    found = split(rows_of({"a": [0, 0], "b": [1], "c": [1]}), {"val": 0.2, "train": 0.8})
    assert found.of["a"] == "train" and {found.of["b"], found.of["c"]} == {"train", "val"} and found.short == {0: 1}


def test_a_group_of_several_labels_counts_as_its_most_frequent() -> None:
    groups = {f"a{n}": [0, 0, 1] for n in range(5)} | {f"b{n}": [1, 1, 1] for n in range(5)}
    rows = rows_of(groups)
    of = split(rows, TWO).of
    assert sum(of[f"a{n}"] == "val" for n in range(5)) == sum(of[f"b{n}"] == "val" for n in range(5)) == 1


def test_more_groups_move_few_of_the_old_ones() -> None:
    old = split(rows_of({f"g{n}": [0] * (1 + n % 4) for n in range(100)}), TWO).of
    new = split(rows_of({f"g{n}": [0] * (1 + n % 4) for n in range(120)}), TWO).of
    assert sum(new[name] != old[name] for name in old) <= 10


def test_splits_are_read_in_their_order() -> None:
    assert list(splits_of("val=0.1, train=0.7,test_2=0.2").items()) == [("val", 0.1), ("train", 0.7), ("test_2", 0.2)]
    assert splits_of("a=0.3333333,b=0.3333333,c=0.3333334").keys() == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "'train' is not of the form NAME=SHARE"),
        ("", "'' is not of the form"),
        ("a/b=1", "a name has letters"),
        ("train=0.9,val=0.2", "sum to 1.1"),
        ("train=0.9", "sum to 0.9"),
        ("train=1,val=0", "the share of val is 0"),
        ("train=2,val=-1", "the share of train is 2"),
        ("train=nan,val=1", "the share of train is nan"),
        ("train=x", "not a number: 'x'"),
        ("train=0.5,train=0.5", "is there twice"),
        ("a-b=0.5,A_b=0.5", "is there twice"),
    ],
)
def test_wrong_splits_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        splits_of(text)
    assert caught.value.parameter == "split"


def test_a_role_that_there_is_not_is_named() -> None:
    assert roles_of("seed, variant") == ("seed", "variant")
    with pytest.raises(UserError, match="there is no role 'variants'; there are variant, seed, source"):
        roles_of("variants")
