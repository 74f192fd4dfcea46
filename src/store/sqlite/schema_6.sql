-- The bytes that the answers of a pool count for, by the end of the group in which they are counted. Answers of earlier versions are
-- not counted.

CREATE TABLE answer_bytes (
    pool  TEXT    NOT NULL,
    until INTEGER NOT NULL,  -- milliseconds since 1970
    bytes INTEGER NOT NULL,
    PRIMARY KEY (pool, until)
) STRICT, WITHOUT ROWID;

-- Many changes of one list in one step are one row of the journal from here on, with -2 as its index; the changes are here.

CREATE TABLE many (
    list    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,  -- of its row in the journal
    entries BLOB    NOT NULL,  -- for each change four bytes of the index, little-endian, and one of the value
    PRIMARY KEY (list, seq)
) STRICT;
