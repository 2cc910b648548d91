"""Seeds -> variants and rejects, in memory: no disk, no scheduler.

seeds           integer -> latent and class
images          images as stored: rounded to bytes, encoded, decoded
verdicts        drift, effect and judge -> accepted, or rejected with a reason
job             a spec with its networks loaded and its spreads measured
spreads         how far apart unrelated images are in each attribute
prepare         spec -> job: everything that a run measures once
origins         a shard's seeds: what their variants are compared with
directions_at   the directions at a seed, as the spec chooses them
level_set       what corrected trajectories hold, as a residual and its Jacobian
walks           a shard's seeds -> its trajectories
run_seeds       one shard's worth of seeds -> candidates with verdicts
"""
