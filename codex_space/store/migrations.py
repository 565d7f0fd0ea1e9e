"""The tables, as numbered steps that are only ever added to: a database of any age is brought up to date by the rest."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE runs (
            sequence INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            recipe TEXT NOT NULL,
            repo_id TEXT,
            request_key TEXT UNIQUE,
            state TEXT NOT NULL DEFAULT 'queued',
            phase TEXT NOT NULL DEFAULT '',
            reason TEXT NOT NULL DEFAULT '',
            created_at REAL NOT NULL,
            queued_at REAL NOT NULL,
            started_at REAL,
            ended_at REAL,
            step INTEGER NOT NULL DEFAULT 0,
            max_steps INTEGER NOT NULL DEFAULT 0,
            attempt INTEGER NOT NULL DEFAULT 0,
            events_offset INTEGER NOT NULL DEFAULT 0,
            verdict TEXT NOT NULL DEFAULT '',
            intent TEXT NOT NULL DEFAULT '',
            intent_at REAL
        ) STRICT
        """,
        "CREATE INDEX runs_by_state ON runs (state, queued_at)",
        """
        CREATE TABLE wishes (
            sequence INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            verb TEXT NOT NULL CHECK (verb IN ('stop', 'cancel', 'save', 'resume')),
            asked_at REAL NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE curves (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            metric TEXT NOT NULL,
            UNIQUE (run_id, metric)
        ) STRICT
        """,
        """
        CREATE TABLE points (
            curve_id INTEGER NOT NULL REFERENCES curves (id) ON DELETE CASCADE,
            step INTEGER NOT NULL,
            value REAL NOT NULL,
            t REAL NOT NULL,
            PRIMARY KEY (curve_id, step)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE buckets (
            curve_id INTEGER NOT NULL REFERENCES curves (id) ON DELETE CASCADE,
            width INTEGER NOT NULL,
            number INTEGER NOT NULL,
            num_points INTEGER NOT NULL,
            low REAL NOT NULL,
            high REAL NOT NULL,
            last_step INTEGER NOT NULL,
            last REAL NOT NULL,
            PRIMARY KEY (curve_id, width, number)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE checkpoints (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            step INTEGER NOT NULL,
            created_at REAL NOT NULL,
            size_bytes INTEGER NOT NULL,
            metrics TEXT NOT NULL,
            on_disk INTEGER NOT NULL DEFAULT 1,
            upload TEXT NOT NULL CHECK (upload IN ('none', 'queued', 'uploading', 'uploaded', 'failed')),
            upload_error TEXT NOT NULL DEFAULT '',
            commit_id TEXT,
            tries INTEGER NOT NULL DEFAULT 0,
            next_try_at REAL NOT NULL DEFAULT 0,
            PRIMARY KEY (run_id, step)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX checkpoints_by_upload ON checkpoints (upload, created_at)",
    ),
    (
        """
        CREATE TABLE evaluations (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            step INTEGER NOT NULL,
            benchmark TEXT NOT NULL,
            target_run TEXT,
            target_step INTEGER NOT NULL DEFAULT 0,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'failed')),
            reason TEXT NOT NULL DEFAULT '',
            protocol TEXT NOT NULL DEFAULT '',
            started_at REAL NOT NULL,
            num_samples INTEGER NOT NULL,
            num_graded INTEGER NOT NULL DEFAULT 0,
            num_passed INTEGER NOT NULL DEFAULT 0,
            num_live INTEGER NOT NULL DEFAULT 0,
            scores TEXT NOT NULL DEFAULT '[]',
            PRIMARY KEY (run_id, step, benchmark)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX evaluations_by_target ON evaluations (target_run, target_step)",
        "CREATE INDEX evaluations_by_state ON evaluations (state, started_at)",
    ),
    (
        """
        CREATE TABLE verdicts (
            run_id TEXT NOT NULL,
            step INTEGER NOT NULL,
            benchmark TEXT NOT NULL,
            task_id TEXT NOT NULL,
            sample INTEGER NOT NULL,
            verdict TEXT NOT NULL,
            PRIMARY KEY (run_id, step, benchmark, task_id, sample),
            FOREIGN KEY (run_id, step, benchmark) REFERENCES evaluations (run_id, step, benchmark) ON DELETE CASCADE
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        "ALTER TABLE runs ADD COLUMN place TEXT NOT NULL DEFAULT 'local'",
        "CREATE INDEX runs_by_place ON runs (place, state)",
        """
        CREATE TABLE hub_jobs (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            attempt INTEGER NOT NULL,
            flavor TEXT NOT NULL,
            namespace TEXT NOT NULL DEFAULT '',
            job_id TEXT NOT NULL DEFAULT '',
            url TEXT NOT NULL DEFAULT '',
            stage TEXT NOT NULL DEFAULT '',
            message TEXT NOT NULL DEFAULT '',
            usd_per_hour REAL,
            running_s REAL NOT NULL DEFAULT 0,
            timeout_s REAL NOT NULL,
            created_at REAL NOT NULL,
            log_offset INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (run_id, attempt)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        """
        CREATE TABLE audit (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            who TEXT NOT NULL,
            verb TEXT NOT NULL,
            what TEXT NOT NULL
        ) STRICT
        """,
    ),
    (
        "ALTER TABLE runs ADD COLUMN intent_reason TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE wishes ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
        # no foreign key: what a deleted run has cost stays spent
        """
        CREATE TABLE costs (
            run_id TEXT NOT NULL,
            month TEXT NOT NULL,
            seconds REAL NOT NULL,
            usd REAL NOT NULL,
            PRIMARY KEY (run_id, month)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX costs_by_month ON costs (month)",
    ),
    (
        """
        CREATE TABLE notices (
            run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            attempt INTEGER NOT NULL,
            way TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'given up')),
            tries INTEGER NOT NULL DEFAULT 0,
            next_try_at REAL NOT NULL DEFAULT 0,
            error TEXT NOT NULL DEFAULT '',
            PRIMARY KEY (run_id, attempt, way)
        ) STRICT, WITHOUT ROWID
        """,
        # runs that ended before there were notices are nobody's news
        "INSERT INTO notices (run_id, attempt, way, state) SELECT runs.id, attempt, ways.way, 'sent' FROM runs,"
        " (SELECT 'webhook' AS way UNION SELECT 'discussion') AS ways"
        " WHERE runs.state IN ('succeeded', 'failed', 'stopped', 'lost')",
    ),
    ("CREATE TABLE ended_sessions (key TEXT PRIMARY KEY, over_at REAL NOT NULL) STRICT, WITHOUT ROWID",),
    (
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
        """
        CREATE TABLE earlier_costs (
            part TEXT NOT NULL,
            run_id TEXT NOT NULL,
            month TEXT NOT NULL,
            seconds REAL NOT NULL,
            usd REAL NOT NULL,
            PRIMARY KEY (part, run_id, month)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    (
        # what the Jobs of a run have cost at the least, by this database's own word before it was brought back
        """
        CREATE TABLE told_jobs (
            run_id TEXT NOT NULL,
            month TEXT NOT NULL,
            seconds REAL NOT NULL,
            usd REAL NOT NULL,
            PRIMARY KEY (run_id, month)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
