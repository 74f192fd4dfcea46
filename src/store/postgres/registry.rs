//! What operators made at run time: one row.

use super::PostgresStore;
use super::query::{get, parsed, query};
use crate::store::values::StoreError;
use crate::store::{Deadline, Registered, Stamp};

impl PostgresStore {
    pub(in crate::store) async fn registry_stamp(&self) -> Result<Stamp, StoreError> {
        let answers = self.0.link.read(vec![query("SELECT stamp FROM registry")]).await?;
        answers[0].first().map_or_else(|| Ok(Stamp::default()), |row| parsed(row, 0))
    }

    pub(in crate::store) async fn registry(&self) -> Result<Registered, StoreError> {
        let read = query("SELECT stamp, content FROM registry");
        let answers = self.0.link.read_confirmed(vec![read]).await?;
        let Some(row) = answers[0].first() else { return Ok(Registered::default()) };
        Registered::from_parts(get(row, 0)?, get(row, 1)?)
    }

    pub(in crate::store) async fn replace_registry(
        &self,
        seen: &Stamp,
        newer: &Registered,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let mut step = self.0.link.begin(deadline).await?;
        let answers = step.run(vec![query("SELECT stamp FROM registry FOR UPDATE")]).await?;
        let present: Stamp = answers[0].first().map_or_else(|| Ok(Stamp::default()), |row| parsed(row, 0))?;
        if present == newer.stamp {
            return step.commit_confirmed(Vec::new()).await.map(|_| true);
        }
        if present != *seen {
            step.end().await?;
            return Ok(false);
        }
        let write = "INSERT INTO registry (stamp, content) VALUES ($1, $2)
                     ON CONFLICT (one) DO UPDATE SET stamp = excluded.stamp, content = excluded.content";
        let write = query(write).text(newer.stamp.as_str()).text(&newer.content);
        step.commit(vec![write]).await.map(|_| true)
    }
}
