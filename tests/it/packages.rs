//! The systemd units of the package: valid, and hardened. `scripts/package --test` runs them with a real systemd.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::process::PROGRAM;

const UNITS: [&str; 2] = ["statuslist.service", "statuslist-probe.service"];
/// The highest exposure of the service, in tenths (`systemd-analyze security`: 0 is none, 100 the highest).
const EXPOSURE_MAX: u32 = 15;

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().expect("systemd-analyze is installed")
}

/// A unit with changed text, and this build as its program.
fn unit(folder: &Path, name: &str, change: impl FnOnce(String) -> String) -> std::path::PathBuf {
    let shipped = std::fs::read_to_string(format!("deploy/systemd/{name}")).unwrap();
    let shipped = shipped.replace("/usr/bin/statuslist", PROGRAM);
    let path = folder.join(name);
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), change(shipped).as_bytes())
        .unwrap();
    path
}

#[test]
fn systemd_accepts_every_line_of_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |path: &Path| {
        let output = analyze(&["verify", "--man=no"], path);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let timer = unit(folder.path(), "statuslist-probe.timer", |text| text);
    for name in UNITS {
        let misspelled = |text: String| text.replace("ProtectSystem=strict", "ProtectSystems=strict");
        let (_, said) = verify(&unit(folder.path(), name, misspelled));
        assert!(said.contains("ProtectSystems"), "a wrong name is not noticed: {said}");
        let (valid, said) = verify(&unit(folder.path(), name, |text| text));
        assert!(valid && !said.contains(name), "{said}");
    }
    // It finds the service of its name beside it.
    let (valid, said) = verify(&timer);
    assert!(valid && !said.contains("statuslist-probe"), "{said}");
}

#[test]
fn the_services_are_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let security = |path: &Path| analyze(&["security", "--offline=true", "--no-pager", &threshold], path);
    for name in UNITS {
        let output = security(&unit(folder.path(), name, |text| text));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let as_root =
            |text: String| text.replace("User=statuslist\n", "").replace("CapabilityBoundingSet=\n", "");
        assert!(!security(&unit(folder.path(), name, as_root)).status.success(), "a {name} of root passes");
    }
}

#[test]
fn the_settings_of_the_package_are_good() {
    let settings = "deploy/debian/statuslist.yaml";
    let mut command = Command::new(PROGRAM);
    // Only the package makes the folders, and the user that may write there.
    let folder = tempfile::tempdir().unwrap();
    for setting in ["STORAGE_DIRECTORY", "KEY_DIRECTORY", "INSTANCE_DIRECTORY", "SQLITE__PATH"] {
        command.env(format!("STATUSLIST__{setting}"), folder.path().join(setting));
    }
    let output = command.args(["--config", settings, "check-config"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("warning"), "{said}");
}
