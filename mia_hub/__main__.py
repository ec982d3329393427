"""``python -m mia_hub`` is ``mia-hub``, also under ``accelerate launch``."""

from mia_hub.cli.parser import command_line

if __name__ == "__main__":
    command_line()
