"""Publishing this project on the Hub: its page as a Space, its metric, its demo model and that model's split, each in one command."""
