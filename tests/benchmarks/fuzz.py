"""Specs that nobody would write and damaged runs, as many as wanted: `python -m tests.benchmarks.fuzz [COUNT] [SEED] [FIRST]`.

Each example is drawn from the seed and its number alone, so `python -m tests.benchmarks.fuzz 1 SEED NUMBER` tries one of them
again, and shows it. One that is not done in time is a miss; one that cannot even be stopped ends the program after two minutes,
with a traceback. Exit code 1 if any example was not dealt with as promised.
"""

from __future__ import annotations

import faulthandler
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.damages import DAMAGES
from tests.fuzz.runs import finished_run, verify
from tests.fuzz.specs import KINDS, load, spec_file

LONGEST = 120.0  # seconds
SHOWN = 20  # misses in full


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = sys.argv[2] if len(sys.argv) > 2 else "0"
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    numbers = range(first, first + count)
    warnings.simplefilter("ignore")  # Pillow and NumPy, of damaged images and latents
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = finished_run(folder)

        def one_spec(draw: Random, kind: str) -> str:
            spec = spec_file(draw, kind)
            if count == 1:
                print(f"{kind}: --set {list(spec.overrides)}\n{spec.content.decode(errors='backslashreplace')[:5000]!r}")
            return load(spec, folder)

        def one_damage(draw: Random, kind: str) -> str:
            damage = DAMAGES[kind](draw, run)
            if count == 1:
                print(f"{kind}: {', '.join(damage)}")
            return verify(run, damage)

        misses = _tried("specs", tuple(KINDS), one_spec, seed, numbers, ("accepted", "refused"))
        misses += _tried("damages", tuple(DAMAGES), one_damage, seed, numbers, ("found", "may be named", "no damage"))
    return bool(misses)


def _tried(
    what: str, kinds: tuple[str, ...], one: Callable[[Random, str], str], seed: str, numbers: range, outcomes: tuple[str, ...]
) -> int:
    """Tries the examples of one fuzzer, prints what became of them by kind, and returns the number of misses."""
    found: Counter[tuple[str, str]] = Counter()
    misses = 0
    slowest: dict[str, float] = {}
    began = time.perf_counter()
    for number in numbers:
        draw = Random(f"{what} {seed} {number}")
        kind = draw.choice(kinds)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        start = time.process_time()
        try:
            outcome = one(draw, kind)
        except Exception as error:
            outcome = "missed"
            misses += 1
            if misses <= SHOWN:
                print(f"{what} {number}, {kind}: {type(error).__name__}: {ascii(str(error))[:200]}")
                print(f"    again: python -m tests.benchmarks.fuzz 1 {seed} {number}")
                if len(numbers) == 1:
                    print(ascii(traceback.format_exc()).replace("\\n", "\n"))
        slowest[kind] = max(slowest.get(kind, 0.0), time.process_time() - start)
        found[kind, outcome] += 1
    faulthandler.cancel_dump_traceback_later()
    columns = (*outcomes, "missed")
    print(f"\n{what:20}{'tried':>8}" + "".join(f"{c:>14}" for c in columns) + f"{'slowest':>10}")
    for kind in (k for k in kinds if k in slowest):
        row = [found[kind, c] for c in columns]
        print(f"{kind:20}{sum(row):8}" + "".join(f"{n:14}" for n in row) + f"{slowest[kind]:8.2f} s")
    totals = [sum(n for (_, o), n in found.items() if o == c) for c in columns]
    print(
        f"{'all':20}{len(numbers):8}"
        + "".join(f"{n:14}" for n in totals)
        + f"   in {time.perf_counter() - began:.0f} s, seed {seed}\n",
        flush=True,
    )
    return misses


if __name__ == "__main__":
    sys.exit(main())
