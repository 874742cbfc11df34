//! Golden files: numbers from the originals (`testdata/goldens`, or the folder in `SAPEX_GOLDENS_DIR`).

use serde_json::Value;
use std::cell::Cell;
use std::path::PathBuf;

thread_local! {
    /// Number of comparisons that this test has made.
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// Counts a comparison that was made without [`assert_near`].
pub(crate) fn compared() {
    COMPARED.set(COMPARED.get() + 1);
}

/// Iterator over golden files. It panics if nothing was compared between one file and the next.
pub(crate) struct Files {
    files: std::vec::IntoIter<(String, Value)>,
    /// Name of the file returned last, and the number of comparisons before it.
    open: Option<(String, usize)>,
}

impl Iterator for Files {
    type Item = (String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((name, before)) = self.open.take() {
            assert!(COMPARED.get() > before, "{name}: nothing was compared");
        }
        let file = self.files.next()?;
        self.open = Some((file.0.clone(), COMPARED.get()));
        Some(file)
    }
}

/// Returns all files of one kind, sorted by name. Panics if there is none.
pub(crate) fn of_kind(kind: &str) -> Files {
    let dir = std::env::var_os("SAPEX_GOLDENS_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/goldens")),
        PathBuf::from,
    );
    let listing =
        std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = listing.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let file: Value =
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), file)
        })
        .filter(|(_, file)| file["kind"] == kind)
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!files.is_empty(), "no golden file of kind {kind} in {}", dir.display());
    Files { files: files.into_iter(), open: None }
}

/// Returns the numbers of a tensor. A plain number counts as a tensor with one element.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        tensor => {
            tensor["data"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        }
    }
}

/// Returns the same numbers as f32.
#[expect(clippy::cast_possible_truncation, reason = "golden files say how their numbers round")]
pub(crate) fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|value| value as f32).collect()
}

/// Asserts |got − expected| <= tolerance · max(1, |expected|) for each element.
pub(crate) fn assert_near(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{what}[{i}]: {got}, expected {expected}, off by {error:e}, tolerance {tolerance:e}"
        );
        compared();
    }
}
