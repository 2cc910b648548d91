"""`reds`, the program.

options    options that several verbs share
progress   what a person sees while a run goes on
tables     forecasts, runs and kinds as tables
checks     mistakes that are found before anything slow starts
app        the verbs, and the exit codes
"""

from flows.cli.app import main

__all__ = ["main"]
