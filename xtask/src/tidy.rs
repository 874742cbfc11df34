//! House rules. A program checks them, because reviewers would overlook violations. `cargo test` enforces them
//! (`tests/tidy.rs`).
//!
//! | rule | why |
//! |---|---|
//! | a source file begins with `//!` and has at most 500 lines | a reader learns its purpose and can read it whole |
//! | a module with a folder is `foo/mod.rs`, never `foo.rs` next to `foo/` | a folder holds all of its module |
//! | a file of `tests/` is a module of `tests/all.rs`, or a test of its own in `Cargo.toml` | no test is forgotten |
//! | no `unwrap()` outside tests | `expect("why it cannot fail")` states the reason |
//! | bincode is named in only one file, tch in only one crate | they can be replaced there (ADR 2, ADR 5) |
//! | messages begin in lower case and end without a full stop | they are parts of longer lines |
//! | no unfinished work, no path of one machine | the repository works on every machine |
//! | `docs/protocol.md` has the digest of the wire's source | who changes the wire must check the page |
//! | `docs/configuration.md` is generated from `config/default.toml` and up to date | each key is explained once |
//! | relative links in documents lead to existing files | files move |
//! | a citation of the mathematics names an existing page and section (`citations`) | readers can follow it |
//! | a test that a document names exists (`named_tests`) | a guarantee has a test |
//! | no two public types have one name (`type_names`) | a name says which type it is |

use crate::citations;
use crate::docs;
use crate::files::{File, Found};
use crate::named_tests;
use crate::source::{Source, closing, line};
use crate::type_names;
use anyhow::{Context as _, Result, bail, ensure};
use fs_err as fs;
use std::path::Path;

/// Maximum number of lines in a source file.
const LINES_MAX: usize = 500;
/// Folders that are not checked. Files and folders whose name begins with a dot are not checked either, except `.ci`.
const FOREIGN: &[&str] = &["target", "runs", "testdata", "results"];
/// Page in one of the [`FOREIGN`] folders. Its citations are checked nevertheless.
const GOLDENS_PAGE: &str = "testdata/goldens/README.md";
/// Files whose code the digest in [`PROTOCOL_PAGE`] covers.
const WIRE: &[&str] =
    &["common/src/wire/message.rs", "common/src/wire/handshake.rs", "common/src/wire/refusal.rs"];
/// Page that describes the wire protocol.
const PROTOCOL_PAGE: &str = "docs/protocol.md";
/// Texts directly before and directly after the digest in [`PROTOCOL_PAGE`].
const HASH_MARK: [&str; 2] = ["<!-- wire-source-hash: ", " -->"];

/// Checks all rules.
///
/// # Errors
/// Returns an error that lists all violations, as `path:line: what`. Also returns an error if a file cannot be read.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    ensure!(!files.is_empty(), "nothing to check in {}", root.display());
    let mut problems: Vec<String> = files.iter().flat_map(check_file).collect();
    problems.extend(files.iter().flat_map(|file| broken_links(root, file)));
    problems.extend(split_modules(&files));
    problems.extend(forgotten_tests(&files));
    problems.extend(type_names::repeated(&files));
    problems.extend(named_tests::missing(&files));
    let goldens = fs::read_to_string(root.join(GOLDENS_PAGE)).ok();
    files.extend(goldens.map(|text| File { path: GOLDENS_PAGE.into(), text }));
    problems.extend(citations::broken(&files));
    problems.extend(generated(root).err().map(|error| format!("{error:#}")));
    problems.extend(wire_is_documented(root).err().map(|error| format!("{error:#}")));
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} broken house rules (xtask/src/tidy.rs)\n{}", problems.len(), problems.join("\n"))
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci";
        if hidden || FOREIGN.contains(&name.as_str()) {
            continue;
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if is_text(&path) {
            let relative = path.strip_prefix(root).expect("found below the root");
            let relative = relative.to_string_lossy().replace('\\', "/");
            files.push(File { path: relative, text: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.map_or_else(
        || path.ends_with("Makefile") || path.ends_with(".ci/run"),
        |extension| ["rs", "md", "toml", "py", "txt", "yaml", "yml", "sh"].contains(&extension),
    )
}

fn check_file(file: &File) -> Vec<String> {
    let mut found = unfinished(&file.text);
    found.extend(machine_paths(&file.text));
    if file.path.ends_with("Cargo.toml") {
        found.extend(dependencies(file));
    }
    if file.path.ends_with(".rs") {
        let source = Source::new(&file.text);
        found.extend(opening_and_length(&file.text));
        found.extend(names_reserved(&file.path, &source.code));
        found.extend(messages(&file.text, &source));
        found.extend(placeholders(&source.code));
        let tests = ["tests/", "examples/", "benches/"];
        if !tests.iter().any(|folder| file.path.contains(folder)) {
            let shipped = source.shipped();
            let calls = shipped.match_indices(concat!(".unw", "rap()"));
            found.extend(calls.map(|(at, _)| {
                (line(&shipped, at), "unwrap: say with expect(...) why it cannot fail".into())
            }));
        }
    }
    found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", file.path)).collect()
}

fn opening_and_length(text: &str) -> Found {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push((1, "a source file opens with `//!` and says what it is for".into()));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push((lines, format!("{lines} lines, at most {LINES_MAX}: split it by idea")));
    }
    found
}

/// Finds marks of unfinished work in any text, including comments.
fn unfinished(text: &str) -> Found {
    let marks = [concat!("FIX", "ME"), concat!("X", "XX")];
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(at, line)| {
            let mark = marks.iter().find(|mark| {
                line.split(|c: char| !c.is_alphanumeric()).any(|word| word == **mark)
            })?;
            Some((at + 1, format!("{mark}: finish it, or say in the documents that it is pending")))
        })
        .collect()
}

/// Finds placeholder macros and ignored tests in code.
fn placeholders(code: &str) -> Found {
    let marks = ["todo!", "unimplemented!", "#[ignore"];
    let hits = marks.iter().flat_map(|mark| code.match_indices(mark));
    hits.map(|(at, mark)| (line(code, at), format!("{mark}: not on the main branch"))).collect()
}

/// Finds absolute paths that exist on one machine only.
fn machine_paths(text: &str) -> Found {
    let homes = [["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/wo", "rk/"]]
        .map(|parts| parts.concat());
    let own =
        |before: Option<char>| before.is_none_or(|c| !c.is_alphanumeric() && !"._-/~".contains(c));
    let hits = homes.iter().flat_map(|home| text.match_indices(home.as_str()));
    hits.filter(|(at, _)| own(text[..*at].chars().next_back()))
        .map(|(at, home)| (line(text, at), format!("{home}...: a path of one machine")))
        .collect()
}

/// Finds uses of bincode and tch outside of the file or crate that may use them.
fn names_reserved(path: &str, code: &str) -> Found {
    let mut found = Vec::new();
    for (name, place) in [("bincode", "common/src/wire/codec.rs"), ("tch", "learner/")] {
        if !path.starts_with(place)
            && let Some(at) = find_path(code, name)
        {
            found.push((line(code, at), format!("{name} is named in {place} only")));
        }
    }
    found
}

/// Returns the position of the first path in `code` that begins with `name::`.
fn find_path(code: &str, name: &str) -> Option<usize> {
    let hits = code.match_indices(name);
    hits.map(|(at, _)| at).find(|&at| {
        let before = code[..at].chars().next_back();
        let word = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        !word && code[at + name.len()..].starts_with("::")
    })
}

/// Finds dependencies on bincode and tch in the manifests of crates that must not use them. The manifest of the
/// workspace may name both, because it fixes their versions.
fn dependencies(file: &File) -> Found {
    let mut found = Vec::new();
    for (name, place) in [("bincode", "common/"), ("tch", "learner/")] {
        if file.path == "Cargo.toml" || file.path.starts_with(place) {
            continue;
        }
        let is_it = |line: &str| line.split(['.', '=', ' ']).next() == Some(name);
        let hits = file.text.lines().enumerate().filter(|(_, line)| is_it(line));
        found.extend(hits.map(|(at, _)| (at + 1, format!("only {place} depends on {name}"))));
    }
    found
}

/// Finds messages of logs and errors that break a rule of [`message_problem`].
fn messages(text: &str, source: &Source) -> Found {
    let openers =
        ["trace!(", "debug!(", "info!(", "warn!(", "error!(", "bail!(", "anyhow!(", "#[error("];
    let mut found = Vec::new();
    for opener in openers {
        for (at, _) in source.code.match_indices(opener) {
            let open = at + opener.len() - 1;
            let end = open + closing(&source.code[open..]);
            let depth_one = |from: usize| {
                let before = &source.code[open + 1..from];
                let ends = before.trim_end();
                before.matches(['(', '[', '{']).count() == before.matches([')', ']', '}']).count()
                    && (ends.len() <= 1 || ends.trim_end_matches('"').trim_end().ends_with(','))
            };
            let mut inside =
                source.strings.iter().filter(|range| open < range.start && range.end < end);
            if let Some(range) = inside.find(|range| depth_one(range.start))
                && let Some(problem) = message_problem(&text[range.clone()])
            {
                found.push((line(text, range.start), problem.into()));
            }
        }
    }
    found
}

/// Returns what is wrong with a message. A message may begin with a capital letter only if it begins with a name, such
/// as `SIGTERM`, `I/O` or `TensorBoard`.
fn message_problem(message: &str) -> Option<&'static str> {
    let first = message.split_whitespace().next()?;
    let mut letters = first.chars();
    let capital = letters.next().is_some_and(char::is_uppercase);
    let plain = letters.all(|c| c.is_lowercase() || c == '\'' || c == ',');
    if capital && plain && first.len() > 1 {
        Some("a message begins in lower case: it may follow a colon")
    } else if message.ends_with('.') && !message.ends_with("..") {
        Some("a message ends without a full stop: something may follow")
    } else {
        None
    }
}

/// Returns a problem for each module whose file is next to the module's folder instead of in it.
fn split_modules(files: &[File]) -> Vec<String> {
    let paths: Vec<&str> =
        files.iter().map(|file| file.path.as_str()).filter(|path| path.ends_with(".rs")).collect();
    let modules = paths.iter().filter_map(|path| path.strip_suffix(".rs"));
    modules
        .filter(|module| {
            paths
                .iter()
                .any(|path| path.strip_prefix(module).is_some_and(|inside| inside.starts_with('/')))
        })
        .map(|module| {
            format!("{module}.rs:1: move it to {module}/mod.rs: one style for all modules")
        })
        .collect()
}

/// Returns a problem for each test file that cargo would not compile. This is the case if neither the program
/// `tests/all.rs` nor `Cargo.toml` names the file.
fn forgotten_tests(files: &[File]) -> Vec<String> {
    let text = |path: &str| {
        files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    };
    let tests = files.iter().filter_map(|file| {
        let (package, rest) = file.path.split_once("/tests/")?;
        let name = rest.strip_suffix("/mod.rs").or(rest.strip_suffix(".rs"))?;
        (!name.contains('/')).then_some((&file.path, package, name))
    });
    tests
        .filter(|(_, package, name)| {
            let program = text(&format!("{package}/tests/all.rs"));
            let manifest = text(&format!("{package}/Cargo.toml"));
            let is_listed = program.lines().any(|line| line == format!("mod {name};"))
                || manifest.contains(&format!("[[test]]\nname = \"{name}\"\n"));
            manifest.contains("autotests = false") && !is_listed
        })
        .map(|(path, package, _)| {
            format!("{path}:1: no program runs it: name it in {package}/tests/all.rs")
        })
        .collect()
}

fn broken_links(root: &Path, file: &File) -> Vec<String> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = root.join(&file.path).parent().map(Path::to_owned).unwrap_or_default();
    let hits = file.text.match_indices("](");
    hits.filter_map(|(at, mark)| {
        let target = file.text[at + mark.len()..].split(')').next()?;
        let path = target.split('#').next()?;
        let elsewhere = path.is_empty() || target.contains("://") || target.starts_with("mailto:");
        (!elsewhere && !folder.join(path).exists())
            .then(|| format!("{}:{}: {target} leads nowhere", file.path, line(&file.text, at)))
    })
    .collect()
}

fn generated(root: &Path) -> Result<()> {
    let found = fs::read_to_string(root.join(docs::PAGE)).unwrap_or_default();
    ensure!(found == docs::configuration(root)?, "{}: out of date, run `make docs`", docs::PAGE);
    Ok(())
}

fn wire_is_documented(root: &Path) -> Result<()> {
    let page = fs::read_to_string(root.join(PROTOCOL_PAGE))?;
    let [before, after] = HASH_MARK;
    let found = page.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    let (found, _) =
        found.with_context(|| format!("{PROTOCOL_PAGE}: no line {before}...{after}"))?;
    let digest = wire_digest(root)?;
    ensure!(
        found == digest,
        "{PROTOCOL_PAGE}: the wire's source has changed ({}). Bring the page up to date; if bytes changed, raise \
         PROTOCOL_VERSION, renew the golden bytes and write it into CHANGELOG.md. Then put this line there:\n\
         {before}{digest}{after}",
        WIRE.join(", ")
    );
    Ok(())
}

/// Returns the digest of the code in [`WIRE`]. Comments and layout are left out, because they do not affect the wire.
fn wire_digest(root: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for path in WIRE {
        let source = Source::new(&fs::read_to_string(root.join(path))?);
        let code: String = source.shipped().split_whitespace().collect();
        hasher.update(code.as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check_file(&File { path: path.into(), text: text.into() })
    }

    #[test]
    fn a_file_that_keeps_every_rule_passes() {
        let text = "//! What it is for.\n\nfn f() {\n    warn!(%error, \"cannot read\");\n}\n\n\
                    #[cfg(test)]\nmod tests {\n    fn t() { x.unwrap(); }\n}\n";
        assert_eq!(found("common/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named_with_its_line() {
        let cases = [
            ("fn f() {}\n".into(), "a.rs:1: a source file opens"),
            (format!("//! A.\n{}", "\n".repeat(500)), "a.rs:501: 501 lines"),
            ("//! A.\nfn f() { x.unwrap(); }\n".into(), "a.rs:2: unwrap"),
            ("//! A.\nuse bincode::config;\n".into(), "a.rs:2: bincode is named in"),
            ("//! A.\nlet t = tch::Tensor::new();\n".into(), "a.rs:2: tch is named in"),
            (format!("//! A.\n// {}: later\n", concat!("FIX", "ME")), "a.rs:2: "),
            ("//! A.\nfn f() { todo!() }\n".into(), "a.rs:2: todo!"),
            (format!("//! A.\n// see {}b/c\n", concat!("/ho", "me/")), "a.rs:2: "),
            ("//! A.\nwarn!(\n a,\n \"Cannot read\");\n".into(), "a.rs:4: a message begins"),
            ("//! A.\n#[error(\"no {0}.\")]\n".into(), "a.rs:2: a message ends"),
        ];
        for (text, expected) in cases {
            let found = found("a.rs", &text);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn comments_strings_and_names_are_not_taken_for_breaches() {
        let fine = "//! Pins bincode::config and tch::Tensor.\nlet a = \"bincode::x\"; info!(\"SIGTERM again\");\n\
                    info!(name = \"Big.\", \"started\"); /* todo!() */ let batch = b::Tch; catch::all();\n";
        assert_eq!(found("actor-node/src/a.rs", fine), Vec::<String>::new());
        let test = "//! A.\nfn f() { x.unwrap(); }\n";
        assert_eq!(found("common/tests/a.rs", test), Vec::<String>::new());
    }

    #[test]
    fn only_their_crates_depend_on_bincode_and_tch() {
        assert_eq!(found("common/Cargo.toml", "bincode.workspace = true\n").len(), 0);
        assert_eq!(found("learner/Cargo.toml", "bincode.workspace = true\n").len(), 1);
        assert_eq!(found("cluster/Cargo.toml", "tch = \"1\"\n").len(), 1);
    }
}
