-- A row of the outbox becomes one line of the audit log. `line` is its number there, `prev` and `mac` chain it to the line before;
-- all three are null until the line is on the disk.
ALTER TABLE audit_outbox ADD COLUMN outcome TEXT NOT NULL DEFAULT 'ok' CHECK (outcome IN ('ok', 'denied', 'failed'));
ALTER TABLE audit_outbox ADD COLUMN line INTEGER;
ALTER TABLE audit_outbox ADD COLUMN prev TEXT;
ALTER TABLE audit_outbox ADD COLUMN mac TEXT;

CREATE UNIQUE INDEX audit_by_line ON audit_outbox (line);
CREATE INDEX audit_by_tenant ON audit_outbox (tenant, line);
CREATE INDEX audit_by_action ON audit_outbox (action, line);
CREATE INDEX audit_without_line ON audit_outbox (seq) WHERE line IS NULL;
