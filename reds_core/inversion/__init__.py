"""The user's own images -> latents whose images are nearly theirs.

library    sampled latents with small images of theirs: the nearest is where a reconstruction starts
fit        from there, by gradients, to the latent whose image is nearest
"""
