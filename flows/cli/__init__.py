"""`reds`, the program.

options    options that several verbs share
show       numbers, advice and tables for a terminal
progress   what a person sees while a run goes on
checks     mistakes that are found before anything slow starts
runs       the verbs run and deploy
studies    the verbs check and compare
evaluate   the verb evaluate
folders    the verbs verify, report and list
export     the verb export
start      the verb init
networks   the verbs import, kinds and schema
app        all verbs, and the exit codes
"""

from flows.cli.app import main

__all__ = ["main"]
