-- Which instance gives a list's references. Only it leases from the list, so only its high-water mark can be ahead of a
-- counter that was lost. Lists of earlier versions have no marks: they are sealed, stay published and can be updated.

ALTER TABLE list ADD COLUMN owner TEXT NOT NULL DEFAULT 'none';

UPDATE list SET open = 0, permutation_key = NULL;

-- When positions were last leased, in milliseconds since 1970: no reference of the list is younger.
ALTER TABLE list ADD COLUMN leased_at INTEGER;

-- 1: all its credentials have expired; it is published no more and takes no updates.
ALTER TABLE list ADD COLUMN retired INTEGER NOT NULL DEFAULT 0;
