-- Registrations to which no server has sent a push: any client can make them, so their number is limited. Those from
-- before this migration count as used.
ALTER TABLE device ADD COLUMN used INTEGER NOT NULL DEFAULT 1;
CREATE INDEX device_unused ON device (seen_at) WHERE NOT used;
