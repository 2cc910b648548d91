"""What the program says.

advice    what to change, by why candidates were rejected
tables    forecasts and runs as tables
imported  what an import made
kinds     kinds, and parts of a spec, with their fields
"""
