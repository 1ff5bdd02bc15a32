-- Whom and what a request was for. A key is made of what the label says, so rows may refer to it before it is stored.
CREATE TABLE labels (
    key  INTEGER PRIMARY KEY,
    user TEXT NOT NULL
) STRICT;

CREATE TABLE label_tags (
    key INTEGER NOT NULL REFERENCES labels (key),
    tag TEXT NOT NULL,
    PRIMARY KEY (key, tag)
) STRICT, WITHOUT ROWID;

-- Parts per million that are added to the cost of what is admitted from now on.
ALTER TABLE tenants ADD COLUMN markup_ppm INTEGER NOT NULL DEFAULT 0;

-- Where a version of the prices comes from: an operator's own ones stand over imported ones.
ALTER TABLE rate_cards ADD COLUMN source TEXT NOT NULL DEFAULT 'operator' CHECK (source IN ('operator', 'import'));

-- Words are compared one by one: for a longer `IN (...)` SQLite builds a table anew with every row that it checks.
CREATE TABLE ledger_2 (
    id                    INTEGER PRIMARY KEY,
    tenant                INTEGER NOT NULL REFERENCES tenants (row_id),
    token                 INTEGER NOT NULL,
    model                 INTEGER NOT NULL,
    upstream              INTEGER NOT NULL,
    rate_card             INTEGER NOT NULL,
    label                 INTEGER NOT NULL,
    request_id            TEXT NOT NULL,
    attempt               INTEGER NOT NULL,
    outcome               TEXT NOT NULL CHECK (
        outcome = 'complete' OR outcome = 'partial' OR outcome = 'void' OR outcome = 'recovered' OR
        outcome = 'abandoned' OR outcome = 'credit' OR outcome = 'resolved'
    ),
    http_status           INTEGER NOT NULL,
    estimated             INTEGER NOT NULL CHECK (estimated IN (0, 1)),
    stream                INTEGER NOT NULL CHECK (stream IN (0, 1)),
    service_tier          TEXT NOT NULL CHECK (
        service_tier = 'standard' OR service_tier = 'batch' OR service_tier = 'flex' OR service_tier = 'priority'
    ),
    admitted_at_ms        INTEGER NOT NULL,
    day                   INTEGER NOT NULL,
    month                 INTEGER NOT NULL,
    first_byte_ms         INTEGER NOT NULL,
    duration_ms           INTEGER NOT NULL,
    reserved_nanos        INTEGER NOT NULL,
    cost_nanos            INTEGER NOT NULL,
    markup_ppm            INTEGER NOT NULL,
    markup_nanos          INTEGER NOT NULL,
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
    tool_calls            INTEGER NOT NULL,
    input_images          INTEGER NOT NULL,
    output_images         INTEGER NOT NULL,
    input_characters      INTEGER NOT NULL,
    output_characters     INTEGER NOT NULL,
    input_ms              INTEGER NOT NULL,
    output_ms             INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_2
SELECT id, tenant, token, model, upstream, rate_card, 0, request_id, attempt, outcome, http_status, estimated, stream, 'standard',
    admitted_at_ms, day, month, first_byte_ms, duration_ms, reserved_nanos, cost_nanos, 0, 0, held_nanos, reserved_tokens,
    held_tokens, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
    input_audio_tokens, output_audio_tokens, tool_calls, 0, 0, 0, 0, 0, 0
FROM ledger ORDER BY id;
DROP TABLE ledger;
ALTER TABLE ledger_2 RENAME TO ledger;
CREATE INDEX ledger_of_tenant ON ledger (tenant, admitted_at_ms);
-- Rows of attempts that died: few, whatever else there is.
CREATE INDEX ledger_held ON ledger (tenant) WHERE held_nanos > 0 OR held_tokens > 0;

-- Why a compensating row of the ledger was posted, and which row's hold it ends: at most one for each.
CREATE TABLE adjustments (
    id       INTEGER PRIMARY KEY,
    resolves INTEGER UNIQUE,
    reason   TEXT NOT NULL
) STRICT;

-- The sums of the ledger's rows by day and key, kept in the same transaction: what reports are made of, and what stays of
-- a month after its rows have been archived.
CREATE TABLE usage_days (
    month                 INTEGER NOT NULL,
    tenant                INTEGER NOT NULL REFERENCES tenants (row_id),
    day                   INTEGER NOT NULL,
    model                 INTEGER NOT NULL,
    upstream              INTEGER NOT NULL,
    token                 INTEGER NOT NULL,
    rate_card             INTEGER NOT NULL,
    label                 INTEGER NOT NULL,
    requests              INTEGER NOT NULL,
    attempts              INTEGER NOT NULL,
    estimated_rows        INTEGER NOT NULL,
    input_tokens          INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    cache_write_tokens    INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    reasoning_tokens      INTEGER NOT NULL,
    input_audio_tokens    INTEGER NOT NULL,
    output_audio_tokens   INTEGER NOT NULL,
    tool_calls            INTEGER NOT NULL,
    input_images          INTEGER NOT NULL,
    output_images         INTEGER NOT NULL,
    input_characters      INTEGER NOT NULL,
    output_characters     INTEGER NOT NULL,
    input_ms              INTEGER NOT NULL,
    output_ms             INTEGER NOT NULL,
    cost_nanos            INTEGER NOT NULL,
    markup_nanos          INTEGER NOT NULL,
    held_nanos            INTEGER NOT NULL,
    PRIMARY KEY (month, tenant, day, model, upstream, token, rate_card, label)
) STRICT, WITHOUT ROWID;
INSERT INTO usage_days
SELECT month, tenant, day, model, upstream, token, rate_card, label, sum(attempt = 0), count(*), sum(estimated),
    sum(input_tokens), sum(cache_read_tokens), sum(cache_write_tokens), sum(cache_write_1h_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(input_audio_tokens), sum(output_audio_tokens), sum(tool_calls), 0, 0, 0, 0, 0, 0, sum(cost_nanos),
    0, sum(held_nanos)
FROM ledger GROUP BY month, tenant, day, model, upstream, token, rate_card, label;

-- Rows of a month that have been moved to a compressed file, up to `last_id`; only those may leave the ledger.
CREATE TABLE archives (
    month         INTEGER NOT NULL,
    part          INTEGER NOT NULL,
    last_id       INTEGER NOT NULL,
    file          TEXT NOT NULL,
    sha256        TEXT NOT NULL,
    rows          INTEGER NOT NULL,
    cost_nanos    INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (month, part)
) STRICT, WITHOUT ROWID;

-- Archives whose rows have all left the ledger.
CREATE TABLE archives_cleared (
    month INTEGER NOT NULL,
    part  INTEGER NOT NULL,
    PRIMARY KEY (month, part)
) STRICT, WITHOUT ROWID;

-- Thresholds of a budget that a window has passed: each is told once.
CREATE TABLE budget_alerts (
    tenant  INTEGER NOT NULL REFERENCES tenants (row_id),
    bucket  TEXT NOT NULL,
    number  INTEGER NOT NULL,
    percent INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (tenant, bucket, number, percent)
) STRICT, WITHOUT ROWID;

-- Webhooks to be delivered, written in the transaction of what they tell.
CREATE TABLE webhook_outbox (
    id                 TEXT PRIMARY KEY,
    event              TEXT NOT NULL,
    tenant             TEXT,
    payload            TEXT NOT NULL,
    created_at_ms      INTEGER NOT NULL,
    attempts           INTEGER NOT NULL DEFAULT 0,
    next_attempt_at_ms INTEGER,
    delivered_at_ms    INTEGER,
    last_error         TEXT
) STRICT;
CREATE INDEX webhooks_due ON webhook_outbox (next_attempt_at_ms) WHERE next_attempt_at_ms IS NOT NULL;
CREATE INDEX webhooks_done ON webhook_outbox (created_at_ms) WHERE next_attempt_at_ms IS NULL;

-- Meter events for Stripe: written before they are sent, so that a second try has the first one's identifier.
CREATE TABLE stripe_events (
    identifier    TEXT PRIMARY KEY,
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    day           INTEGER NOT NULL,
    meter         TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    customer      TEXT NOT NULL,
    -- What the meter counts; one meter counts one thing for ever.
    measure       TEXT NOT NULL,
    value         INTEGER NOT NULL,
    event_at_ms   INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    -- Since when Stripe may have it without our knowing.
    tried_at_ms   INTEGER,
    sent_at_ms    INTEGER,
    UNIQUE (tenant, day, meter, seq)
) STRICT;
CREATE INDEX stripe_events_unsent ON stripe_events (sent_at_ms) WHERE sent_at_ms IS NULL;

CREATE TRIGGER ledger_is_append_only_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger rows never change: post a compensating row'); END;
CREATE TRIGGER ledger_is_append_only_delete BEFORE DELETE ON ledger
WHEN NOT EXISTS (SELECT 1 FROM archives WHERE month = OLD.month AND last_id >= OLD.id)
BEGIN SELECT RAISE(ABORT, 'ledger rows never change: post a compensating row'); END;
CREATE TRIGGER archives_are_immutable_update BEFORE UPDATE ON archives
BEGIN SELECT RAISE(ABORT, 'archives never change'); END;
CREATE TRIGGER archives_are_immutable_delete BEFORE DELETE ON archives
BEGIN SELECT RAISE(ABORT, 'archives never change'); END;
CREATE TRIGGER adjustments_are_immutable_update BEFORE UPDATE ON adjustments
BEGIN SELECT RAISE(ABORT, 'adjustments never change: post another'); END;
CREATE TRIGGER adjustments_are_immutable_delete BEFORE DELETE ON adjustments
BEGIN SELECT RAISE(ABORT, 'adjustments never change: post another'); END;
