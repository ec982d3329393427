"""The leaderboard: requests come in, a worker evaluates them, results are shown across data sets. It uses `mia_hub`, never the reverse."""
