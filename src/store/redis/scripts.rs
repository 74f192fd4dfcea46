//! The atomic steps: one Lua file each. Its top documents keys, arguments and reply.

use std::sync::LazyLock;

use deadpool_redis::redis::{Cmd, Script as RedisScript, ToRedisArgs, cmd};

/// The beginning of every script.
const DEADLINE: &str = include_str!("deadline.lua");

/// One atomic step.
pub(super) struct Script {
    source: String,
    sha1: String,
}

/// A call of a script by its hash. The server knows its source from an earlier call.
pub(super) struct Call {
    script: &'static Script,
    command: Cmd,
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)*

        /// All scripts.
        #[cfg(test)]
        pub(super) static ALL: &[&LazyLock<Script>] = &[$(&$name),*];
    };
}

scripts! {
    ADVANCE_SPREAD = "advance_spread.lua";
    APPLY = "apply.lua";
    DECLARE_POOL = "declare_pool.lua";
    FILL_LIST = "fill_list.lua";
    IMPORT_LIST = "import_list.lua";
    LEASE_BLOCK = "lease_block.lua";
    LEASE_PUBLISHER = "lease_publisher.lua";
    MARK_DUE = "mark_due.lua";
    OPEN_LIST = "open_list.lua";
    RELEASE_PUBLISHER = "release_publisher.lua";
    REMEMBER = "remember.lua";
    REPLACE_REGISTRY = "replace_registry.lua";
    RETIRE_LIST = "retire_list.lua";
    RETURN_TAIL = "return_tail.lua";
    SEAL_LIST = "seal_list.lua";
    SETTLE = "settle.lua";
}

impl Script {
    fn new(source: &'static str) -> Self {
        let source = format!("{DEADLINE}{source}");
        Self { sha1: RedisScript::new(&source).get_hash().to_owned(), source }
    }

    /// The hash by which a server knows the script.
    #[cfg(test)]
    pub(super) fn sha1(&self) -> &str {
        &self.sha1
    }
}

impl Call {
    /// A call with these keys; arguments follow.
    pub(super) fn new(script: &'static LazyLock<Script>, keys: &[String]) -> Self {
        let mut command = cmd("EVALSHA");
        command.arg(&script.sha1).arg(keys.len()).arg(keys);
        Self { script, command }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    /// The command that runs the script, unless `deadline` has passed by the server's clock, in milliseconds since 1970.
    pub(super) fn command(&self, deadline: u64) -> Cmd {
        let mut command = self.command.clone();
        command.arg(deadline);
        command
    }

    /// The command that loads the script into a server.
    pub(super) fn load(&self) -> Cmd {
        cmd("SCRIPT").arg("LOAD").arg(&self.script.source).take()
    }
}
