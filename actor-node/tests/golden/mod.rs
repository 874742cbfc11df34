//! Reads golden cases: JSON files of named tensors with tolerances (their README describes the format).
//!
//! The files are in `testdata/goldens` and its folder `env`, or in the folders given by `SAPEX_GOLDENS_DIR` and
//! `SAPEX_ENV_GOLDENS_DIR`.

use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// One golden file.
#[derive(Debug)]
pub(crate) struct Case {
    /// File name, for messages.
    pub(crate) name: String,
    json: Value,
    /// Number of compared values.
    compared: Cell<usize>,
}

/// Returns all cases of one kind, sorted by file name. Panics if there are none, because a test that compares nothing
/// must not pass.
pub(crate) fn cases(kind: &str) -> Vec<Case> {
    let named = |variable| std::env::var_os(variable).map(PathBuf::from);
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/goldens");
    let folder = named("SAPEX_GOLDENS_DIR").unwrap_or_else(default);
    let environments = named("SAPEX_ENV_GOLDENS_DIR").unwrap_or_else(|| folder.join("env"));
    let listed = [&folder, &environments]
        .into_iter()
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| fs_err::read_dir(folder).unwrap());
    let mut cases: Vec<Case> = listed
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| Case {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            json: serde_json::from_str(&fs_err::read_to_string(&path).unwrap()).unwrap(),
            compared: Cell::new(usize::from(true)),
        })
        .filter(|case| case.json["kind"] == kind)
        .collect();
    cases.iter().for_each(|case| case.compared.set(0));
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no golden of kind {kind} in {}", folder.display());
    cases
}

impl Drop for Case {
    /// Fails if nothing was compared with the file, because such a test checks nothing.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.compared.get() > 0, "{}: nothing was compared", self.name);
        }
    }
}

impl Case {
    /// Counts a comparison that was made without the functions below.
    pub(crate) fn compared(&self) {
        self.compared.set(self.compared.get() + 1);
    }

    /// Returns the value at a JSON pointer such as `/config/obs_dim`.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or_else(|| panic!("{}: nothing at {pointer}", self.name))
    }

    /// Asserts |ours − given| ≤ tolerance · max(1, |given|) for each pair of values.
    pub(crate) fn assert_near(&self, told: &str, ours: &[f64], given: &[f64], tolerance: &str) {
        let tolerance = self.at(&format!("/tolerance/{tolerance}")).as_f64().unwrap();
        assert_eq!(ours.len(), given.len(), "{}: {told}", self.name);
        for (i, (ours, given)) in ours.iter().zip(given).enumerate() {
            let error = (ours - given).abs() / given.abs().max(1.0);
            let name = &self.name;
            assert!(error <= tolerance, "{name}: {told}[{i}] is {ours}, expected {given}");
            self.compared();
        }
    }
}

/// Returns the numbers of a tensor `{shape, dtype, data}`, or of a nested list.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Object(tensor) => numbers(&tensor["data"]),
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Bool(flag) => vec![f64::from(u8::from(*flag))],
        number => vec![number.as_f64().unwrap()],
    }
}
