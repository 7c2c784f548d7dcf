"""Correlations of words on the binary tensor cores of NVIDIA's Hopper, emitted from Python through Pallas."""
