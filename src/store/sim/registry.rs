//! What operators made at run time.

use super::SimulatedStore;
use crate::store::{Deadline, Registered, Stamp, StoreError};

impl SimulatedStore {
    pub(in crate::store) async fn registry_stamp(&self) -> Result<Stamp, StoreError> {
        self.read("registry_stamp", |server| Ok(server.data.registry.stamp.clone())).await
    }

    pub(in crate::store) async fn registry(&self) -> Result<Registered, StoreError> {
        self.read("registry", |server| Ok(server.data.registry.clone())).await
    }

    pub(in crate::store) async fn replace_registry(
        &self,
        seen: &Stamp,
        newer: &Registered,
        deadline: Deadline,
    ) -> Result<bool, StoreError> {
        let (seen, newer) = (seen.clone(), newer.clone());
        let step = move |server: &mut super::Server| {
            let present = &mut server.data.registry;
            if present.stamp == seen {
                *present = newer.clone();
            }
            Ok(present.stamp == newer.stamp)
        };
        self.write_before("replace_registry", deadline, step).await
    }
}
