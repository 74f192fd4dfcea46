//! A disk that can lose power: afterwards it contains what was fsynced. It is a loop-mounted ext4 image.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An ext4 file system in a file.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mounted: PathBuf,
}

impl Disk {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self::of_size(folder, name, 64 << 20)
    }

    pub(crate) fn of_size(folder: &Path, name: &str, bytes: u64) -> Self {
        let image = folder.join(format!("{name}.img"));
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        sh(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        Self::mount(image, folder.join(name))
    }

    fn mount(image: PathBuf, mounted: PathBuf) -> Self {
        std::fs::create_dir_all(&mounted).unwrap();
        sh(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mounted));
        Self { image, mounted }
    }

    /// Makes everything so far durable, so that a power cut can lose only what follows.
    pub(crate) fn sync(&self) {
        sh(Command::new("sync").arg("--file-system").arg(&self.mounted));
    }

    /// Makes every write wait until it is thawed.
    pub(crate) fn freeze(&self, frozen: bool) {
        sh(Command::new("fsfreeze").arg(if frozen { "--freeze" } else { "--unfreeze" }).arg(&self.mounted));
    }

    /// Returns what a power cut at this moment would leave, mounted as at the next start.
    pub(crate) fn after_power_cut(&self, folder: &Path, name: &str) -> Self {
        let copy = folder.join(format!("{name}.img"));
        std::fs::copy(&self.image, &copy).unwrap();
        Self::mount(copy, folder.join(name))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

/// Runs a command, which must succeed.
fn sh(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether this is root, who alone can mount. If not, the calling test says so and passes, except in CI.
pub(crate) fn can_mount() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    let root = id.stdout == b"0\n";
    assert!(
        root || std::env::var_os("CI").is_none(),
        "this test mounts a file system: CI must run it as root"
    );
    if !root {
        println!("skipped: needs root to mount a file system");
    }
    root
}
