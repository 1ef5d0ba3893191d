-- What has happened and must be known for a while, under a hash: that a logout token was used, that a user signed out.
CREATE TABLE mark (
    name      BLOB NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL,
    forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX mark_by_forget_at ON mark (forget_at);
