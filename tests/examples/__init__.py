"""The examples, as a reader would use them."""
