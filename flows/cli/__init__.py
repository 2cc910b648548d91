"""`reds`, the program.

options    options that several verbs share
progress   what a person sees while a run goes on
tables     forecasts, runs and kinds as tables
checks     mistakes that are found before anything slow starts
runs       the verbs run and deploy
studies    the verbs check and compare
evaluate   the verb evaluate
folders    the verbs verify, report and list
export     the verb export
networks   the verbs import, kinds and schema
app        all verbs, and the exit codes
"""

from flows.cli.app import main

__all__ = ["main"]
