//! Java's `.properties` files, as far as `java.util.Properties` reads them: comments, continued lines, escapes, and
//! `=`, `:` or white space after the key.

use std::iter::Peekable;
use std::str::Chars;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins, from 1.
    pub line: usize,
    /// The key, escapes resolved.
    pub key: String,
    /// The value, escapes resolved; empty when there is none.
    pub value: String,
}

/// The text of a file: UTF-8, or ISO 8859-1 as Java wrote it for long.
#[must_use]
pub fn decode(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
    }
}

/// Every entry, in the order of the file. Any text is one; nothing is an error.
#[must_use]
pub fn parse(text: &str) -> Vec<Entry> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').enumerate();
    let mut entries = Vec::new();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches(is_space);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while is_continued(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start_matches(is_space));
        }
        let mut chars = whole.chars().peekable();
        let key = take(&mut chars, |c| is_space(c) || c == '=' || c == ':');
        skip_spaces(&mut chars);
        if chars.next_if(|&c| c == '=' || c == ':').is_some() {
            skip_spaces(&mut chars);
        }
        let value = take(&mut chars, |_| false);
        entries.push(Entry { line: index + 1, key, value });
    }
    entries
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// An odd number of backslashes at the end: the last one is not escaped.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

fn skip_spaces(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|&c| is_space(c)).is_some() {}
}

/// Text with its escapes resolved, up to a character that ends it and is not escaped.
fn take(chars: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> String {
    // Escapes name UTF-16 units, and a character may take two of them.
    let mut units: Vec<u16> = Vec::new();
    let push = |units: &mut Vec<u16>, c: char| units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    while let Some(c) = chars.next_if(|&c| !ends(c)) {
        if c != '\\' {
            push(&mut units, c);
            continue;
        }
        match chars.next() {
            Some('t') => push(&mut units, '\t'),
            Some('n') => push(&mut units, '\n'),
            Some('r') => push(&mut units, '\r'),
            Some('f') => push(&mut units, '\x0c'),
            Some('u') => match unit(chars) {
                Some(unit) => units.push(unit),
                None => push(&mut units, 'u'),
            },
            Some(c) => push(&mut units, c),
            None => {}
        }
    }
    String::from_utf16_lossy(&units)
}

/// The four hexadecimal digits after `\u`; takes nothing when they are not there.
fn unit(chars: &mut Peekable<Chars<'_>>) -> Option<u16> {
    let digits: String = chars.clone().take(4).collect();
    let is_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let unit = is_hex.then(|| u16::from_str_radix(&digits, 16).ok())??;
    chars.nth(3);
    Some(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).into_iter().map(|e| (e.key, e.value)).collect()
    }

    fn one(text: &str, key: &str, value: &str) {
        assert_eq!(pairs(text), [(key.to_owned(), value.to_owned())], "{text:?}");
    }

    #[test]
    fn keys_end_at_a_separator() {
        for text in ["a=b", "a = b", "a:b", "a : b", "a b", "  a\t=\tb", "\x0ca=b", "a=b\r\n", "a=b\r"] {
            one(text, "a", "b");
        }
        one("db.host=mongodb://u:p@h:1/?a=b", "db.host", "mongodb://u:p@h:1/?a=b");
        one("a", "a", "");
        one("a==b", "a", "=b");
        one("a=b  ", "a", "b  ");
        one(r"a\:b\=c\ d = e", "a:b=c d", "e");
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over() {
        assert_eq!(pairs("# a=b\\\n! c=d\n\n   \n  # e\n"), []);
        let entries = parse("\n# x\nk=v\n");
        assert_eq!(entries.first().map(|e| e.line), Some(3));
    }

    #[test]
    fn lines_are_continued() {
        one("hosts=a,\\\n      b,\\\r\n\tc", "hosts", "a,b,c");
        one("a=b\\", "a", "b");
        assert_eq!(pairs("a=b\\\\\nc=d").len(), 2);
        // A comment cannot stand inside of a value.
        one("a=b\\\n# c", "a", "b# c");
    }

    #[test]
    fn escapes_are_resolved() {
        one(r"a=\t\n\r\f\\\x\u0041\u00e9", "a", "\t\n\r\x0c\\xAé");
        one(r"a=\ud83d\ude00", "a", "\u{1F600}");
        one(r"a=\u12", "a", "u12");
        one(r"a=\ud83d", "a", "\u{FFFD}");
    }

    #[test]
    fn bytes_are_utf8_or_latin1() {
        assert_eq!(decode("\u{feff}a=é".as_bytes()), "a=é");
        assert_eq!(decode(b"a=\xe9"), "a=é");
    }

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        for unit in text.encode_utf16() {
            match char::from_u32(u32::from(unit)) {
                Some(c) if c.is_ascii_alphanumeric() => out.push(c),
                Some(c) if c.is_ascii_punctuation() => out.extend(['\\', c]),
                _ => out.push_str(&format!("\\u{unit:04x}")),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = decode(&bytes);
            prop_assert!(parse(&text).len() <= text.len() + 1);
        }

        #[test]
        fn what_is_escaped_comes_back(key in "\\PC{1,20}", value in any::<String>()) {
            let text = format!("x=1\n {} = {}\ny=2", escaped(&key), escaped(&value));
            let entries = pairs(&text);
            prop_assert_eq!(&entries[1], &(key, value));
        }
    }
}
