"""The kernels: words and a `Correlation` in, int32 out. None knows gradients, quantizers or another kernel."""
