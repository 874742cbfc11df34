//! The house rules hold for this repository: `cargo test` is enough to notice a breach.

use std::process::Command;

#[test]
fn the_repository_keeps_its_house_rules() {
    let xtask = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("tidy").output().unwrap();
    assert!(xtask.status.success(), "\n{}", String::from_utf8_lossy(&xtask.stderr));
}

#[test]
fn another_repository_is_checked_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (path, text) in [
        (
            "common/Cargo.toml",
            "autotests = false\n[[test]]\nname = \"all\"\n\n[[test]]\nname = \"alone\"\n",
        ),
        ("common/tests/all.rs", "//! All.\n\nmod a;\n"),
        ("common/tests/a.rs", "//! A.\n"),
        ("common/tests/alone.rs", "//! Alone.\n"),
        ("common/tests/forgotten.rs", "//! Forgotten.\n"),
        ("config/default.toml", "# All.\n[run]\n# Root of every random number.\nseed = 0\n"),
        ("config/tuned/A.toml", "[run]\nseed = 1\n"),
        ("common/src/wire.rs", "//! The wire.\npub struct Reply;\n"),
        ("learner/src/reply.rs", "//! Replies.\n\npub enum Reply {}\n"),
        ("common/src/wire/message.rs", "//! Messages.\n"),
        ("common/src/wire/handshake.rs", "//! Handshake.\n"),
        ("common/src/wire/refusal.rs", "//! Refusals.\n"),
        ("docs/protocol.md", "<!-- wire-source-hash: 0 -->\n[a](b.md)\nc.md \u{a7}1\n"),
    ] {
        let path = root.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }
    let run = |chore: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args([chore, "--root"])
            .arg(root)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (_, said) = run("tidy");
    assert!(said.contains("docs/configuration.md: out of date, run `make docs`"), "{said}");
    assert!(said.contains("docs/protocol.md: the wire's source has changed"), "{said}");
    assert!(said.contains("common/src/wire.rs:1: move it to common/src/wire/mod.rs"), "{said}");
    let twice = "learner/src/reply.rs:3: common/src/wire.rs:2 defines a public type Reply, too";
    assert!(said.contains(twice), "{said}");
    assert!(said.contains("docs/protocol.md:2: b.md leads nowhere"), "{said}");
    assert!(said.contains("docs/protocol.md:3: c.md \u{a7}1: docs/algorithms/ has no"), "{said}");

    let forgotten: Vec<_> =
        said.lines().filter(|line| line.contains("no program runs it")).collect();
    let expected =
        "common/tests/forgotten.rs:1: no program runs it: name it in common/tests/all.rs";
    assert_eq!(forgotten, [expected]);

    assert!(run("docs").0);
    fs_err::remove_file(root.join("common/tests/forgotten.rs")).unwrap();
    fs_err::remove_file(root.join("common/src/wire.rs")).unwrap();
    let marked = said.lines().find(|line| line.starts_with("<!--")).unwrap();
    fs_err::write(root.join("docs/protocol.md"), marked).unwrap();
    assert_eq!(run("tidy"), (true, String::new()));
}
