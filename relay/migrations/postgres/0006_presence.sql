-- The time for which a relay was up, one row a day (days since 1970): the silence of a device counts only while a relay could
-- hear it. `last_minute` (minutes since 1970) makes several relays on one database count a minute once; `swept`: one of them
-- has evicted silent devices on that day.
CREATE TABLE presence (
    day         bigint PRIMARY KEY,
    minutes     integer NOT NULL,
    last_minute bigint NOT NULL,
    swept       boolean NOT NULL DEFAULT false
);
