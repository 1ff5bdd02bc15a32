-- Seconds that code ran in the sandbox, in each calendar window of a tenant.
ALTER TABLE windows ADD COLUMN posted_sandbox_seconds INTEGER NOT NULL DEFAULT 0;
