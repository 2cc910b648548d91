"""Prefect around `reds_core`: flows and tasks that schedule, retry and show; the program `reds`.

artifacts     what people watch in Prefect's UI
process       this process: its memory, and the processes that it has started
signals       Ctrl-C, SIGTERM and SIGHUP, heard whatever the main thread does
embedded_api  Prefect's API where nobody serves one
prefect_env   Prefect's environment where nobody set one up
engines/      where shards are made
parameters    a run's parameters
shards        shards as tasks, in the flow's own process
child_runs    shards by child runs, on any worker
augment       the flow
deploy        a spec as a scheduled deployment
cli/          the program `reds`
"""

import os

# Read when torch is imported. Threads that spin while they wait take a tenth less time on an idle machine, and eight times more
# beside another busy program, which is where a nightly job lives.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
