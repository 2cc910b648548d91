"""What people and programs read about a run: the report, the dataset card, Croissant.

charts      small charts as SVG
summary     a run's tables, summed up in constant memory
sheet       the contact sheet: seeds and their variants
card        README.md, the dataset card
croissant   croissant.json and samples.parquet, for programs
page        report.html
"""
