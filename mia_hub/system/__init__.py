"""What the program needs of the machine and of the Hub: files, memory, time, the web, processes."""
