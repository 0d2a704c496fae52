//! Objects as YAML text: the same object always gives the same text.
//!
//! For the definitions that are kept in files. It is not a general writer: what it is given is JSON.

use serde_json::Value;

/// One YAML document, beginning with `---`. The order of keys is that of the value.
pub fn document(value: &Value) -> String {
    let mut text = String::from("---\n");
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                indent(depth, text);
                text.push_str(&scalar(name));
                text.push(':');
                below(field, depth + 1, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(depth, text);
                text.push('-');
                match item {
                    // The first field stands behind the dash, so its own indentation is left out.
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        text.push(' ');
                        text.push_str(inner.trim_start_matches(' '));
                    }
                    _ => below(item, depth + 1, text),
                }
            }
        }
        _ => {
            text.push_str(&scalar_of(value));
            text.push('\n');
        }
    }
}

fn below(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            block(value, depth, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(value, depth, text);
        }
        _ => {
            text.push(' ');
            text.push_str(&scalar_of(value));
            text.push('\n');
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn scalar_of(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        // `{}`, `[]`, numbers, `true` and `null` are the same in JSON and YAML.
        other => other.to_string(),
    }
}

/// Text without quotes where every YAML reader, also one of version 1.1, takes it for that text; else as JSON, which YAML reads.
fn scalar(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./ ".contains(&byte))
        && !text.ends_with(' ')
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_lists_and_text_that_looks_like_something_else() {
        let value = json!({
            "a": { "b": [1, "two", { "c": true, "d": [] }, ["nested"]] },
            "empty": {},
            "$key": "no",
            "text": "a: b\n\"c\"",
            "number": "1.0",
            "plain": "some words",
        });
        assert_eq!(
            document(&value),
            "---\na:\n  b:\n    - 1\n    - two\n    - c: true\n      d: []\n    -\n      - nested\nempty: {}\n\"$key\": \"no\"\n\
             text: \"a: b\\n\\\"c\\\"\"\nnumber: \"1.0\"\nplain: some words\n"
        );
    }
}
