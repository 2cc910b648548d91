"""A training set from one or more runs: balanced, varied, split by group, and intact.

request        what is asked of an export
small          small versions of images, in a file
inputs         runs -> verified shards -> an index of their samples
choose         limits for each class and each seed
split          groups -> splits
plan           from runs to what would be written, and what is lacking
manifest       what an export's folder says of itself
tars           the chosen samples as shards of a WebDataset
image_folder   the chosen samples as images in folders
pages          index.parquet and the dataset card
verify         is an export intact? Every file against the index and the manifests
export         a plan -> its files, resumed where they are there already
"""
