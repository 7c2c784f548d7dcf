"""What a network consists of: `walk` goes through a jaxpr, `equations` knows its layers, `table` shows them."""
