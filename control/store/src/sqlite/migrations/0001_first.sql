CREATE TABLE owners (
    epoch         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at_ms INTEGER NOT NULL
) STRICT;

-- The row of a deleted tenant stays, so that its id is never reused and its ledger keeps a name.
CREATE TABLE tenants (
    row_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    status        TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
    timezone      TEXT NOT NULL,
    quota         TEXT NOT NULL,
    models        TEXT,
    metadata      TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER
) STRICT;

CREATE TABLE tokens (
    row_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    name          TEXT NOT NULL,
    kid           TEXT NOT NULL,
    hash          BLOB NOT NULL,
    scopes        TEXT NOT NULL,
    models        TEXT,
    allowed_ips   TEXT,
    version       INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    rotated_from  TEXT
) STRICT;
CREATE INDEX tokens_of_tenant ON tokens (tenant, row_id);

-- Model and upstream names, so that a reservation of fixed size can refer to them.
CREATE TABLE names (
    row_id INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE rate_cards (
    version           INTEGER PRIMARY KEY AUTOINCREMENT,
    effective_from_ms INTEGER NOT NULL,
    created_at_ms     INTEGER NOT NULL,
    models            TEXT NOT NULL
) STRICT;

CREATE TABLE ledger (
    id                    INTEGER PRIMARY KEY,
    tenant                INTEGER NOT NULL REFERENCES tenants (row_id),
    token                 INTEGER NOT NULL,
    model                 INTEGER NOT NULL,
    upstream              INTEGER NOT NULL,
    rate_card             INTEGER NOT NULL,
    request_id            TEXT NOT NULL,
    attempt               INTEGER NOT NULL,
    outcome               TEXT NOT NULL CHECK (outcome IN ('complete', 'partial', 'void', 'recovered', 'abandoned')),
    http_status           INTEGER NOT NULL,
    estimated             INTEGER NOT NULL CHECK (estimated IN (0, 1)),
    stream                INTEGER NOT NULL CHECK (stream IN (0, 1)),
    admitted_at_ms        INTEGER NOT NULL,
    day                   INTEGER NOT NULL,
    month                 INTEGER NOT NULL,
    first_byte_ms         INTEGER NOT NULL,
    duration_ms           INTEGER NOT NULL,
    reserved_nanos        INTEGER NOT NULL,
    cost_nanos            INTEGER NOT NULL,
    held_nanos            INTEGER NOT NULL,
    reserved_tokens       INTEGER NOT NULL,
    held_tokens           INTEGER NOT NULL,
    input_tokens          INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    cache_write_tokens    INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    reasoning_tokens      INTEGER NOT NULL,
    input_audio_tokens    INTEGER NOT NULL,
    output_audio_tokens   INTEGER NOT NULL,
    tool_calls            INTEGER NOT NULL
) STRICT;
CREATE INDEX ledger_of_tenant ON ledger (tenant, admitted_at_ms);

-- What each calendar window of a tenant holds; the sums of its ledger rows, kept in the same transaction.
CREATE TABLE windows (
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    kind          TEXT NOT NULL CHECK (kind IN ('day', 'month')),
    number        INTEGER NOT NULL,
    posted_nanos  INTEGER NOT NULL,
    held_nanos    INTEGER NOT NULL,
    posted_tokens INTEGER NOT NULL,
    held_tokens   INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, number)
) STRICT, WITHOUT ROWID;

-- Answers to admin calls that carried an Idempotency-Key; the body is encrypted, since it may hold a new secret.
CREATE TABLE idempotency (
    key           TEXT PRIMARY KEY,
    request_hash  BLOB NOT NULL,
    status        INTEGER NOT NULL,
    answer        BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (created_at_ms);

-- Every state change, written in the transaction that makes it.
CREATE TABLE audit_outbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms      INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id   TEXT NOT NULL,
    ip         TEXT,
    request_id TEXT,
    action     TEXT NOT NULL,
    tenant     TEXT,
    target     TEXT,
    detail     TEXT NOT NULL
) STRICT;

CREATE TRIGGER ledger_is_append_only_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger rows never change: post a compensating row'); END;
CREATE TRIGGER ledger_is_append_only_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger rows never change: post a compensating row'); END;
CREATE TRIGGER rate_cards_are_immutable_update BEFORE UPDATE ON rate_cards
BEGIN SELECT RAISE(ABORT, 'rate cards never change: add a version'); END;
CREATE TRIGGER rate_cards_are_immutable_delete BEFORE DELETE ON rate_cards
BEGIN SELECT RAISE(ABORT, 'rate cards never change: add a version'); END;
