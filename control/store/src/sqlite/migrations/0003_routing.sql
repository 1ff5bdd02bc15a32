-- Tenants' own keys at providers, sealed: the database can't read them.
CREATE TABLE provider_keys (
    tenant        INTEGER NOT NULL REFERENCES tenants (row_id),
    upstream      TEXT NOT NULL,
    id            TEXT NOT NULL UNIQUE,
    sealed        BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, upstream)
) STRICT, WITHOUT ROWID;

-- Names of a tenant's own for models, as JSON; NULL is none.
ALTER TABLE tenants ADD COLUMN aliases TEXT;
