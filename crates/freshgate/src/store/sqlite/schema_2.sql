-- What is left to read of a session that ended: who it was and what happened to it, sealed.
ALTER TABLE session ADD COLUMN note BLOB CHECK (note IS NULL OR revision IS NULL);
