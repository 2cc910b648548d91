"""How the networks that ship with the package were trained.

images     Fashion-MNIST as it is distributed
quality    how good and how diverse samples are
gan        the Fashion-MNIST generators
embedding  an embedding that knows no labels
fashion    the command for Fashion-MNIST: generators, classifier, judge, embedding, and their figures
rooms      the command for the segmentation network of the rendered rooms
"""
