//! Check of the tests that documents name. A row of a table in `docs` may name test files and then tests, as in
//! `` `common/tests/a.rs`: `a_test_of_something` ``. Each test must exist in the file that is named before it.

use crate::files::{File, Found};
use std::path::Path;

/// Number of underscores from which on a name is taken for the name of a test.
const UNDERSCORES_MIN: usize = 3;
/// Mark at the end of a name that is cut.
const CUT: char = '…';

/// Returns the tests that a document names and that do not exist, as `path:line: what`.
pub(crate) fn missing(files: &[File]) -> Vec<String> {
    let documents = files.iter().filter(|file| is_document(&file.path));
    let found = |document: &File| -> Vec<String> {
        let place = |(line, what)| format!("{}:{line}: {what}", document.path);
        missing_in(&document.text, files).into_iter().map(place).collect()
    };
    documents.flat_map(found).collect()
}

fn is_document(path: &str) -> bool {
    path.starts_with("docs/") && path.ends_with(".md")
}

fn missing_in(text: &str, files: &[File]) -> Found {
    let mut found = Found::new();
    for (at, row) in text.lines().enumerate().filter(|(_, row)| row.starts_with('|')) {
        let mut test_file = None;
        // Every second part between backticks is code.
        for code in row.split('`').skip(1).step_by(2) {
            if is_code(code) && code.contains('/') {
                test_file = Some(code);
            } else if let Some(test_file) = test_file.filter(|_| is_test(code)) {
                let source = files.iter().find(|file| file.path == test_file);
                let is_there = source.is_some_and(|source| defines(&source.text, code));
                if !is_there {
                    found.push((at + 1, format!("{test_file} has no test {code}")));
                }
            }
        }
    }
    found
}

fn is_code(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "py"))
}

fn is_test(name: &str) -> bool {
    let name = name.trim_end_matches(CUT);
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(allowed) && name.matches('_').count() >= UNDERSCORES_MIN
}

/// Returns whether a function of this name is defined in the text. For a cut name, its beginning is enough.
fn defines(text: &str, name: &str) -> bool {
    let end = if name.ends_with(CUT) { "" } else { "(" };
    let name = name.trim_end_matches(CUT);
    ["fn", "def"].iter().any(|keyword| text.contains(&format!("{keyword} {name}{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_does_not_exist_is_named_with_its_file_and_line() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let document = "Text with `c/tests/a.rs`: `no_row_of_a_table`.\n\n\
             | a guarantee | `c/tests/a.rs`: `a_test_that_is_there`, `a_test_that_is_gone` |\n\
             | `replay.sync_interval_of_disk` and `not_a_test` | `c/tests/b.py`: `test_of_a_cut_…`, `test_of_another_…` |\n\
             | a file that is not there | `c/tests/c.rs`: `a_test_in_no_file` |\n";
        let files = [
            file("c/tests/a.rs", "fn a_test_that_is_there() {}\nfn a_test_that_is_gone_now() {}\n"),
            file("c/tests/b.py", "def test_of_a_cut_name(): ...\n"),
            file("docs/a.md", document),
            file("README.md", "| `c/tests/a.rs`: `a_page_without_this_rule` |\n"),
        ];
        assert_eq!(
            missing(&files),
            [
                "docs/a.md:3: c/tests/a.rs has no test a_test_that_is_gone",
                "docs/a.md:4: c/tests/b.py has no test test_of_another_…",
                "docs/a.md:5: c/tests/c.rs has no test a_test_in_no_file",
            ]
        );
    }
}
