"""`python -m codex_space` is the same program as the `codex-space` command."""

from codex_space.cli.main import main

raise SystemExit(main())
