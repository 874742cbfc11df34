//! Reads golden cases: JSON files of named tensors with tolerances (their README describes the format).
//!
//! The files are in `testdata/goldens`, or in the folder that `SAPEX_GOLDENS_DIR` names.

use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// One golden file.
#[derive(Debug)]
pub(crate) struct Case {
    /// File name, for messages.
    pub(crate) name: String,
    /// Content of the file.
    pub(crate) json: Value,
    /// Number of comparisons made so far.
    compared: Cell<usize>,
}

/// Returns all cases of one kind, ordered by file name. Panics if there is none, because a test that compares nothing
/// must not pass.
pub(crate) fn cases(kind: &str) -> Vec<Case> {
    let folder = std::env::var_os("SAPEX_GOLDENS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/goldens"),
        PathBuf::from,
    );
    let mut cases: Vec<Case> = fs_err::read_dir(&folder)
        .unwrap()
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
    /// Panics if the file was never compared with anything, because the test would then check nothing.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.compared.get() > 0, "{}: nothing was compared", self.name);
        }
    }
}

impl Case {
    /// Counts a comparison that was not made with the functions below.
    pub(crate) fn compared(&self) {
        self.compared.set(self.compared.get() + 1);
    }

    /// Returns the value at a JSON pointer such as `/config/obs_dim`.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or_else(|| panic!("{}: nothing at {pointer}", self.name))
    }

    /// Returns a non-negative integer.
    pub(crate) fn size(&self, pointer: &str) -> usize {
        usize::try_from(self.at(pointer).as_u64().unwrap()).unwrap()
    }

    /// Returns a number.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.at(pointer).as_f64().unwrap()
    }

    /// Returns a number as the f32 that its digits denote.
    pub(crate) fn number_f32(&self, pointer: &str) -> f32 {
        self.at(pointer).to_string().parse().unwrap()
    }

    /// Returns a list of non-negative integers.
    pub(crate) fn sizes(&self, pointer: &str) -> Vec<usize> {
        (0..self.count(pointer)).map(|i| self.size(&format!("{pointer}/{i}"))).collect()
    }

    /// Returns the length of a list.
    pub(crate) fn count(&self, pointer: &str) -> usize {
        self.at(pointer).as_array().unwrap().len()
    }

    /// Returns the shape of a tensor.
    pub(crate) fn shape(&self, pointer: &str) -> Vec<usize> {
        self.sizes(&format!("{pointer}/shape"))
    }

    /// Returns the numbers of a tensor, row-major.
    pub(crate) fn tensor(&self, pointer: &str) -> Vec<f64> {
        let data = self.at(pointer)["data"].as_array().unwrap();
        data.iter().map(|number| number.as_f64().unwrap()).collect()
    }

    /// Returns the numbers of a tensor as f32.
    pub(crate) fn tensor_f32(&self, pointer: &str) -> Vec<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "the file's digits round-trip f32")]
        self.tensor(pointer).into_iter().map(|number| number as f32).collect()
    }

    /// Compares `ours` with the tensor at `pointer`: |ours - given| <= tolerance * max(1, |given|).
    pub(crate) fn assert_close(&self, ours: &[f32], pointer: &str, tolerance: &str) {
        self.assert_near(ours, &self.tensor(pointer), pointer, tolerance);
    }

    /// Like [`Case::assert_close`], for numbers computed from those in the file.
    pub(crate) fn assert_near(&self, ours: &[f32], given: &[f64], what: &str, tolerance: &str) {
        let tolerance = self.number(&format!("/tolerance/{tolerance}"));
        assert_eq!(ours.len(), given.len(), "{}: {what}", self.name);
        for (i, (&ours, given)) in ours.iter().zip(given).enumerate() {
            let error = (f64::from(ours) - given).abs() / given.abs().max(1.0);
            let name = &self.name;
            assert!(error <= tolerance, "{name}: {what}[{i}] is {ours}, expected {given}");
            self.compared();
        }
    }
}
