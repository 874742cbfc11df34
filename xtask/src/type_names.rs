//! Check of the names of public types. Each name belongs to only one type in the whole workspace, so that a reader
//! knows which type is meant.
//!
//! The rule covers structs, enums, traits and type aliases that are `pub` without a restriction and are defined in a
//! folder `src`. Types that are `pub(crate)` or `pub(super)`, and types in tests, may repeat a name.

use crate::files::File;
use crate::source::Source;
use std::collections::BTreeMap;

/// Keywords that precede the name of a type.
const KINDS: [&str; 4] = ["struct", "enum", "trait", "type"];

/// Returns the public types that have the same name as an earlier public type, as `path:line: what`.
pub(crate) fn repeated(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for File { path, text } in files.iter().filter(|file| is_source(&file.path)) {
        for (at, row) in Source::new(text).shipped().lines().enumerate() {
            let Some(name) = public_type(row) else { continue };
            let here = format!("{path}:{}", at + 1);
            if let Some(other) = first.get(name) {
                problems
                    .push(format!("{here}: {other} defines a public type {name}, too: rename one"));
            } else {
                first.insert(name.to_owned(), here);
            }
        }
    }
    problems
}

/// Returns whether a file is Rust code in the folder `src` of a crate.
fn is_source(path: &str) -> bool {
    path.ends_with(".rs") && path.split('/').nth(1) == Some("src")
}

/// Returns the name of the public type whose definition begins in this line of code.
fn public_type(row: &str) -> Option<&str> {
    let rest = row.trim_start().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
    let (kind, rest) = rest.split_once(' ')?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (KINDS.contains(&kind) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let file = |&(path, text): &(&str, &str)| File { path: path.into(), text: text.into() };
        repeated(&files.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn two_public_types_of_one_name_are_named_with_their_lines() {
        for definition in
            ["enum A {}", "struct A<'a>(&'a str);", "unsafe trait A {}", "type A = u8;"]
        {
            let text = format!("//! B.\n\n    pub {definition}\n");
            let found = found(&[("common/src/a.rs", "pub struct A;\n"), ("b/src/c/d.rs", &text)]);
            let expected =
                "b/src/c/d.rs:3: common/src/a.rs:1 defines a public type A, too: rename one";
            assert_eq!(found, [expected], "{definition}");
        }
    }

    #[test]
    fn types_that_the_rule_does_not_cover_may_repeat_a_name() {
        for (path, text) in [
            (
                "b/src/a.rs",
                "pub(crate) struct A;\nstruct A;\n// pub struct A;\nlet a = \"pub enum A\";\n",
            ),
            ("b/src/a.rs", "pub fn a() {}\npub struct Abc;\npub const A: u8 = 1;\npub use c::A;\n"),
            ("b/src/a.rs", "#[cfg(test)]\nmod tests {\n    pub struct A;\n}\n"),
            ("b/tests/a.rs", "pub struct A;\n"),
            ("docs/src/a.md", "pub struct A;\n"),
        ] {
            let found = found(&[("common/src/a.rs", "pub struct A;\n"), (path, text)]);
            assert_eq!(found, Vec::<String>::new(), "{path}: {text}");
        }
    }
}
