-- What was answered under an Idempotency-Key, so that a retry is answered the same. Swept by those who add to it.

CREATE TABLE answer (
    key    BLOB    NOT NULL UNIQUE,  -- SHA-256 of the pool and the Idempotency-Key
    answer BLOB    NOT NULL,         -- SHA-256 of what was asked for, then the references: see remembered.rs
    until  INTEGER NOT NULL          -- milliseconds since 1970; from then on it is forgotten
) STRICT;

CREATE INDEX answer_until ON answer (until);

-- `journal.idx` is -1 from here on where every entry of the list was set, by one row.
