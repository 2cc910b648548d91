"""Seeds -> variants and rejects, in memory: no disk, no scheduler.

seeds               integer -> latent and class
images              images as stored: rounded to bytes, encoded, decoded
verdicts            drift, effect and judge -> accepted, or rejected with a reason
job                 networks, the job that is measured with them, and the work on a shard
reference           reference images, and what is measured on them once: spreads and noise
derivatives         how derivatives are taken, and in which tangent basis trajectories move
prepare             spec -> job
origins             a shard's seeds: what their variants are compared with
published_from      linear and local trajectories from a shard's seeds
corrected_from      corrected ones: what they hold, as a residual and its Jacobian
trajectories_from   a shard's seeds -> its trajectories, of whichever method
run_seeds           one shard's worth of seeds -> candidates with verdicts
"""
