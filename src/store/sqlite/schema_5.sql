-- How often the list was made due at once, by its retirement or because files were wrong. A publication that began earlier
-- leaves the list due.

ALTER TABLE list ADD COLUMN due_mark INTEGER NOT NULL DEFAULT 0;
