"""Networks that ship with the package, and the world that they were trained on.

fashion     the networks trained on Fashion-MNIST
rooms       a differentiable renderer of small rooms, whose true factors are known
segmenter   which pixels show the wall, the floor, the sofa
builtin     a shipped network by its name, with its weights
"""
