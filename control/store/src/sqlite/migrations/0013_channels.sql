-- Links by which a channel is paired: each is good for ten minutes, once. The secret half of its code is a keyed hash here.
CREATE TABLE channel_pairings (
    id            TEXT PRIMARY KEY,
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    kind          TEXT NOT NULL,
    agent         TEXT NOT NULL,
    policy        TEXT NOT NULL,
    kid           TEXT NOT NULL,
    hash          BLOB NOT NULL,
    tries         INTEGER NOT NULL DEFAULT 0,
    expires_at_ms INTEGER NOT NULL,
    used_at_ms    INTEGER
) STRICT, WITHOUT ROWID;

-- Channels that are paired. `identity` is the provider's word for whose account it is: none is two tenants'.
CREATE TABLE channels (
    id             TEXT PRIMARY KEY,
    tenant         INTEGER NOT NULL REFERENCES tenants (row_id),
    kind           TEXT NOT NULL,
    identity       TEXT NOT NULL,
    label          TEXT NOT NULL,
    agent          TEXT NOT NULL,
    policy         TEXT NOT NULL,
    sealed         BLOB NOT NULL,
    disabled       TEXT,
    created_at_ms  INTEGER NOT NULL,
    UNIQUE (kind, identity)
) STRICT, WITHOUT ROWID;
CREATE INDEX channels_of_tenant ON channels (tenant, created_at_ms);

-- Who may speak to the agent behind a channel.
CREATE TABLE channel_senders (
    channel        TEXT NOT NULL,
    sender         TEXT NOT NULL,
    tenant         INTEGER NOT NULL REFERENCES tenants (row_id),
    label          TEXT NOT NULL,
    approved_at_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, sender)
) STRICT, WITHOUT ROWID;

-- Who would like to; `code` is what the operator is told by them.
CREATE TABLE channel_requests (
    channel       TEXT NOT NULL,
    sender        TEXT NOT NULL,
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    label         TEXT NOT NULL,
    code          TEXT NOT NULL,
    session       TEXT NOT NULL,
    reply_to      TEXT NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, sender)
) STRICT, WITHOUT ROWID;

-- Events of providers that were taken, so that none is taken twice.
CREATE TABLE channel_seen (
    channel    TEXT NOT NULL,
    event      TEXT NOT NULL,
    tenant     INTEGER NOT NULL REFERENCES tenants (row_id),
    seen_at_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX channel_seen_by_age ON channel_seen (seen_at_ms);

-- Messages that wait for their turn. A row goes in the transaction that queues its answer.
CREATE TABLE channel_inbox (
    row_id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant         INTEGER NOT NULL REFERENCES tenants (row_id),
    channel        TEXT NOT NULL,
    session        TEXT NOT NULL,
    text           TEXT NOT NULL,
    reply_to       TEXT NOT NULL,
    attempts       INTEGER NOT NULL DEFAULT 0,
    received_at_ms INTEGER NOT NULL,
    due_at_ms      INTEGER NOT NULL
) STRICT;
CREATE INDEX channel_inbox_by_session ON channel_inbox (channel, session, row_id);

-- Answers that are to be delivered; `due_at_ms` is absent where one was given up.
CREATE TABLE channel_outbox (
    row_id         INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    tenant         INTEGER NOT NULL REFERENCES tenants (row_id),
    channel        TEXT NOT NULL,
    session        TEXT NOT NULL,
    text           TEXT NOT NULL,
    reply_to       TEXT NOT NULL,
    parts_sent     INTEGER NOT NULL DEFAULT 0,
    attempts       INTEGER NOT NULL DEFAULT 0,
    received_at_ms INTEGER NOT NULL,
    made_at_ms     INTEGER NOT NULL,
    due_at_ms      INTEGER,
    last_error     TEXT
) STRICT;
CREATE INDEX channel_outbox_by_session ON channel_outbox (channel, session, row_id) WHERE due_at_ms IS NOT NULL;
