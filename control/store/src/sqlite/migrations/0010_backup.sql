-- What the backup remembers: whether the ledger is fed.
CREATE TABLE backup_state (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Ledger rows that are not yet in a segment of the backup. A row's id is not the order of its commit, so there is no cursor:
-- what has been shipped is taken out by its id.
CREATE TABLE ledger_feed (
    id INTEGER PRIMARY KEY
) STRICT;
CREATE TRIGGER ledger_is_fed AFTER INSERT ON ledger WHEN EXISTS (SELECT 1 FROM backup_state WHERE name = 'feed')
BEGIN INSERT INTO ledger_feed (id) VALUES (NEW.id); END;
