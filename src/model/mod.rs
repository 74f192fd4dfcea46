//! Values that the parts share: what a pool is, who may use it, in which order a list hands out its indices, and which
//! instance of the service acts. Nothing here reads a file, a clock or a store.

pub mod api_key;
pub mod instance;
pub mod order;
pub mod pool;
pub mod registry;
