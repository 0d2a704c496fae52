//! Secrets that are known by their form in running text: URIs with passwords, headers, `name = value`, keys, tokens.

use regex::{Captures, Regex};

use super::redact::MARK;
use super::words::{looks_secret, looks_secret_in_query, takes_the_line};

/// The forms, compiled.
pub(super) struct Forms {
    key_block: Regex,
    user_info: Regex,
    web_token: Regex,
    cloud_key: Regex,
    bearer: Regex,
    basic: Regex,
    flag: Regex,
    name: Regex,
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file, each run by its tests")
}

impl Forms {
    pub(super) fn new() -> Forms {
        Forms {
            // A block without an end is secret up to the end of the text.
            key_block: compiled(
                r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
            ),
            // Up to the last @: passwords are not always encoded.
            user_info: compiled(r#"(?i)\b([a-z][a-z0-9+.\-]*:(?:\\?/){2})[^\s"<>]*@"#),
            web_token: compiled(r"\beyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)?"),
            cloud_key: compiled(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
            bearer: compiled(r"(?i)\b(bearer[ \t]+)\S+"),
            basic: compiled(r"(?i)\b((?:basic|digest|negotiate)[ \t]+)[A-Za-z0-9+/_\-]{8,}=*"),
            flag: compiled(r"(--?[A-Za-z][A-Za-z0-9\-_]*)([ \t]+)([^\s\-]\S*)"),
            name: compiled(r#"([?&;]?)([A-Za-z_.][A-Za-z0-9_.\-]*)(\\*["']?[ \t]*(?:=>|[:=])\s*)"#),
        }
    }

    /// Takes all of them out.
    pub(super) fn text(&self, text: &str) -> String {
        let text = self.keys(text);
        let text = self.user_info.replace_all(&text, |found: &Captures<'_>| format!("{}{MARK}@", &found[1]));
        let text = self.web_token.replace_all(&text, MARK);
        let text = self.cloud_key.replace_all(&text, MARK);
        // Before schemes: a header's value is taken out whole.
        let text = self.named(&text);
        let text = self.bearer.replace_all(&text, |found: &Captures<'_>| format!("{}{MARK}", &found[1]));
        let text = self.basic.replace_all(&text, |found: &Captures<'_>| format!("{}{MARK}", &found[1]));
        let text = self.flag.replace_all(&text, |found: &Captures<'_>| {
            if looks_secret(&found[1]) {
                format!("{}{}{MARK}", &found[1], &found[2])
            } else {
                found[0].to_owned()
            }
        });
        text.into_owned()
    }

    /// Private keys in PEM.
    pub(super) fn keys(&self, text: &str) -> String {
        self.key_block.replace_all(text, MARK).into_owned()
    }

    /// `name = value`, `name: value`, `"name":"value"`, `name="value"`, where the name is a secret's.
    fn named(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|rest| self.name.captures(rest)) {
            let (Some(whole), Some(name)) = (found.get(0), found.get(2)) else { break };
            let begin = from + whole.end();
            let rest = text.get(begin..).unwrap_or_default();
            clean.push_str(text.get(from..begin).unwrap_or_default());
            from = begin;
            let in_query = found.get(1).is_some_and(|before| !before.is_empty());
            let secret =
                if in_query { looks_secret_in_query(name.as_str()) } else { looks_secret(name.as_str()) };
            // `tokens::verify` is a path of code, `token://` a scheme.
            let separator = found.get(3).map(|separator| separator.as_str()).unwrap_or_default();
            let is_path = separator == ":" && (rest.starts_with(':') || rest.starts_with("//"));
            if secret && !is_path {
                let length = if takes_the_line(name.as_str()) { line_value(rest) } else { value(rest) };
                if length > 0 {
                    clean.push_str(MARK);
                }
                from = begin + length;
            }
        }
        clean.push_str(text.get(from..).unwrap_or_default());
        clean
    }
}

/// How long a header's value is: to the end of its quotes, else of its line.
fn line_value(text: &str) -> usize {
    match quoted(text) {
        Some(length) => length,
        None => text.find('\n').unwrap_or(text.len()),
    }
}

/// How long the value at the beginning of a text is: with its quotes, or up to white space; a block of YAML whole.
fn value(text: &str) -> usize {
    if let Some(length) = block(text) {
        return length;
    }
    let word = text.find(char::is_whitespace).unwrap_or(text.len());
    let start = match quoted(text) {
        Some(length) => length,
        // As Rust prints options: Some("a value").
        None => match text.get(..word).and_then(|word| word.find('(')) {
            Some(open) => {
                let inner = text.get(open + 1..).unwrap_or_default();
                quoted(inner).map_or(word, |length| open + 1 + length)
            }
            None => word,
        },
    };
    // What is joined to it belongs to it: rather too much than too little.
    let rest = text.get(start..).unwrap_or_default();
    start + rest.find(char::is_whitespace).unwrap_or(rest.len())
}

/// The length of quoted text, its quotes with it, when there is one at the beginning. Without a closing quote it is the line.
fn quoted(text: &str) -> Option<usize> {
    for triple in ["\"\"\"", "'''"] {
        if let Some(inner) = text.strip_prefix(triple) {
            return Some(inner.find(triple).map_or(text.len(), |end| end + 2 * triple.len()));
        }
    }
    // Quotes in quoted text have backslashes in front: as many close as open.
    let slashes = text.bytes().take_while(|byte| *byte == b'\\').count();
    let quote = text.as_bytes().get(slashes).copied().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let line = text.find('\n').unwrap_or(text.len());
    let mut run = 0;
    for (index, byte) in text.bytes().enumerate().take(line).skip(slashes + 1) {
        match byte {
            b'\\' => run += 1,
            // Among quotes without backslashes, an even number of them is text of its own; single quotes know none.
            byte if byte == quote
                && (run == slashes || (slashes == 0 && (run % 2 == 0 || quote == b'\''))) =>
            {
                return Some(index + 1);
            }
            _ => run = 0,
        }
    }
    Some(line)
}

/// The length of a block of YAML (`|` or `>`, then lines that are indented), when there is one at the beginning.
fn block(text: &str) -> Option<usize> {
    let head = text.find('\n')?;
    let style = text.get(..head)?.trim_end();
    if !matches!(style, "|" | ">" | "|-" | ">-" | "|+" | ">+") {
        return None;
    }
    let mut end = head;
    for line in text.get(head + 1..)?.split('\n') {
        if !line.starts_with([' ', '\t']) && !line.is_empty() {
            break;
        }
        end += 1 + line.len();
    }
    Some(end.min(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(text: &str) -> String {
        Forms::new().text(text)
    }

    #[test]
    fn each_form_is_known() {
        for (text, expected) in [
            ("to mongodb://u:p@ss/w@db.x:27017/a?b=c", "to mongodb://(redacted)@db.x:27017/a?b=c"),
            ("at rtmp://h/live/cam?token=abc&x=1 now", "at rtmp://h/live/cam?token=(redacted) now"),
            ("GET /a?key=abc HTTP/1.1", "GET /a?key=(redacted) HTTP/1.1"),
            ("authorization: Basic YWJj ZGVm\nnext: x", "authorization: (redacted)\nnext: x"),
            ("\"Authorization\": \"Digest a, b\", \"x\": 1", "\"Authorization\": (redacted), \"x\": 1"),
            ("sent Bearer abc.def to it", "sent Bearer (redacted) to it"),
            ("sent Basic dXNlcjpwYXNz to it", "sent Basic (redacted) to it"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln end", "jwt (redacted) end"),
            ("id AKIAABCDEFGHIJKLMNOP end", "id (redacted) end"),
            ("run --admin-token abc --port 80", "run --admin-token (redacted) --port 80"),
            ("run --admin-token=abc --port=80", "run --admin-token=(redacted) --port=80"),
            ("cluster_key = \"a b \\\" c\"\nport = 1", "cluster_key = (redacted)\nport = 1"),
            ("cluster_key = '''a\nb'''\nport = 1", "cluster_key = (redacted)\nport = 1"),
            ("password: |-\n  a\n\n  b\nport: 1", "password: (redacted)\nport: 1"),
            ("token: Some(\"a b\"), x: 1", "token: (redacted) x: 1"),
            ("{\\\"token\\\":\\\"a b\\\", \\\"x\\\":1}", "{\\\"token\\\":(redacted) \\\"x\\\":1}"),
            ("password='it\\' x", "password=(redacted) x"),
            ("-----BEGIN PRIVATE KEY-----\nabc", "(redacted)"),
            ("a -----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY----- b", "a (redacted) b"),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none_stays() {
        for text in [
            "2026-01-01T00:00:00Z INFO sluice_api::tokens::verify: 3 streams, 5 viewers",
            "node_id = \"demo-origin-0\"",
            "cluster_key_file = \"/etc/sluice/secrets/cluster-key\"",
            "image: ghcr.io/sluice-media/sluice-node:0.1.0",
            "rtmp://demo-origin.media:1935/{app}/{stream}",
            "stream live/cam1 is live: 2.4 Mbit/s from 10.0.0.7:51234",
            "--config /etc/sluice/node.toml",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    proptest! {
        #[test]
        fn a_quoted_secret_goes_whole_whatever_is_in_it(before in any::<String>(), after in any::<String>()) {
            let secret = serde_json::Value::String(format!("{before}PLANTED{after}")).to_string();
            for text in [
                format!("x {{\"password\":{secret},\"y\":1}} z"),
                format!("store_password = {secret}"),
                format!("got Config {{ admin_token: {secret}, port: 1 }}"),
                // Once more in a text.
                format!("said {}", serde_json::Value::String(format!("{{\"api-key\": {secret} }}"))),
            ] {
                prop_assert!(!clean(&text).contains("PLANTED"), "{}", clean(&text));
            }
        }
    }
}
