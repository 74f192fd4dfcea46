//! The atomic steps: one Lua file each, whose top says what it takes and answers.

use std::sync::LazyLock;

use deadpool_redis::redis::{Cmd, Script as RedisScript, cmd};

/// One atomic step.
pub(super) struct Script {
    source: &'static str,
    sha1: String,
}

/// A call of a script: its keys and arguments.
pub(super) struct Call {
    pub(super) script: &'static LazyLock<Script>,
    keys: usize,
    /// Keys first.
    arguments: Vec<Vec<u8>>,
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)*
    };
}

scripts! {
    APPLY = "apply.lua";
    DECLARE_POOL = "declare_pool.lua";
    IMPORT_LIST = "import_list.lua";
    LEASE_BLOCK = "lease_block.lua";
    LEASE_PUBLISHER = "lease_publisher.lua";
    MARK_DUE = "mark_due.lua";
    OPEN_LIST = "open_list.lua";
    RELEASE_PUBLISHER = "release_publisher.lua";
    RETURN_TAIL = "return_tail.lua";
    SEAL_LIST = "seal_list.lua";
    SETTLE = "settle.lua";
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, sha1: RedisScript::new(source).get_hash().to_owned() }
    }
}

impl Call {
    pub(super) fn new(script: &'static LazyLock<Script>) -> Self {
        Self { script, keys: 0, arguments: Vec::new() }
    }

    /// Adds a key. All keys come before all arguments.
    pub(super) fn key(mut self, key: String) -> Self {
        self.push_key(key);
        self
    }

    pub(super) fn push_key(&mut self, key: String) {
        self.keys += 1;
        self.arguments.push(key.into_bytes());
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, argument: impl ToString) -> Self {
        self.push_arg(argument);
        self
    }

    pub(super) fn push_arg(&mut self, argument: impl ToString) {
        self.arguments.push(argument.to_string().into_bytes());
    }

    /// Adds an argument that is no text.
    pub(super) fn bytes(mut self, argument: &[u8]) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The command that names the script, which the server knows from an earlier call.
    pub(super) fn by_name(&self) -> Cmd {
        self.command("EVALSHA", &self.script.sha1)
    }

    /// The command that carries the script, for a server that does not know it yet.
    pub(super) fn by_source(&self) -> Cmd {
        self.command("EVAL", self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys).arg(&self.arguments);
        command
    }
}
