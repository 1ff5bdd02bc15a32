-- What a tenant prefers, as JSON; NULL is nothing.
ALTER TABLE tenants ADD COLUMN overlay TEXT;
