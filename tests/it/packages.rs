//! The systemd units of the package: valid, and hardened. `scripts/package --test` runs them with a real systemd.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::process::PROGRAM;

const UNIT: &str = "deploy/systemd/statuslist.service";
/// The highest exposure of the service, in tenths (`systemd-analyze security`: 0 is none, 100 the highest).
const EXPOSURE_MAX: u32 = 15;

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().expect("systemd-analyze is installed")
}

/// The unit with changed text, and this build as its program.
fn unit(folder: &Path, change: impl FnOnce(String) -> String) -> std::path::PathBuf {
    let shipped = std::fs::read_to_string(UNIT).unwrap().replace("/usr/bin/statuslist", PROGRAM);
    let path = folder.join("statuslist.service");
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), change(shipped).as_bytes())
        .unwrap();
    path
}

#[test]
fn systemd_accepts_every_line_of_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |path: &Path| {
        let output = analyze(&["verify", "--man=no"], path);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (valid, said) = verify(&unit(folder.path(), |text| text));
    assert!(valid && !said.contains("statuslist.service"), "{said}");
    let (_, said) =
        verify(&unit(folder.path(), |text| text.replace("ProtectSystem=strict", "ProtectSystems=strict")));
    assert!(said.contains("ProtectSystems"), "a wrong name is not noticed: {said}");
}

#[test]
fn the_service_is_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let security = |path: &Path| analyze(&["security", "--offline=true", "--no-pager", &threshold], path);
    let output = security(&unit(folder.path(), |text| text));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let as_root =
        |text: String| text.replace("User=statuslist\n", "").replace("CapabilityBoundingSet=\n", "");
    assert!(!security(&unit(folder.path(), as_root)).status.success(), "a service of root passes");
}

#[test]
fn the_settings_of_the_package_are_good() {
    let settings = "deploy/debian/statuslist.yaml";
    let output = Command::new(PROGRAM).args(["--config", settings, "check-config"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("warning"), "{said}");
}
