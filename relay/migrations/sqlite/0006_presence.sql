-- The time for which the relay was up, one row a day (days since 1970): the silence of a device counts only while the relay
-- could hear it. `last_minute`: minutes since 1970; `swept`: silent devices were evicted on that day.
CREATE TABLE presence (
    day         INTEGER PRIMARY KEY,
    minutes     INTEGER NOT NULL,
    last_minute INTEGER NOT NULL,
    swept       INTEGER NOT NULL DEFAULT 0
) STRICT;
