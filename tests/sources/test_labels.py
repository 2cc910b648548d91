"""The user's labels and the classes of networks, matched by name."""

from __future__ import annotations

import pytest

from reds_core.errors import ModelError
from reds_core.sources.labels import conditions, indices, label_names

CLASSES = ("T-shirt/top", "Trouser", "Ankle boot")


def test_case_and_separators_do_not_matter() -> None:
    assert indices(["t_shirt top", "ANKLE-BOOT"], CLASSES) == {"t_shirt top": 0, "ANKLE-BOOT": 2}
    assert indices(["Trouser", "Hat"], CLASSES) is None and indices(["Trouser", "TROUSER"], CLASSES) is None


def test_labels_count_as_the_first_network_that_knows_them_all() -> None:
    assert label_names(["trouser"], (), ("a", "b"), CLASSES) == CLASSES
    assert label_names(["x", "y"], CLASSES) == ("x", "y")


def test_a_conditional_generator_must_have_every_class() -> None:
    assert conditions(["ankle_boot"], CLASSES) == {"ankle_boot": 2} and conditions(["hat"], ()) == {"hat": 0}
    with pytest.raises(ModelError, match="no class named hat, shoe; it has 3: T-shirt/top, Trouser, Ankle boot"):
        conditions(["hat", "shoe", "Trouser"], CLASSES)
    with pytest.raises(ModelError, match="name the same class"):
        conditions(["Trouser", "TROUSER"], CLASSES)
