-- Nobody asks the store which refresh is due. The column stays, for a gate of an earlier version that has the file open goes
-- on writing to it; nobody reads it.
DROP INDEX session_by_refresh_due;
