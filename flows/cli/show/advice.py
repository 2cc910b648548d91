"""What to change in a spec that accepts too little: by the reasons that its candidates were really rejected for."""

from __future__ import annotations

from collections.abc import Mapping

# A reason, without the attribute -> what would cure it.
CURES = {
    "held": "widen held.{name}, or shorten trajectory.step",
    "varied": "lower varied.{name}, or walk further: a larger trajectory.step, or more waypoints",
    "judge": "look whether the judge and the label know the same classes in the same order, and hold the label more closely",
    "seed_label": "look whether the judge and the label know the same classes in the same order, or lower seeds.truncation",
    "duplicate": "walk further between waypoints (trajectory.step), or lower `duplicates`; `keep` rejects by number",
    "not_finite": "look whether the attributes can be measured on such images at all",
    "turned": "hold fewer attributes, or widen what is held: it leaves no direction",
    "step_underflow": "widen what is held, or shorten trajectory.step",
    "implausible": "shorten trajectory.step, or take fewer waypoints: they leave where the generator was trained",
    "fit": "raise seeds.fit.distance or seeds.fit.passes, or widen what is held",
}
LEAST = 0.1  # of the rejected: rarer reasons are not worth a change
MOST = 3  # pieces of advice


def advice(rejected: Mapping[str, int]) -> list[str]:
    """Returns what would cure the reasons met, as in "varied:look 95%: lower varied.look, ...", the most frequent first."""
    total = sum(rejected.values())
    frequent = sorted((-count, reason) for reason, count in rejected.items() if count >= LEAST * total)
    return [
        f"{reason} {-count / total:.0%}: {CURES[kind].format(name=name)}"
        for count, reason in frequent[:MOST]
        for kind, _, name in [reason.partition(":")]
    ]
