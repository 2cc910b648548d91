"""What a spec or a method would do, measured on a few seeds.

fits                 how well the user's own images can be reconstructed
settings             other settings of a spec, tried on a few seeds
forecast             what a run would accept, and what it would cost
estimates            means with intervals over seeds
compare              methods side by side on the same seeds, at equal effect
comparison_report    compare.csv, compare.png and compare.md
"""
