"""The layers that the benchmarks measure."""

# The 3x3 layers of a ResNet, as (rows and columns, channels): each 0.2312 GOP an image, at 2 for a multiply-accumulate.
LAYERS = ((56, 64), (28, 128), (14, 256), (7, 512))
