"""What people and programs read about a run: the report, the dataset card, and its description as Croissant.

render      texts from templates
charts      small charts, placed
summary     a run's tables, summed up in constant memory
blocks      a few seeds with their thumbnails
sheet       the contact sheet: seeds and their variants
picture     the contact sheet as one small picture
card        README.md, the dataset card
croissant   croissant.json and samples.parquet, for programs
page        report.html
"""
