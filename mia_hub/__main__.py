from mia_hub.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
