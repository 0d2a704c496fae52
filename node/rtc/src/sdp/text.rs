//! The lines of a description (RFC 8866), cut but not yet understood.
//!
//! Only what WebRTC uses is kept: media lines and attributes. The rest is passed over, as are attributes that nobody
//! here knows.

use super::SdpError;

/// The longest description that is read, in bytes.
pub(crate) const LONGEST: usize = 64 * 1024;
/// The most media sections.
pub(super) const MOST_SECTIONS: usize = 64;
/// The most formats of a media section.
const MOST_FORMATS: usize = 200;

/// `a=name:value`; without a value it is empty.
pub(super) type Attribute<'a> = (&'a str, &'a str);

/// A description, cut into lines.
#[derive(Debug)]
pub(super) struct Description<'a> {
    /// Attributes of the session.
    pub(super) attributes: Vec<Attribute<'a>>,
    /// The media sections.
    pub(super) sections: Vec<Section<'a>>,
}

/// A media section, cut into lines.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// `audio`, `video`, `application` or something else.
    pub(super) kind: &'a str,
    /// The port; 0 says rejected (or bundle-only).
    pub(super) port: u16,
    /// The profile, such as `UDP/TLS/RTP/SAVPF`.
    pub(super) proto: &'a str,
    /// The formats: payload types, or a word.
    pub(super) formats: Vec<&'a str>,
    /// Its attributes.
    pub(super) attributes: Vec<Attribute<'a>>,
}

pub(super) fn unusable(why: impl Into<String>) -> SdpError {
    SdpError::Unusable(why.into())
}

impl<'a> Description<'a> {
    /// Cuts a description.
    pub(super) fn parse(text: &'a str) -> Result<Self, SdpError> {
        if text.len() > LONGEST {
            return Err(unusable(format!("it has more than {LONGEST} bytes")));
        }
        let mut description = Description { attributes: Vec::new(), sections: Vec::new() };
        let lines = text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty());
        for (nth, (number, line)) in lines.enumerate() {
            let (letter, value) = match line.split_once('=') {
                Some((letter, value)) if letter.len() == 1 => (letter, value),
                _ => return Err(unusable(format!("line {} is not of the form x=…", number + 1))),
            };
            match letter {
                "v" if nth == 0 && value.trim() == "0" => {}
                _ if nth == 0 => return Err(unusable("it does not begin with v=0")),
                "m" if description.sections.len() == MOST_SECTIONS => {
                    return Err(unusable(format!("it has more than {MOST_SECTIONS} media sections")));
                }
                "m" => description.sections.push(Section::parse(value)?),
                "a" => {
                    let attribute = value.split_once(':').unwrap_or((value, ""));
                    let list = match description.sections.last_mut() {
                        Some(section) => &mut section.attributes,
                        None => &mut description.attributes,
                    };
                    list.push((attribute.0.trim(), attribute.1.trim()));
                }
                _ => {}
            }
        }
        if description.sections.is_empty() {
            return Err(unusable("it has no media section (m=)"));
        }
        Ok(description)
    }

    /// The first value of an attribute of the session.
    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        find(&self.attributes, name)
    }
}

impl<'a> Section<'a> {
    fn parse(line: &'a str) -> Result<Self, SdpError> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(port), Some(proto)) = (words.next(), words.next(), words.next()) else {
            return Err(unusable("a media line lacks its kind, port or protocol"));
        };
        let port = port.split('/').next().unwrap_or_default();
        let port = port.parse().map_err(|_| unusable("the port of a media line is not a number"))?;
        let formats: Vec<_> = words.by_ref().take(MOST_FORMATS).collect();
        if words.next().is_some() {
            return Err(unusable(format!("a media section has more than {MOST_FORMATS} formats")));
        }
        Ok(Section { kind, port, proto, formats, attributes: Vec::new() })
    }

    /// The first value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        find(&self.attributes, name)
    }

    /// Whether an attribute is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }
}

/// The first value of an attribute.
pub(super) fn find<'a>(attributes: &[Attribute<'a>], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lines_whatever_ends_them() {
        for end in ["\r\n", "\n"] {
            let text = [
                "v=0",
                "o=- 1 1 IN IP4 0.0.0.0",
                "s=-",
                "t=0 0",
                "a=ice-lite",
                "m=audio 9/2 X 0 8",
                "a=mid:x",
                "",
            ]
            .join(end);
            let d = Description::parse(&text).unwrap();
            assert_eq!(d.attributes, [("ice-lite", "")]);
            let s = &d.sections[0];
            assert_eq!((s.kind, s.port, s.proto), ("audio", 9, "X"));
            assert_eq!((s.formats.as_slice(), s.attribute("mid")), (&["0", "8"][..], Some("x")));
        }
    }

    #[test]
    fn refuses_what_is_no_description() {
        let many = format!("v=0\n{}", "m=audio 9 X 0\n".repeat(MOST_SECTIONS + 1));
        let wide = format!("v=0\nm=audio 9 X{}\n", " 0".repeat(MOST_FORMATS + 1));
        let long = format!("v=0\nm=audio 9 X 0\n{}", "a=x:y\n".repeat(LONGEST / 6));
        for (text, why) in [
            ("", "no media section"),
            ("hello", "line 1"),
            ("v=1\nm=audio 9 X 0", "v=0"),
            ("m=audio 9 X 0\n", "v=0"),
            ("v=0\ns=-\n", "no media section"),
            ("v=0\nm=audio\n", "lacks"),
            ("v=0\nm=audio 70000 X 0\n", "port"),
            ("v=0\nnonsense\n", "line 2"),
            (&many, "more than 64"),
            (&wide, "more than 200"),
            (&long, "bytes"),
        ] {
            let error = Description::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error} should say {why}");
        }
    }
}
