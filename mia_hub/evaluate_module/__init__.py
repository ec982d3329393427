"""The metric ``sima`` for Hugging Face's `evaluate`.

After ``mia-hub install-metric``, ``evaluate.load("sima")`` works in any script; without it,
``evaluate.load(mia_hub.evaluate_module.PATH)`` does.
"""

from pathlib import Path

PATH = str(Path(__file__).with_name("sima.py"))
