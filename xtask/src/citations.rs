//! Check of citations of the mathematics. A citation such as `docs/algorithms/lac.md §3` has a page and the number of a
//! heading on this page.
//!
//! In a citation of another page, a page in `docs/algorithms` may omit the folder. In a citation of its own sections,
//! it may omit the page. All other files must write the whole path and the number on one line.

use crate::files::{File, Found};
use crate::source::line;
use std::collections::{BTreeMap, BTreeSet};

/// Folder of the pages that can be cited.
const PAGES: &str = "docs/algorithms/";
/// Character that precedes the number of a section.
const SECTION: char = '\u{a7}';
/// Names of documents outside of the repository, which must not be cited.
const ELSEWHERE: [&str; 4] = [
    concat!("SEED", "-SPEC"),
    concat!("DES", "IGN.md"),
    concat!("ST", "YLE.md"),
    concat!("PE", "ERS.md"),
];
/// Name of a folder outside of the repository, which must not be cited either.
const ELSEWHERE_FOLDER: &str = concat!("sha", "red/");
/// Folder of recorded data. Its pages may name documents outside of the repository, because the data came from there.
const RECORDED: &str = "testdata/";

/// Numbers of the sections of each page, by the path of the page.
type Pages<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Returns the citations in `files` that have no valid target, as `path:line: what`. `files` includes the pages that
/// can be cited.
pub(crate) fn broken(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut pages = Pages::new();
    for File { path, text } in files.iter().filter(|file| is_page(&file.path)) {
        let sections = pages.entry(path).or_default();
        for (at, number) in headings(text) {
            if !sections.insert(number) {
                problems.push(format!("{path}:{at}: a second section {number}"));
            }
        }
    }
    for file in files {
        let mut found = without_target(file, &pages);
        if !file.path.starts_with(RECORDED) {
            found.extend(elsewhere(&file.text));
        }
        problems.extend(found.into_iter().map(|(at, what)| format!("{}:{at}: {what}", file.path)));
    }
    problems
}

fn is_page(path: &str) -> bool {
    path.starts_with(PAGES) && path.ends_with(".md")
}

/// Returns the numbered headings of a page: for each heading, its line (counted from 1) and its number, such as 2 or
/// 2.1. Ignores text in code blocks.
fn headings(text: &str) -> Vec<(usize, &str)> {
    let mut is_fenced = false;
    let mut found = Vec::new();
    for (at, row) in text.lines().enumerate() {
        is_fenced ^= row.starts_with("```");
        let title = row.trim_start_matches('#');
        let Some((number, _)) = title.trim_start().split_once(' ') else { continue };
        if !is_fenced && title.len() < row.len() && leading_number(number) == Some(number) {
            found.push((at + 1, number));
        }
    }
    found
}

/// Returns the section number at the start of a text, such as 2 or 2.1. `None` if the text does not start with one.
fn leading_number(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    number.starts_with(|c: char| c.is_ascii_digit()).then_some(number)
}

/// Finds citations of pages or sections that do not exist, and citations that name a section but no page.
fn without_target(file: &File, pages: &Pages<'_>) -> Found {
    let File { path, text } = file;
    let mut found = Vec::new();
    for (at, _) in text.match_indices(SECTION) {
        let after = &text[at + SECTION.len_utf8()..];
        let Some(number) = leading_number(after) else { continue };
        let cited = cited_page(path, &text[..at], &after[number.len()..]);
        let sections = cited.as_ref().and_then(|page| pages.get(page.as_str()));
        let what = match (cited, sections) {
            (Some(_), Some(sections)) if sections.contains(number) => continue,
            (Some(page), Some(_)) => format!("{page} has no section {number}"),
            (Some(page), None) => format!("{page} {SECTION}{number}: {PAGES} has no such page"),
            (None, _) => format!("{SECTION}{number}: name its page before it, on the same line"),
        };
        found.push((line(text, at), what));
    }
    found
}

/// Returns the path of the page that is cited in the file `path`. `before` is the text before the section mark, and
/// `after` is the text after the section number.
fn cited_page(path: &str, before: &str, after: &str) -> Option<String> {
    let named = page_before(before);
    if !is_page(path) {
        return named.map(str::to_owned);
    }
    let named = named.or_else(|| link_target(after)).unwrap_or(path);
    Some(if named.contains('/') { named.to_owned() } else { format!("{PAGES}{named}") })
}

/// Returns the path of the Markdown file at the end of `text`. One space must follow the path.
fn page_before(text: &str) -> Option<&str> {
    let words = text.strip_suffix(' ')?;
    let path = words.rsplit(|c: char| !c.is_alphanumeric() && !"-_./".contains(c)).next()?;
    path.ends_with(".md").then_some(path)
}

/// Returns the target file of a Markdown link. `text` begins directly after the words of the link.
fn link_target(text: &str) -> Option<&str> {
    let target = text.strip_prefix("](")?.split(['#', ')']).next()?;
    (!target.is_empty()).then_some(target)
}

/// Finds the names of documents and of folders that are outside of the repository.
fn elsewhere(text: &str) -> Found {
    let is_start = |at: usize, inner: &str| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !inner.contains(c))
    };
    let documents = ELSEWHERE.iter().flat_map(|name| text.match_indices(*name));
    let documents = documents.filter(|(at, _)| is_start(*at, "_-"));
    let folders = text.match_indices(ELSEWHERE_FOLDER).filter(|(at, _)| is_start(*at, "_-./"));
    let names = documents.chain(folders);
    names
        .map(|(at, name)| (line(text, at), format!("{name}: cite what is in the repository")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the file `path` with the content `text`, together with two pages. In `text`, `%` is replaced by the
    /// section mark, so that this source file contains no citations.
    fn found(path: &str, text: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            text: text.replace('%', &SECTION.to_string()),
        };
        let fenced = "# A\n\n## 1 One\n\n### 1.2 More\n\n```\n## 9 Code\n```\n\n## Others\n";
        broken(&[
            file("docs/algorithms/a.md", fenced),
            file("docs/algorithms/b.md", "# B\n\n## 3 Three\n"),
            file(path, text),
        ])
    }

    #[test]
    fn a_page_and_the_number_of_a_heading_are_a_citation() {
        for (path, text) in [
            ("learner/src/a.rs", "//! As it is (docs/algorithms/a.md %1.2).\n"),
            ("config/a.toml", "# docs/algorithms/a.md %1, docs/algorithms/b.md %3.\n"),
            ("docs/a.md", "[docs/algorithms/b.md %3](algorithms/b.md#3-three)\n"),
            ("docs/algorithms/c.md", "## 1 Own\n[%1](#1-own), [b.md %3](b.md#3-three), %1\n"),
            ("docs/algorithms/c.md", "[a.md %1](a.md#1-one), [%1.2](a.md#12-more), a.md %1\n"),
            ("testdata/goldens/README.md", "| 4.5 | docs/algorithms/a.md %1 |\n"),
            ("a.py", "# % is the mark of a section.\n"),
        ] {
            assert_eq!(found(path, text), Vec::<String>::new(), "{path}: {text}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_named_with_its_line() {
        for (path, text, expected) in [
            (
                "a.rs",
                "//! docs/algorithms/a.md %2\n",
                "a.rs:1: docs/algorithms/a.md has no section 2",
            ),
            (
                "a.rs",
                "//! docs/algorithms/a.md %9\n",
                "a.rs:1: docs/algorithms/a.md has no section 9",
            ),
            ("a.rs", "\n//! docs/algorithms/d.md %1\n", "a.rs:2: docs/algorithms/d.md %1: docs/"),
            ("a.rs", "//! docs/algorithms/a.md\n//! %1\n", "a.rs:2: %1: name its page"),
            ("a.rs", "//! a.md %1\n", "a.rs:1: a.md %1: docs/algorithms/ has no such page"),
            ("docs/a.md", "As in %3.\n", "docs/a.md:1: %3: name its page"),
            ("docs/algorithms/c.md", "%1\n", "docs/algorithms/c.md:1: docs/algorithms/c.md has no"),
            (
                "docs/algorithms/c.md",
                "## 1 A\n## 1 B\n",
                "docs/algorithms/c.md:2: a second section 1",
            ),
        ] {
            let expected = expected.replace('%', &SECTION.to_string());
            let found = found(path, text);
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn documents_outside_of_the_repository_are_cited_by_recorded_data_only() {
        let folder = format!("{ELSEWHERE_FOLDER}a.md");
        for name in ELSEWHERE.iter().copied().chain([folder.as_str()]) {
            let text = format!("A.\nSee `{name}`.\n");
            assert_eq!(found("docs/a.md", &text).len(), 1, "{name}");
            assert!(found("docs/a.md", &text)[0].starts_with("docs/a.md:2: "), "{name}");
            assert_eq!(found("testdata/goldens/README.md", &text), Vec::<String>::new(), "{name}");
        }
        let fine = format!("deploy/{ELSEWHERE_FOLDER}a, un{folder}, RE{}\n", ELSEWHERE[1]);
        assert_eq!(found("docs/a.md", &fine), Vec::<String>::new());
    }
}
