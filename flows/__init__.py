"""Prefect around `reds_core`: the flow, its tasks, the engines they run on, and `reds`, the program. Only wrapping, scheduling, retries."""
