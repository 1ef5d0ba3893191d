-- A session or, once it has ended, its tombstone: one row under one key, so that no key can have both.
--
-- An ordinary table with an index on the key, not WITHOUT ROWID: in a b-tree by key, records of some KiB would leave room
-- for few keys per page, and a read took three times as long (100,000 records of 1.5 and 4 KiB). `sealed` comes last, so
-- that the other columns can be read without its overflow pages.
CREATE TABLE session (
    key              BLOB NOT NULL PRIMARY KEY,
    forget_at        INTEGER NOT NULL,  -- live: ends_at; ended: keep_until. All times: Unix milliseconds
    revision         INTEGER,           -- NULL once it has ended
    subject          BLOB,
    provider_session BLOB,
    refresh_due      INTEGER,
    end_reason       TEXT,              -- NULL while it lives
    ended_at         INTEGER,
    sealed           BLOB,
    CHECK (CASE WHEN revision IS NULL
        THEN end_reason IS NOT NULL AND ended_at IS NOT NULL
            AND subject IS NULL AND provider_session IS NULL AND refresh_due IS NULL AND sealed IS NULL
        ELSE subject IS NOT NULL AND sealed IS NOT NULL AND end_reason IS NULL AND ended_at IS NULL
    END)
) STRICT;

-- Each holds the key as well, so that its question is answered from the index alone.
CREATE INDEX session_by_subject ON session (subject, key) WHERE subject IS NOT NULL;
CREATE INDEX session_by_provider_session ON session (provider_session, key) WHERE provider_session IS NOT NULL;
CREATE INDEX session_by_refresh_due ON session (refresh_due, key) WHERE refresh_due IS NOT NULL;
CREATE INDEX session_by_forget_at ON session (forget_at);

-- The last writes, in order. Kept by triggers, so that a write and its mention here are one statement: there is none
-- without the other, whoever makes it.
CREATE TABLE change (
    position INTEGER PRIMARY KEY,
    key      BLOB NOT NULL,
    revision INTEGER                    -- NULL: it ended
) STRICT;

CREATE TRIGGER session_inserted AFTER INSERT ON session BEGIN
    INSERT INTO change (key, revision) VALUES (new.key, new.revision);
END;

CREATE TRIGGER session_updated AFTER UPDATE OF revision ON session BEGIN
    INSERT INTO change (key, revision) VALUES (new.key, new.revision);
END;
