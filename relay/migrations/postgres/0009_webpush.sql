-- The platform webpush.
ALTER TABLE device
    DROP CONSTRAINT device_platform_check,
    ADD CONSTRAINT device_platform_check CHECK (platform IN ('apns', 'fcm', 'websocket', 'webpush'));
