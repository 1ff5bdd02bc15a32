-- What each tenant's files took of the disk over time, in whole byte-days, by its own calendar days. What is less than one
-- byte-day waits in `rest_byte_ms` (bytes times milliseconds, below 86,400,000), so that nothing is lost between two looks.
CREATE TABLE storage_days (
    month        INTEGER NOT NULL,
    tenant       INTEGER NOT NULL REFERENCES tenants (row_id),
    day          INTEGER NOT NULL,
    byte_days    INTEGER NOT NULL,
    rest_byte_ms INTEGER NOT NULL,
    PRIMARY KEY (month, tenant, day)
) STRICT, WITHOUT ROWID;

-- The last look at each tenant's files: until when they are in the sums, and how much they were then.
CREATE TABLE storage_looks (
    tenant INTEGER PRIMARY KEY REFERENCES tenants (row_id),
    bytes  INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL
) STRICT;
