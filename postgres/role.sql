-- Makes the role of the service, and the schema that it owns: it makes its tables there, and has no rights to anything else.
-- Run it in the service's database, as an administrator:
--
--   psql --dbname statuslist --file role.sql
--   psql --dbname statuslist --command '\password statuslist'
--
-- Another role or schema: --set role=… --set schema=… (postgres.username and postgres.schema in the settings).

\set ON_ERROR_STOP on
\if :{?role} \else \set role statuslist \endif
\if :{?schema} \else \set schema statuslist \endif

BEGIN;
CREATE ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";
CREATE SCHEMA :"schema" AUTHORIZATION :"role";
-- For postgres.replicas: whether the synchronous standbys are connected. Without it the service finds out when a write waits.
GRANT pg_read_all_stats TO :"role";
COMMIT;
