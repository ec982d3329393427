"""Access to the machine and to the Hub: files, memory, time, the web, processes."""
