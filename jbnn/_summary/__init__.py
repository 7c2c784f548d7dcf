"""What a network consists of: `table` shows it, `walk` finds its layers in a jaxpr, `equations` reads one of them."""
