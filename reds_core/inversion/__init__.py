"""The user's own images -> latents whose images are nearly theirs, with what is held as it is in the image.

library    sampled latents with small images of theirs: the nearest is where a reconstruction starts
fit        from there, by gradients, to the latent whose image is nearest
level_set  from there to where every held attribute is what it is in the user's image
invert     all of it, for some of a run's images
"""
