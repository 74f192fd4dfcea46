-- A list that was imported keeps its name, which need not be a UUID.

ALTER TABLE list ALTER COLUMN uuid TYPE text;
