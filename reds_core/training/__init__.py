"""How the networks that ship with the package were trained.

images    Fashion-MNIST as it is distributed
quality   how good and how diverse samples are
gan       the Fashion-MNIST generator
fashion   the command for Fashion-MNIST: generator, classifier, judge, and their figures
rooms     the command for the segmentation network of the rendered rooms
"""
