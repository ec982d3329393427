"""Runs the worker: ``python -m leaderboard.worker``."""

from leaderboard.worker.command import main

if __name__ == "__main__":
    raise SystemExit(main())
