//! `sapex certs`: its certificates are valid, and it overwrites nothing without being asked to.

use common::tls::{Paths, Role, Tls};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn certs(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sapex")).arg("certs").arg(dir).args(args).output().unwrap()
}

fn succeeds(dir: &Path, args: &[&str]) -> String {
    let output = certs(dir, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(dir: &Path, args: &[&str]) -> String {
    let output = certs(dir, args);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

fn of(dir: &Path, role: Role) -> Paths {
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"]
        .map(|name| dir.join(role.name()).join(name).to_str().unwrap().to_owned());
    Paths { ca, cert, key }
}

#[test]
fn each_role_gets_what_it_may_be_and_keys_are_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("certs");
    let said = succeeds(&dir, &["--host", "*.replay.sapex.svc", "--host", "10.1.2.3"]);
    for role in Role::ALL {
        assert!(said.contains(&format!("{role}, new, until ")), "{said}");
        assert!(Tls::load(&of(&dir, role), role).unwrap().is_some());
        let other = Role::ALL.into_iter().find(|other| *other != role).unwrap();
        let refused = Tls::load(&of(&dir, role), other).unwrap_err().to_string();
        assert_eq!(refused, format!("tls.cert has the role {role}, expected {other}"));
        assert_eq!(read(&dir, "ca.crt"), read(&dir, &format!("{role}/ca.crt")));
    }
    let keys = Role::ALL.map(|role| format!("{role}/tls.key")).into_iter();
    for key in keys.chain(["ca.key".to_owned()]) {
        let mode = std::fs::metadata(dir.join(&key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "nothing else stays: {names:?}");
}

#[test]
fn where_the_ca_is_certificates_are_renewed_and_without_its_key_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    succeeds(dir, &[]);
    let [ca, key] = ["ca.crt", "learner/tls.key"].map(|name| read(dir, name));
    let said = succeeds(dir, &["--days", "30", "--forget-ca"]);
    assert!(said.contains("renewed") && said.contains("cannot be renewed"), "{said}");
    assert_eq!(read(dir, "ca.crt"), ca);
    let renewed = read(dir, "learner/tls.key");
    assert_ne!(renewed, key);
    assert!(!dir.join("ca.key").exists());

    let said = refused(dir, &[]);
    assert!(said.contains("ca.crt is there already without its key ca.key"), "{said}");
    std::fs::remove_file(dir.join("ca.crt")).unwrap();
    let said = refused(dir, &[]);
    assert!(said.contains("learner/ca.crt is there already, and no CA in"), "{said}");
    assert!(said.contains("nothing is overwritten: choose another directory"), "{said}");
    assert_eq!(read(dir, "learner/tls.key"), renewed);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("certs");
    assert!(refused(&dir, &["--days", "0"]).contains("--days"));
    let said = refused(&dir, &["--host", "réplay"]);
    assert!(said.contains("--host réplay"), "{said}");
    assert!(!dir.join("ca.key").exists() && !dir.join("learner").exists());
}
