"""Networks that ship with the package, and the rendered test world.

fashion     the networks trained on Fashion-MNIST
shapes      soft shapes and colours
furniture   what a room shows: its light, and a layer for each segment
rooms       a differentiable renderer of small rooms, whose true factors are known
segmenter   which pixels show the wall, the floor, the sofa
builtin     kind builtin: a shipped network by its name, with its weights
"""
