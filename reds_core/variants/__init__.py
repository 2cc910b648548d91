"""Seeds -> variants and rejects, in memory: no disk, no scheduler.

seeds               integer -> latent and class
images              images as stored: rounded to bytes, encoded, decoded
verdicts            drift, effect and judge -> accepted, or rejected with a reason
job                 networks, the job that is measured with them, and the work on a shard
spreads             distances in an attribute's units, and how far apart unrelated images are
derivatives         how derivatives are taken, and in which tangent basis trajectories move
prepare             spec -> job
origins             a shard's seeds: what their variants are compared with
directions_at       the directions at a seed, as the spec chooses them
level_set           corrected trajectories: what they hold, as a residual and its Jacobian
trajectories_from   a shard's seeds -> its trajectories
run_seeds           one shard's worth of seeds -> candidates with verdicts
"""
