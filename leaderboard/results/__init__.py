"""Results: entries, their index, and the rows and rankings of the board."""
