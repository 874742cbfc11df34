//! Parser for Rust source. It separates code, string literals and tests, as the tidy rules need it.

use std::ops::Range;

/// A source file. Comments and the contents of literals are separated from the code.
#[derive(Debug)]
pub(crate) struct Source {
    /// The code. Spaces replace comments and the contents of literals, so that all offsets and lines are the same as in
    /// the file.
    pub(crate) code: String,
    /// The contents of string literals, as byte ranges of the file.
    pub(crate) strings: Vec<Range<usize>>,
}

impl Source {
    /// Parses a file that compiles. If a file does not compile, the result may be wrong, but there is no error.
    pub(crate) fn new(text: &str) -> Self {
        let mut source = Self { code: String::with_capacity(text.len()), strings: Vec::new() };
        while let Some(rest) = text.get(source.code.len()..).filter(|rest| !rest.is_empty()) {
            source.take_token(rest);
        }
        source
    }

    /// Returns the code, in which spaces replace the items under `#[cfg(test)]`.
    pub(crate) fn shipped(&self) -> String {
        let mut shipped = self.code.clone();
        while let Some(at) = shipped.find("#[cfg(test)]") {
            let tail = &shipped[at..];
            let end = match tail.find(['{', ';']) {
                Some(open) if tail[open..].starts_with('{') => at + open + closing(&tail[open..]),
                Some(semicolon) => at + semicolon + 1,
                None => shipped.len(),
            };
            shipped.replace_range(at..end, &blank(&shipped[at..end]));
        }
        shipped
    }

    fn take_token(&mut self, rest: &str) {
        let at = self.code.len();
        let after_word = self.code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            self.code.push_str(&blank(&rest[..end]));
        } else if rest.starts_with("/*") {
            self.code.push_str(&blank(&rest[..block_comment(rest)]));
        } else if let Some(inside) = string(rest).filter(|_| !after_word || rest.starts_with('"')) {
            self.strings.push(at + inside.start..at + inside.end);
            self.code.push_str(&rest[..inside.start]);
            self.code.push_str(&blank(&rest[inside.clone()]));
            self.code.extend(rest[inside.end..].chars().next());
        } else if let Some(length) = char_literal(rest) {
            self.code.push_str(&blank(&rest[..length]));
        } else {
            self.code.extend(rest.chars().next());
        }
    }
}

/// Replaces every byte except line ends by a space.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// Returns the length in bytes of the block comment at the start of `text`. The comment may contain nested comments.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let (step, change) = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            break;
        }
    }
    at.min(text.len())
}

/// Returns the byte range of the content of the string literal at the start of `text`. The literal may be a plain,
/// byte, C or raw string. `None` if `text` does not start with a string literal.
fn string(text: &str) -> Option<Range<usize>> {
    let prefix = text.find(|c: char| !matches!(c, 'b' | 'c' | 'r')).filter(|&at| at <= 2)?;
    let hashes = text[prefix..].bytes().take_while(|&byte| byte == b'#').count();
    let raw = text[..prefix].ends_with('r');
    let start = prefix + hashes + 1;
    if !text[prefix + hashes..].starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let end = if raw {
        text[start..].find(&format!("\"{}", "#".repeat(hashes)))
    } else {
        let mut escaped = false;
        text[start..].bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })
    };
    Some(start..start + end.unwrap_or(text.len() - start))
}

/// Returns the length in bytes of the character literal at the start of `text`. `None` if `text` starts with a lifetime
/// or something else.
fn char_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let from = if first == '\\' { 2 } else { first.len_utf8() };
    let end = inside.get(from..)?.find('\'')?;
    (first == '\\' || end == 0).then_some(1 + from + end + 1)
}

/// Returns the number of bytes up to and including the end of the group with which `code` starts. A group is enclosed
/// in braces, brackets or parentheses.
pub(crate) fn closing(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Returns the line number of an offset, counted from 1.
pub(crate) fn line(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = r##"let a = "x(é\""; // y(
/* z( /* { */ */ let b = r#"w("#; let c = '('; let d = '\''; fn f<'a>(e: &'a str) { b"(" }"##;
        let source = Source::new(text);
        assert_eq!(source.code.len(), text.len());
        assert_eq!(source.code.matches('(').count(), 1, "{}", source.code);
        let strings: Vec<_> = source.strings.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(strings, [r#"x(é\""#, "w(", "("]);
        assert!(source.code.contains("fn f<'a>(e: &'a str)"));
    }

    #[test]
    fn items_for_tests_are_not_shipped() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod t {\n fn b() { } }\nfn c() {}\n#[cfg(test)] use x;\n";
        let shipped = Source::new(text).shipped();
        assert!(shipped.contains("fn a()") && shipped.contains("fn c()"), "{shipped}");
        assert!(!shipped.contains("fn b()") && !shipped.contains("use x"), "{shipped}");
        assert_eq!(line(&shipped, shipped.find("fn c").unwrap()), 5);
    }
}
