"""Seeds -> variants and rejects, in memory: no disk, no scheduler.

verdicts            drift, effect and judge -> accepted, or rejected with a reason
limits              what a held attribute may lose: a level, or a decision
photos              the user's own images in the generator's shape
origins             a shard's seeds: what their variants are compared with
published_from      linear and local trajectories from a shard's seeds
restraints          what the seeds are held by, as a residual and its Jacobian
corrected_from      corrected trajectories: their directions, and where they lead
level_set           reconstructions -> where what is held is as in the user's image
own_images          a shard's own images -> reconstructions that trajectories start from
trajectories_from   a shard's seeds -> its trajectories, of whichever method
run_seeds           one shard's worth of seeds -> candidates with verdicts
session             a spec measured once, for any number of seeds or images
"""
