//! Lists of the original service, written in the layouts of its stores.

use deadpool_redis::redis::{Client, Pipeline};
use tokio_postgres::NoTls;

use super::postgres::PostgresServer;
use super::redis::RedisServer;

/// One of its lists.
#[derive(Clone, Debug)]
pub(crate) struct OriginalList {
    pub(crate) uri: String,
    pub(crate) pool: &'static str,
    pub(crate) bits: u64,
    pub(crate) size: u64,
    /// Indices that were never handed out: the first ones.
    pub(crate) free: u64,
    pub(crate) bytes: Vec<u8>,
}

impl OriginalList {
    /// A list whose statuses follow from its `uri`.
    pub(crate) fn new(uri: String, pool: &'static str, bits: u64, size: u64, free: u64) -> Self {
        let mut state = uri.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let bytes = (0..size * bits / 8).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // About one bit in eight is set.
            ((state >> 60) & (state >> 52) & (state >> 44)) as u8 & 0x55
        });
        let bytes = bytes.collect();
        Self { uri, pool, bits, size, free, bytes }
    }

    /// "Compressed Byte Array": the first entry is in the least significant bits of the first byte.
    pub(crate) fn status(&self, idx: u64) -> u8 {
        let per_byte = 8 / self.bits;
        let byte = self.bytes[usize::try_from(idx / per_byte).unwrap()];
        byte >> (idx % per_byte * self.bits) & (0xFF >> (8 - self.bits))
    }
}

/// Writes lists as the original does with `storage-type: redis`.
pub(crate) fn write_to_redis(server: &RedisServer, lists: &[OriginalList]) {
    let mut connection =
        Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap().get_connection().unwrap();
    for list in lists {
        let OriginalList { uri, pool, bits, size, free, bytes } = list;
        let name = uri.rsplit('/').next().unwrap();
        let (bits, size) = (bits.to_string(), size.to_string());
        let (bits, size) = (bits.as_str(), size.as_str());
        let mut commands = Pipeline::new();
        let of_pool = [("bits", bits), ("size", size), ("creation", "DONE")];
        commands.hset_multiple(format!("pool:config:{pool}"), &of_pool).ignore();
        let config = [("listId", name), ("bits", bits), ("size", size), ("poolId", pool), ("version", "7")];
        commands.hset_multiple(format!("list:config:{uri}"), &config).ignore();
        commands.cmd("SET").arg(format!("list:data:{uri}")).arg(bytes.as_slice()).ignore();
        if *free > 0 {
            let indices: Vec<_> = (0..*free).collect();
            commands.cmd("RPUSH").arg(format!("list:indices:{uri}")).arg(indices).ignore();
        }
        commands.cmd("SADD").arg(format!("pool:lists:all:{pool}")).arg(uri).ignore();
        commands.query::<()>(&mut connection).unwrap();
    }
}

/// The original's migrations, in our words.
const SCHEMA: &str = "
    CREATE TABLE pools (id bigserial PRIMARY KEY, bits integer NOT NULL, size integer NOT NULL, name varchar(128) NOT NULL UNIQUE,
                        final_status integer);
    CREATE TABLE lists (id uuid PRIMARY KEY, pool_id bigint NOT NULL REFERENCES pools (id), base_uri varchar(1024) NOT NULL,
                        bits integer NOT NULL, size integer NOT NULL, version integer NOT NULL, data bit varying NOT NULL,
                        final_status integer);
    CREATE TABLE list_indices (id bigserial PRIMARY KEY, list_id uuid NOT NULL REFERENCES lists (id), index integer NOT NULL,
                               UNIQUE (list_id, index))";

/// Writes lists as the original does with `storage-type: postgres`.
pub(crate) async fn write_to_postgres(server: &PostgresServer, lists: &[OriginalList]) {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SCHEMA).await.unwrap();
    for OriginalList { uri, pool, bits, size, free, bytes } in lists {
        let (base, name) = uri.split_at(uri.rfind('/').unwrap() + 1);
        let data: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let sql = format!(
            "INSERT INTO pools (bits, size, name) VALUES ({bits}, {size}, '{pool}') ON CONFLICT DO NOTHING;
             INSERT INTO lists SELECT '{name}', id, '{base}', {bits}, {size}, 7, B'{data}' FROM pools WHERE name = '{pool}';
             INSERT INTO list_indices (list_id, index) SELECT '{name}', n FROM generate_series(0, {free} - 1) AS n"
        );
        client.batch_execute(&sql).await.unwrap();
    }
}
