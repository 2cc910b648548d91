"""Which way to step: from Jacobians to directions.

precision   the precision that a GPU computes in
batched     Gram, null space, REDs and the ablations, for many points at once
at_point    the same for one point: the public functions
evaluator   attributes at many points, in batches, with every pass counted
jacobian    Jacobians and Grams by reverse mode, forward mode or differences
modes       which of the three the networks allow, and which costs least
leading     what a seed's image reacts to most, in a very large latent space
cloud       how sampled latents lie: their mean, their principal components, what is plausible
fitted      directions fitted once for all seeds: pca, sefa, interfacegan
choices     the ways to choose directions, and whose Grams each looks at
"""

from reds_core.directions.at_point import maxc, minf, null_space, rayleigh, reds

__all__ = ["maxc", "minf", "null_space", "rayleigh", "reds"]
