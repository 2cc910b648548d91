"""Published generator architectures, in plain PyTorch.

style       what StyleGAN2 and StyleGAN3 share: mapping, modulation
stylegan2   StyleGAN2
stylegan3   StyleGAN3, configurations T and R
biggan      BigGAN
"""
