-- What operators made at run time: one row. Empty texts before the first change.

CREATE TABLE registry (
    stamp   TEXT NOT NULL,  -- tells this version from every other
    content TEXT NOT NULL
) STRICT;
INSERT INTO registry (stamp, content) VALUES ('', '');
