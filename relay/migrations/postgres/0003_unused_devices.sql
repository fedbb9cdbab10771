-- Registrations to which no server has sent a push: any client can make them, so their number is limited. Those from
-- before this migration count as used.
ALTER TABLE device ADD COLUMN used boolean NOT NULL DEFAULT true;
CREATE INDEX device_unused ON device (seen_at) WHERE NOT used;
