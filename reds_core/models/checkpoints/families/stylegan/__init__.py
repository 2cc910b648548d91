"""The families of StyleGAN, whoever wrote the file.

stylegan2    networks by the names of stylegan2-ada-pytorch
stylegan3    networks of stylegan3 and of StyleGAN-XL
tensorflow   StyleGAN2 in TensorFlow
stylegan1    StyleGAN in TensorFlow
genforce     state dicts of genforce's StyleGAN2
rosinality   state dicts of stylegan2-pytorch, and of the encoders that hold one
mmagic       state dicts of StyleGAN2 in MMGeneration and MMagic
"""
