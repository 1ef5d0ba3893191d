-- Nobody asks the store which refresh is due. The column stays, for a gate of an earlier version that has the file open goes
-- on writing to it; nobody reads it.
DROP INDEX session_by_refresh_due;

-- Sessions that end, and tombstones that are forgotten, are found apart: neither question passes over what is the other's.
DROP INDEX session_by_forget_at;
CREATE INDEX session_by_end ON session (forget_at) WHERE subject IS NOT NULL;
CREATE INDEX session_by_keep_until ON session (forget_at) WHERE end_reason IS NOT NULL;
