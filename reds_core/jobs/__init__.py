"""What a run computes with: networks on a device, and what is measured with them once, before the first seed.

seeds         integer -> latent and class
images        images as stored: rounded to bytes, encoded, decoded
thumbnails    small images for reports: which, how, and their file
job           networks, the job that is measured with them, and the work on a shard
reference     reference images, and what is measured on them once: spreads and noise
derivatives   how derivatives are taken, and in which tangent basis trajectories move
own           what starting from the user's own images needs
trials        every feature and the judge, tried on a few images
prepare       spec -> job
"""
