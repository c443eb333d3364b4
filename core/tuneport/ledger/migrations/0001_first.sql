-- A job is one training that was started from this machine. Its row is written, as an intent, before anything is asked of
-- a backend, and stays when the job is forgotten, so that no name is ever given twice.
CREATE TABLE jobs (
    intent       TEXT PRIMARY KEY,
    intent_state TEXT NOT NULL DEFAULT 'intended'
                 CHECK (intent_state IN ('intended', 'sent', 'confirmed', 'unconfirmed', 'failed')),
    backend      TEXT NOT NULL,
    name         TEXT NOT NULL UNIQUE,
    identity     TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    base         TEXT NOT NULL,
    method       TEXT NOT NULL,
    created      TEXT NOT NULL,
    config       TEXT NOT NULL DEFAULT '{}',
    settings     TEXT NOT NULL DEFAULT '{}',
    metadata     TEXT NOT NULL DEFAULT '{}',
    remote       TEXT NOT NULL DEFAULT '{}',
    endpoint     TEXT,
    run          TEXT REFERENCES runs (id),
    status       TEXT NOT NULL DEFAULT 'queued',
    native       TEXT NOT NULL DEFAULT '',
    status_time  TEXT NOT NULL,
    forgotten    TEXT
) STRICT;
CREATE INDEX jobs_by_identity ON jobs (identity);
CREATE INDEX jobs_by_run ON jobs (run);

CREATE TABLE runs (
    id       TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    created  TEXT NOT NULL,
    config   TEXT NOT NULL,
    stage    TEXT NOT NULL DEFAULT 'checked',
    results  TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX runs_by_identity ON runs (identity);

-- Events of jobs whose backend does not number them itself: `native_id` is the backend's own id, `seq` is given once.
CREATE TABLE events (
    intent    TEXT NOT NULL REFERENCES jobs (intent),
    seq       INTEGER NOT NULL,
    native_id TEXT NOT NULL,
    event     TEXT NOT NULL,
    PRIMARY KEY (intent, seq),
    UNIQUE (intent, native_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    observer TEXT NOT NULL,
    intent   TEXT NOT NULL REFERENCES jobs (intent),
    seq      INTEGER NOT NULL,
    PRIMARY KEY (observer, intent)
) STRICT, WITHOUT ROWID;

CREATE TABLE scratch (
    intent TEXT NOT NULL REFERENCES jobs (intent),
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (intent, key)
) STRICT, WITHOUT ROWID;
