-- Lists on their way to one status, a share of their entries at each beat. A row goes with the last share.

CREATE TABLE spread (
    list  INTEGER PRIMARY KEY REFERENCES list (id),
    value INTEGER NOT NULL,
    beats INTEGER NOT NULL,
    key   BLOB    NOT NULL,  -- of the order in which the entries get it
    done  INTEGER NOT NULL   -- so many entries, in that order, have it
) STRICT;
