"""Results: entries, their index, and the tables made of them."""
