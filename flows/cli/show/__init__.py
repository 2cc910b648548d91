"""What the program says.

words    numbers of things in words
advice   what to change, by why candidates were rejected
tables   forecasts and runs as tables
kinds    kinds, and parts of a spec, with their fields
"""
