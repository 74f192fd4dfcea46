-- Pools, their lists, and the statuses of each list.

CREATE TABLE pool (
    id             INTEGER PRIMARY KEY,
    name           TEXT    NOT NULL UNIQUE,
    public_url     TEXT    NOT NULL,
    bits           INTEGER NOT NULL,
    size           INTEGER NOT NULL,
    default_status INTEGER NOT NULL,
    final_status   INTEGER,                       -- NULL: every status may be left
    holder         TEXT    NOT NULL DEFAULT '',   -- who may publish
    held_until     INTEGER NOT NULL DEFAULT 0,    -- milliseconds since 1970
    fence          INTEGER NOT NULL DEFAULT 0     -- grows with each new holder
) STRICT;

CREATE TABLE list (
    id                INTEGER PRIMARY KEY,
    uuid              TEXT    NOT NULL UNIQUE,
    pool              INTEGER NOT NULL REFERENCES pool (id),
    permutation_key   BLOB,                        -- NULL once the list is sealed
    leased            INTEGER NOT NULL DEFAULT 0,  -- positions below it are handed out or skipped, for ever
    leases            INTEGER NOT NULL DEFAULT 0,  -- grows with each lease and each return, so neither can be mistaken
    open              INTEGER NOT NULL DEFAULT 1,  -- 0: full or sealed
    version           INTEGER NOT NULL DEFAULT 0,
    journaled         INTEGER NOT NULL DEFAULT 0,  -- seq of its latest journal row
    folded            INTEGER NOT NULL DEFAULT 0,  -- journal rows up to here are in the chunks
    dirty_since       INTEGER,                     -- milliseconds since 1970; NULL: nothing unpublished
    published_version INTEGER,                     -- NULL: never published
    published_seq     INTEGER NOT NULL DEFAULT 0,  -- journal rows up to here are in the published files
    published_iat     INTEGER NOT NULL DEFAULT 0,  -- seconds since 1970
    resign_at         INTEGER NOT NULL DEFAULT 0   -- seconds since 1970; 0: at once
) STRICT;

-- Each answers "which lists need something" at a cost that follows the answer, not the number of lists.
CREATE INDEX list_open  ON list (pool) WHERE open = 1;
CREATE INDEX list_dirty ON list (pool, dirty_since) WHERE dirty_since IS NOT NULL;
CREATE INDEX list_due   ON list (pool, resign_at);

-- Every change ever made, appended in the transaction that answers it: the truth, and the audit trail.
CREATE TABLE journal (
    list    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    idx     INTEGER NOT NULL,
    value   INTEGER NOT NULL,
    version INTEGER NOT NULL,  -- of the list, after this change
    at      INTEGER NOT NULL,  -- milliseconds since 1970
    PRIMARY KEY (list, seq)
) STRICT, WITHOUT ROWID;

-- The packed array in pieces of 4096 bytes, as of `list.folded`. A missing piece holds only default statuses.
CREATE TABLE chunk (
    list  INTEGER NOT NULL,
    n     INTEGER NOT NULL,
    bytes BLOB    NOT NULL,
    PRIMARY KEY (list, n)
) STRICT, WITHOUT ROWID;
