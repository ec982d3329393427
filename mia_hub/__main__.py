"""``python -m mia_hub`` is ``mia-hub``, also under ``accelerate launch``."""

from mia_hub.cli.parser import main

if __name__ == "__main__":
    raise SystemExit(main())
