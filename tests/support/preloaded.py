# ruff: noqa: F401
"""What the fork server of `tests.support.programs` imports once, so that no program has to: all that a run imports."""

import os

from flows import prefect_env

os.environ.update(prefect_env.QUIET)

import prefect.flow_engine
import prefect.task_engine
import torch._dynamo  # forward-mode derivatives do, at the first one

import flows.augment
import flows.cli.app
import flows.cli.checks
import flows.cli.progress
import flows.cli.show.tables
import flows.deploy
import flows.engines.local
import flows.engines.processes
import reds_core.reports.page

torch.set_num_threads(1)
