"""The web page: `python app.py` opens it, and a Hugging Face Space runs it as it is."""

from mia_hub.ui import build_app, launch_options

demo = build_app()

if __name__ == "__main__":
    demo.launch(**launch_options())
