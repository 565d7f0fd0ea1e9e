"""The Space's entry: the same page as `codex-space serve`."""

from codex_space.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["serve"]))
