"""Neighborhood attention as fused kernels in Triton, for NVIDIA and AMD GPUs."""
