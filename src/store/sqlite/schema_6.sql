-- The bytes that the answers of a pool count for, by the end of the group in which they are counted. Answers of earlier versions are
-- not counted.

CREATE TABLE answer_bytes (
    pool  TEXT    NOT NULL,
    until INTEGER NOT NULL,  -- milliseconds since 1970
    bytes INTEGER NOT NULL,
    PRIMARY KEY (pool, until)
) STRICT, WITHOUT ROWID;
