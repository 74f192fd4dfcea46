//! The schema, its migrations, and the mark of a copy that was begun and not finished.

use super::link::Link;
use super::query::{Query, get, number, query};
use crate::store::StoreError;

/// In order. A released migration is never changed; a new one follows it.
const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// Applies the missing migrations. Instances that start together wait for each other, by a lock that ends with its transaction.
pub(super) async fn migrate(link: &Link) -> Result<(), StoreError> {
    if applied(link).await? == MIGRATIONS.len() {
        return Ok(());
    }
    let name = &link.config.schema;
    let lock = query("SELECT pg_advisory_xact_lock(hashtextextended('statuslist ' || $1, 0))").text(name);
    let mut step = link.begin(link.patience()).await?;
    let answers = step.run(vec![lock, exists(link)]).await?;
    if !is_there(&answers[1])? {
        step.run(vec![query(format!("CREATE SCHEMA \"{name}\""))]).await?;
    }
    let answers = step.run(vec![has_store()]).await?;
    let found = match is_there(&answers[0])? {
        true => found(link, &step.run(vec![read_schema()]).await?[0])?,
        false => 0,
    };
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        step.run(statements(migration).map(query).collect()).await?;
        step.run(vec![query("UPDATE store SET schema = $1").number(number as u64 + 1)]).await?;
    }
    step.commit(Vec::new()).await.map(|_| ())
}

/// Fails unless all migrations are applied.
pub(super) async fn check_is_current(link: &Link) -> Result<(), StoreError> {
    let (found, known) = (applied(link).await?, MIGRATIONS.len());
    if found == 0 {
        return Err(StoreError::Nothing { place: link.config.to_string() });
    }
    if found < known {
        let why = format!(
            "it has schema {found}, and this version reads schema {known}; start its service once, which migrates it"
        );
        return Err(StoreError::Open { path: link.config.to_string(), why });
    }
    Ok(())
}

/// Fails if a copy was begun and not finished.
pub(super) async fn refuse_unfinished(link: &Link) -> Result<(), StoreError> {
    let answers = link.read(vec![query("SELECT unfinished FROM store")]).await?;
    match answers[0].first().map(|row| get(row, 0)).transpose()? {
        Some(true) => Err(StoreError::Unfinished {
            place: link.config.to_string(),
            remove: format!("DROP SCHEMA \"{}\" CASCADE", link.config.schema),
        }),
        _ => Ok(()),
    }
}

/// The number of applied migrations.
async fn applied(link: &Link) -> Result<usize, StoreError> {
    if !is_there(&link.read(vec![has_store()]).await?[0])? {
        return Ok(0);
    }
    found(link, &link.read(vec![read_schema()]).await?[0])
}

fn found(link: &Link, rows: &[tokio_postgres::Row]) -> Result<usize, StoreError> {
    let found = rows.first().map_or(Ok(0), |row| number(row, 0))?;
    let known = MIGRATIONS.len();
    if found > known {
        return Err(StoreError::SchemaTooNew { path: link.config.to_string(), found, known });
    }
    Ok(found)
}

fn exists(link: &Link) -> Query {
    query("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL").text(&link.config.schema)
}

fn has_store() -> Query {
    query("SELECT to_regclass('store') IS NOT NULL")
}

fn read_schema() -> Query {
    query("SELECT schema FROM store")
}

fn is_there(rows: &[tokio_postgres::Row]) -> Result<bool, StoreError> {
    rows.first().map_or(Ok(false), |row| get(row, 0))
}

/// The statements of a migration: a semicolon stands only at their ends and in comments.
fn statements(migration: &str) -> impl Iterator<Item = String> {
    let code: Vec<_> =
        migration.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    let statements: Vec<_> = code.split(';').map(|sql| sql.trim().to_owned()).collect();
    statements.into_iter().filter(|sql| !sql.is_empty())
}
