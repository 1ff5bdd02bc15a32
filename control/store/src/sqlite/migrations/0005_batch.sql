-- Batches at providers: what is held for each until it ends, and everything that its bill is made with.
CREATE TABLE batches (
    -- The event id of the ledger's row that holds what was reserved.
    hold            INTEGER PRIMARY KEY,
    -- The provider's id; NULL while it is not known whether the provider has the batch.
    id              TEXT UNIQUE,
    tenant          INTEGER NOT NULL REFERENCES tenants (row_id),
    upstream        TEXT NOT NULL,
    own_key         INTEGER NOT NULL CHECK (own_key IN (0, 1)),
    input_file      TEXT NOT NULL,
    -- The file that the provider runs, made for this batch alone.
    sent_file       TEXT NOT NULL UNIQUE,
    token           INTEGER NOT NULL,
    model           INTEGER NOT NULL,
    upstream_key    INTEGER NOT NULL,
    rate_card       INTEGER NOT NULL,
    label           INTEGER NOT NULL,
    request_id      TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    admitted_at_ms  INTEGER NOT NULL,
    day             INTEGER NOT NULL,
    month           INTEGER NOT NULL,
    reserved_nanos  INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL,
    markup_ppm      INTEGER NOT NULL,
    ended_at_ms     INTEGER
) STRICT;
CREATE INDEX batches_that_run ON batches (month) WHERE ended_at_ms IS NULL;
