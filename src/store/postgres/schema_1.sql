-- Pools, their lists, and the statuses of each list. All numbers are bigint; times are milliseconds since 1970, unless noted.

CREATE TABLE store (
    one        boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    schema     bigint  NOT NULL,              -- how many migrations are applied
    unfinished boolean NOT NULL DEFAULT false -- whether it is a copy that was begun and not finished
);
INSERT INTO store (schema) VALUES (0);

CREATE TABLE pool (
    id             bigint NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name           text   NOT NULL UNIQUE,
    public_url     text   NOT NULL,
    bits           bigint NOT NULL,
    size           bigint NOT NULL,
    default_status bigint NOT NULL,
    final_status   bigint,                    -- NULL: every status may be left
    in_use         bigint NOT NULL DEFAULT 0  -- its lists that are not retired
);

-- Who publishes each pool. Apart from the pool, so that a lease waits for no new list.
CREATE TABLE publisher (
    pool       bigint NOT NULL PRIMARY KEY REFERENCES pool (id),
    holder     text   NOT NULL DEFAULT '',
    held_until bigint NOT NULL DEFAULT 0,
    fence      bigint NOT NULL DEFAULT 0      -- grows with each new holder
);

CREATE TABLE list (
    id                bigint  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    uuid              text    NOT NULL UNIQUE,         -- a UUID, or the name that an imported list has
    pool              bigint  NOT NULL REFERENCES pool (id),
    permutation_key   bytea,                           -- NULL once the list is sealed
    owner             text    NOT NULL,                -- the instance that hands out its references
    leased            bigint  NOT NULL DEFAULT 0,      -- positions below it are handed out or skipped, for ever
    leases            bigint  NOT NULL DEFAULT 0,      -- grows with each lease and each return, so neither can be mistaken
    leased_at         bigint,
    open              boolean NOT NULL DEFAULT true,   -- false: full or sealed
    retired           boolean NOT NULL DEFAULT false,
    filled            bigint  NOT NULL,                -- the status of every entry of a missing chunk
    version           bigint  NOT NULL DEFAULT 0,
    dirty_since       bigint,                          -- NULL: nothing unpublished
    published_version bigint,                          -- NULL: never published
    published_iat     bigint  NOT NULL DEFAULT 0,      -- seconds since 1970
    resign_at         bigint  NOT NULL DEFAULT 0,      -- seconds since 1970; 0: at once
    due_mark          bigint  NOT NULL DEFAULT 0       -- how often it was made due at once
) WITH (fillfactor = 70);

-- Each answers "which lists need something" at a cost that follows the answer, not the number of lists.
CREATE INDEX list_open  ON list (pool, owner, id) WHERE open;
CREATE INDEX list_dirty ON list (pool, dirty_since) WHERE dirty_since IS NOT NULL;
CREATE INDEX list_due   ON list (pool, resign_at);

-- The packed array in pieces of 1024 bytes: small, so that one update rewrites little; uncompressed, so that it stays in its page.
CREATE TABLE chunk (
    list  bigint NOT NULL,
    n     bigint NOT NULL,
    bytes bytea  NOT NULL,
    PRIMARY KEY (list, n)
) WITH (fillfactor = 60);
ALTER TABLE chunk ALTER COLUMN bytes SET STORAGE PLAIN;

-- Every change ever made, appended in the transaction that answers it: one row for each version of a list.
CREATE TABLE journal (
    list    bigint NOT NULL,
    version bigint NOT NULL,
    at      bigint NOT NULL,
    every   bigint,          -- the status that every entry was set to first; NULL: none was
    entries bytea  NOT NULL, -- for each change after that four bytes of the index, little-endian, and one of the status
    PRIMARY KEY (list, version)
);

-- Lists on their way to one status, a share of their entries at each beat. A row goes with the last share.
CREATE TABLE spread (
    list  bigint NOT NULL PRIMARY KEY REFERENCES list (id),
    value bigint NOT NULL,
    beats bigint NOT NULL,
    key   bytea  NOT NULL,  -- of the order in which the entries get it
    done  bigint NOT NULL   -- so many entries, in that order, have it
);

-- What was answered under an Idempotency-Key, so that a retry is answered the same. Swept by those who add to it.
CREATE TABLE answer (
    key    bytea  NOT NULL PRIMARY KEY,  -- SHA-256 of the pool and the Idempotency-Key
    answer bytea  NOT NULL,              -- SHA-256 of what was asked for, then the references: see remembered.rs
    until  bigint NOT NULL               -- from then on it is forgotten
);
CREATE INDEX answer_until ON answer (until);

-- The bytes that the answers of a pool count for, by the end of the group in which they are counted.
CREATE TABLE answer_bytes (
    pool  text   NOT NULL,
    until bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (pool, until)
);
