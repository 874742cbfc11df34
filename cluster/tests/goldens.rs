//! Checks that a test exists for every golden file, so that no new kind of file is forgotten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

#[test]
fn every_golden_file_has_a_runner() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let goldens = std::env::var_os("SAPEX_GOLDENS_DIR")
        .map_or_else(|| root.join("testdata/goldens"), PathBuf::from);
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut cases = Vec::new();
    files(&goldens, "json", &mut cases);
    assert!(!cases.is_empty(), "no golden files in {}", goldens.display());
    for path in cases {
        let json: serde_json::Value =
            serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap();
        let kind = json["kind"].as_str().unwrap_or_else(|| panic!("{}: no kind", path.display()));
        kinds.entry(kind.to_owned()).or_default().push(path);
    }
    let mut sources = Vec::new();
    for package in ["common", "replay-server", "actor-node", "learner", "cluster"] {
        files(&root.join(package).join("tests"), "rs", &mut sources);
    }
    let tests: String = sources.iter().map(|path| fs_err::read_to_string(path).unwrap()).collect();
    let mut missing = Vec::new();
    for (kind, files) in &kinds {
        if !tests.contains(&format!("\"{kind}\"")) {
            missing.push(format!("{kind}: {files:?}"));
        }
    }
    assert!(missing.is_empty(), "golden files that no test runs:\n{}", missing.join("\n"));
}
