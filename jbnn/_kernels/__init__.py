"""The kernels, `case` that they are asked, and the choice among them. None knows gradients, quantizers or another."""
