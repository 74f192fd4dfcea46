-- How often the list was made due at once, by its retirement or for files that were wrong: a publication that began before
-- does not end that.

ALTER TABLE list ADD COLUMN due_mark INTEGER NOT NULL DEFAULT 0;
