"""What a judge of other classes than the user's labels is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reds_core.errors import ModelError
from reds_core.jobs.trials import _check_scores


def test_a_judge_of_more_classes_than_own_labels_is_told_where_their_order_comes_from() -> None:
    networks: Any = SimpleNamespace(label_names=("3", "5", "7"), spec=SimpleNamespace(label="given"))
    with pytest.raises(ModelError, match=r"decides among 10 classes, but the label is one of 3.* has `names` for all classes"):
        _check_scores(networks, torch.zeros(2, 10))
