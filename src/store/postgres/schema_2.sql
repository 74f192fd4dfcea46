-- What operators made at run time: one row. Empty texts before the first change.
CREATE TABLE registry (
    one     boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    stamp   text    NOT NULL,  -- tells this version from every other
    content text    NOT NULL
);
INSERT INTO registry (stamp, content) VALUES ('', '');
