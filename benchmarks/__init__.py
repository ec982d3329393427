"""Measurements of what mia_hub costs; see README.md beside this file."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
