-- The ledger's rows by tenant and time. A table, not an index of the ledger: the rows of a batch are of all tenants in turn, an
-- index is changed with each of them, on another page each time; here they are put in sorted, each page once.
CREATE TABLE ledger_by_tenant (
    tenant         INTEGER NOT NULL,
    admitted_at_ms INTEGER NOT NULL,
    id             INTEGER NOT NULL,
    PRIMARY KEY (tenant, admitted_at_ms, id)
) STRICT, WITHOUT ROWID;
INSERT INTO ledger_by_tenant SELECT tenant, admitted_at_ms, id FROM ledger ORDER BY tenant, admitted_at_ms, id;
DROP INDEX ledger_of_tenant;
CREATE TRIGGER ledger_by_tenant_follows AFTER DELETE ON ledger
BEGIN
    DELETE FROM ledger_by_tenant WHERE tenant = OLD.tenant AND admitted_at_ms = OLD.admitted_at_ms AND id = OLD.id;
END;

-- Whoever inserts rows feeds the backup, where that is on: a trigger asked anew with each row, and made each its own savepoint.
DROP TRIGGER ledger_is_fed;
