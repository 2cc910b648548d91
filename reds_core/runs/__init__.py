"""A run on disk or in a store: shards, each with a table and a manifest that is written last.

plan         which seeds each shard holds
manifest     a shard's manifest, and whether the shard's files match it
run_folder   a run's folder: found, opened, cleared of leftovers, and which shards are missing
samples      a candidate -> the files of a sample, and a row of the table; a tar -> its samples
table        a shard's table: its columns, whatever its rows
in_threads   work on many samples, in order
verify       is a run intact? Every shard against its manifest
publish      a finished shard -> its folder
shards       candidates -> a shard's tar, table and manifest
totals       what a run's shards add up to; the list of all runs
until        how many seeds it takes until every class has enough samples
worker       one shard from request to manifest, in whichever process
"""
