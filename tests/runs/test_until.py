"""How many seeds are made until every class has enough: steps, limits, and which classes count."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from reds_core.errors import UserError
from reds_core.runs.until import Quota, Tally, Until, quota_of, until_of
from reds_core.spec.load import load_spec
from tests.support.shards import make_run_in, spec_of
from tests.support.worlds import TinyConditional, torchscript, world
from tests.variants.test_own_images import photographs

NAMES = ["a", "b", "c"]


def conditional(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torchscript(TinyConditional(), folder / "cond.pt")
    generator = {"kind": "torchscript", "path": "cond.pt", "latent_dim": 6, "output_range": [-1, 1], "classes": NAMES}
    return world(folder, **({"generator": generator, "label": "condition"} | changes))


def quota(spec: Path, text: str) -> Quota:
    return quota_of(load_spec(spec), until_of(text))


def tally(seeds: int, accepted: dict[str, int], seen: str = "abc") -> Tally:
    return Tally(seeds, Counter(accepted), set(seen), defaultdict(Counter))


def test_what_is_asked_for_is_read() -> None:
    assert until_of("per_class=500") == Until(500) and until_of("seeds=20, per_class=5") == Until(5, 20)


@pytest.mark.parametrize(
    "text", ["", "5", "per_class=0", "per_class=-1", "per_class=5,per_class=6", "class=5", "seeds=5", "per_class=1e3"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="per_class=N") as error:
        until_of(text)
    assert error.value.parameter == "until"


def test_the_first_step_would_do_if_all_were_accepted(tmp_path: Path) -> None:
    """2 directions both ways and 3 waypoints: 12 variants a seed, 3 classes, 2 seeds a shard."""
    spec = conditional(tmp_path)
    assert quota(spec, "per_class=12").first == 4 and quota(spec, "per_class=13").first == 6
    assert quota(spec, "per_class=120,seeds=7").first == 7
    assert quota(conditional(tmp_path / "keep", keep=3), "per_class=12").first == 12
    assert quota(conditional(tmp_path / "alone", trajectory={"directions": 0}), "per_class=5").first == 16
    assert quota(conditional(tmp_path / "some", seeds={"count": 1, "classes": ["b"]}), "per_class=24").first == 2
    assert quota(world(tmp_path / "unlabelled", label="none"), "per_class=24").first == 2


def test_a_step_follows_from_the_class_that_is_furthest_behind(tmp_path: Path) -> None:
    found = quota(conditional(tmp_path), "per_class=100")
    assert found.next(tally(30, {"a": 200, "b": 100, "c": 90})) == 34
    assert found.next(tally(30, {"a": 200, "b": 100, "c": 1})) == 120  # at most three times what there is
    assert found.next(tally(30, {"a": 200, "b": 100})) == 60  # nothing yet: as many again
    assert found.next(tally(30, {"a": 200, "b": 100, "c": 100})) == 30
    assert found.failure(tally(30, {"a": 200, "b": 100, "c": 100})) == ""


def test_the_limit_that_is_given_is_kept_to_the_seed(tmp_path: Path) -> None:
    found = quota(conditional(tmp_path), "per_class=100,seeds=41")
    assert found.next(tally(30, {"a": 9, "b": 50, "c": 50})) == 41
    short = tally(41, {"a": 12, "b": 100, "c": 100})
    short.rejected["a"] = Counter({"judge": 30, "held:class": 4})
    assert found.next(short) == 41
    assert found.failure(short) == (
        "1 of 3 classes have fewer than 100 after 41 seeds: a 12 (rejected: judge 30, held:class 4). That was the limit, seeds=41; "
        "about 342 would do, at the shares so far"
    )


def test_a_class_that_gives_nothing_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    found = quota(conditional(tmp_path), "per_class=5")
    assert found.next(tally(98, {"a": 9, "b": 9})) == 100 + 96
    assert found.next(tally(100, {"a": 9, "b": 9})) == 100
    assert "c 0. A class that has given nothing in 100 seeds is not waited for; per_class=5,seeds=M" in found.failure(
        tally(100, {"a": 9, "b": 9})
    )
    assert found.next(tally(100, {"a": 9, "b": 4})) == 126, "the others are still filled"
    assert quota(conditional(tmp_path), "per_class=5,seeds=1000").next(tally(100, {"a": 9, "b": 9})) == 200


def test_without_a_limit_it_stops_at_many_times_what_equal_classes_would_take(tmp_path: Path) -> None:
    found = quota(conditional(tmp_path), "per_class=100")
    # One a seed: 300 seeds would do if all classes were as frequent.
    assert found.next(tally(2000, {"a": 1000, "b": 997, "c": 3})) == 6000
    stopped = tally(6000, {"a": 3000, "b": 2997, "c": 3})
    assert found.next(stopped) == 6000
    assert "c 3. That is 20 times what equally frequent classes would take" in found.failure(stopped)


def test_classes_that_no_seed_shows_are_waited_for_and_then_not_counted(tmp_path: Path) -> None:
    found = quota(world(tmp_path), "per_class=10")
    assert found.first == 2 and not found.certain
    half = {"a": 10, "b": 10}
    assert set(found.short(tally(20, half, "ab"))) == {"c"} and found.next(tally(20, half, "ab")) == 40
    assert not found.short(tally(100, half, "ab")) and found.failure(tally(100, half, "ab")) == ""
    assert set(found.short(tally(100, half, "abc"))) == {"c"}, "a seed has shown it, and none of its variants was accepted"


def test_own_images_are_the_limit_and_their_labels_the_classes(tmp_path: Path) -> None:
    photographs(tmp_path / "data", 5, "ankle_boot")
    found = quota(world(tmp_path, seeds={"images": "data", "count": 2}, label=None), "per_class=100")
    assert (found.declared, found.images, found.first) == (("ankle_boot",), 5, 5)
    given = tally(5, {"Ankle boot": 7}, {"Ankle boot"})  # type: ignore[arg-type]
    assert found.counts(given) == {"Ankle boot": 7} and found.next(given) == 5
    assert "Ankle boot 7. There are no more images: give more" in found.failure(given)


def test_what_shards_hold_is_counted_by_class(tmp_path: Path) -> None:
    from reds_core.storage.places import folder_at

    spec = spec_of(world(tmp_path / "world"))
    folder = make_run_in(folder_at(tmp_path / "out"), spec)
    t = Tally()
    t.add(folder, spec, range(1))
    t.add(folder, spec, range(1, 3))
    assert (t.seeds, t.seen, dict(t.accepted)) == (6, {"a", "b", "c"}, {"a": 16, "b": 8, "c": 16})
    assert t.rejected["b"] == Counter({"held:class": 4, "seed_label": 12})
