"""The tables, as the steps that brought them about. A file of any earlier version is brought up to date."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE tokens (
        name TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, created INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE files (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, bytes INTEGER NOT NULL,
        created INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL, deleted INTEGER
    ) STRICT;
    CREATE INDEX files_of ON files (owner, n);
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, bytes INTEGER NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,
        created INTEGER NOT NULL, expires INTEGER NOT NULL, status TEXT NOT NULL, file TEXT
    ) STRICT;
    CREATE TABLE parts (
        id TEXT PRIMARY KEY, upload TEXT NOT NULL, bytes INTEGER NOT NULL, lines INTEGER NOT NULL,
        created INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX parts_of ON parts (upload);
    CREATE TABLE jobs (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
        created REAL NOT NULL, same TEXT NOT NULL, retry INTEGER NOT NULL,
        model TEXT NOT NULL, base TEXT NOT NULL, tuned TEXT NOT NULL UNIQUE,
        training_file TEXT NOT NULL, validation_file TEXT, request TEXT NOT NULL, metadata TEXT NOT NULL,
        want TEXT NOT NULL DEFAULT '', begun INTEGER NOT NULL DEFAULT 0, ref TEXT, -- codespell:ignore
        status TEXT NOT NULL, over INTEGER NOT NULL DEFAULT 0,
        error TEXT, finished INTEGER, tokens INTEGER, result_file TEXT, removed INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX jobs_of ON jobs (owner, n);
    CREATE INDEX jobs_open ON jobs (over, n);
    CREATE INDEX jobs_same ON jobs (owner, same);
    CREATE TABLE events (
        job TEXT NOT NULL, part INTEGER NOT NULL, seq INTEGER NOT NULL, event TEXT NOT NULL,
        PRIMARY KEY (job, part, seq)
    ) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE jobs ADD COLUMN samples TEXT",
    """
    ALTER TABLE files ADD COLUMN status TEXT NOT NULL DEFAULT 'uploaded';
    ALTER TABLE files ADD COLUMN details TEXT;
    ALTER TABLE files ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE files ADD COLUMN expires INTEGER;
    ALTER TABLE uploads ADD COLUMN file_seconds INTEGER;
    UPDATE files SET status = 'processed' WHERE purpose <> 'fine-tune';
    CREATE INDEX files_unchecked ON files (owner, n) WHERE status = 'uploaded';
    CREATE INDEX files_expiring ON files (expires) WHERE expires IS NOT NULL AND deleted IS NULL;
    CREATE TABLE checks (file TEXT PRIMARY KEY, result TEXT NOT NULL) STRICT;
    CREATE VIEW present AS SELECT * FROM files WHERE deleted IS NULL
        AND (expires IS NULL OR expires > CAST(strftime('%s', 'now') AS INTEGER));
    CREATE VIEW held AS SELECT training_file AS file, id AS job, 'training_file' AS param FROM jobs
        WHERE over = 0 AND ref IS NULL
        UNION ALL SELECT validation_file, id, 'validation_file' FROM jobs
        WHERE over = 0 AND ref IS NULL AND validation_file IS NOT NULL;
    """,
    "ALTER TABLE jobs RENAME COLUMN begun TO started",  # codespell:ignore
)
