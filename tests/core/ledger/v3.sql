BEGIN TRANSACTION;
CREATE TABLE cursors (
    observer TEXT NOT NULL,
    intent   TEXT NOT NULL REFERENCES jobs (intent),
    seq      INTEGER NOT NULL,
    PRIMARY KEY (observer, intent)
) STRICT, WITHOUT ROWID;
INSERT INTO "cursors" VALUES('logger','419ab496-ccdf-45be-960b-a616ff5376fc',1);
CREATE TABLE events (
    intent    TEXT NOT NULL REFERENCES jobs (intent),
    seq       INTEGER NOT NULL,
    native_id TEXT NOT NULL,
    event     TEXT NOT NULL,
    PRIMARY KEY (intent, seq),
    UNIQUE (intent, native_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "events" VALUES('419ab496-ccdf-45be-960b-a616ff5376fc',1,'a','{"seq": 1, "time": "2026-11-23T06:00:00+00:00", "kind": "status", "level": "info", "message": "started", "data": {}}');
INSERT INTO "events" VALUES('419ab496-ccdf-45be-960b-a616ff5376fc',2,'b','{"seq": 2, "time": "2026-11-23T06:00:00+00:00", "kind": "metric", "level": "info", "message": "step 1", "data": {"train_loss": 2.5}}');
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
, step INTEGER NOT NULL DEFAULT 0, total_steps INTEGER) STRICT;
INSERT INTO "jobs" VALUES('419ab496-ccdf-45be-960b-a616ff5376fc','confirmed','torch','tickets-7k2m','identity-of-job','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','torch:smollm2-135m','sft','2026-11-23T06:08:52.889045+00:00','{}','{"rank": 16}','{"team": "support"}','{"pid": 17}',NULL,'f6efb2bb-27a2-41d8-be06-a64da8c40317','running','training','2026-11-23T06:08:52.917295+00:00',NULL,0,NULL);
CREATE TABLE runs (
    id       TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    created  TEXT NOT NULL,
    config   TEXT NOT NULL,
    stage    TEXT NOT NULL DEFAULT 'checked',
    results  TEXT NOT NULL DEFAULT '{}'
) STRICT;
INSERT INTO "runs" VALUES('f6efb2bb-27a2-41d8-be06-a64da8c40317','identity-of-run','2026-11-23T06:08:52.880059+00:00','{"model": "torch:smollm2-135m"}','submitted','{"submitted": {"job": "torch:tickets-7k2m"}}');
CREATE TABLE scratch (
    intent TEXT NOT NULL REFERENCES jobs (intent),
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (intent, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "scratch" VALUES('419ab496-ccdf-45be-960b-a616ff5376fc','upload','["file-1"]');
CREATE INDEX jobs_by_identity ON jobs (identity);
CREATE INDEX jobs_by_run ON jobs (run);
CREATE INDEX runs_by_identity ON runs (identity);
COMMIT;
PRAGMA user_version=3;
