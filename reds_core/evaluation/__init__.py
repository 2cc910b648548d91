"""What a run teaches a classifier (`reds evaluate`): a table of arms, paired repeats, real test images.

labelled     labelled images in memory, of the user's data and of runs
classic      classic augmentation
networks     the classifier
training     one training, and its test
arms         what is compared
leaks        test images that were trained on, networks that have seen labels
estimates    means, and intervals of paired differences
evaluate     the whole
files        evaluation.csv, .png and .md
"""
