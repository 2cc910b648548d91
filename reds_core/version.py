"""This package's version, which every sample and manifest names."""

__version__ = "0.1.0"
