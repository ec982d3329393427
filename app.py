"""The web page: `python app.py` opens it, as `mia-hub app` does, and a Hugging Face Space runs it as it is."""

from mia_hub.cli.app import launch

if __name__ == "__main__":
    launch()
