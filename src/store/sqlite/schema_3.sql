-- Answers recorded under an Idempotency-Key, so that a retry gets the same answer. Steps that add an answer sweep expired ones.

CREATE TABLE answer (
    key    BLOB    NOT NULL UNIQUE,  -- SHA-256 of the pool and the Idempotency-Key
    answer BLOB    NOT NULL,         -- SHA-256 of what was asked for, then the references: see remembered.rs
    until  INTEGER NOT NULL          -- milliseconds since 1970; from then on it is forgotten
) STRICT;

CREATE INDEX answer_until ON answer (until);

-- From here on, `journal.idx` is -1 in a row that set every entry of the list.
