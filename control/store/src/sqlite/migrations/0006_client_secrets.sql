-- What client secrets with a cap have used: the sums of their ledger rows, kept in the same transaction. The secrets
-- themselves are signed and stored nowhere.
CREATE TABLE client_secrets (
    key           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    expires_at_ms INTEGER NOT NULL,
    requests      INTEGER NOT NULL DEFAULT 0,
    posted_nanos  INTEGER NOT NULL DEFAULT 0,
    held_nanos    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX client_secrets_by_age ON client_secrets (expires_at_ms);

-- Origins of pages that a live client secret is bound to.
CREATE TABLE client_secret_origins (
    origin        TEXT PRIMARY KEY,
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
