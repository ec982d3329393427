"""Runs the worker: ``python -m leaderboard.worker``."""

from leaderboard.worker.worker import main

if __name__ == "__main__":
    raise SystemExit(main())
