-- What tenants have in providers' accounts, which they share: whose each thing is, and what was last told of it.
CREATE TABLE upstream_objects (
    row_id        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    kind          TEXT NOT NULL CHECK (kind = 'file' OR kind = 'batch'),
    purpose       TEXT NOT NULL,
    upstream      TEXT NOT NULL,
    -- Whether it is in the account of the tenant's own key there.
    own_key       INTEGER NOT NULL CHECK (own_key IN (0, 1)),
    created_at_ms INTEGER NOT NULL,
    body          TEXT NOT NULL
) STRICT;
CREATE INDEX upstream_objects_of_tenant ON upstream_objects (tenant, kind, row_id);
