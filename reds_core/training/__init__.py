"""How the networks that ship with the package were trained.

fashion   Fashion-MNIST: the generator, the classifier and the judge
rooms     the segmentation network of the rendered rooms
"""
