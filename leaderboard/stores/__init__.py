"""Where requests and results are kept: a folder, or data set repositories on the Hub."""
