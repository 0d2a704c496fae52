//! Fragments of descriptions (`application/trickle-ice-sdpfrag`, RFC 8840): candidates that come later, and the
//! credentials of an ICE restart.

use super::text::{LONGEST, unusable};
use super::transport::is_ice;
use super::write::candidates;
use super::{Local, SdpError};
use crate::agreed::IceCredentials;

/// The most candidates of a fragment.
const MOST_CANDIDATES: usize = 256;

/// What a fragment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The other side's credentials; new ones are an ICE restart.
    pub ice: Option<IceCredentials>,
    /// How many candidates it has. An ICE-lite side has no use for them: it learns the ways from checks that come.
    pub candidates: usize,
    /// Whether no more candidates will come.
    pub ended: bool,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// It is too long, or a line is not of the form that it should have.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > LONGEST {
            return Err(unusable(format!("the fragment has more than {LONGEST} bytes")));
        }
        let mut fragment = Fragment::default();
        let (mut ufrag, mut pwd) = (None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some(("a" | "m" | "c" | "v" | "o" | "s" | "t", value)) = line.split_once('=') else {
                return Err(unusable("a line of the fragment is neither an attribute nor a media line"));
            };
            let (name, value) = value.split_once(':').unwrap_or((value, ""));
            match name {
                "ice-ufrag" => ufrag = ufrag.or(Some(value)),
                "ice-pwd" => pwd = pwd.or(Some(value)),
                "candidate" if !is_candidate(value) => {
                    return Err(unusable("a candidate of the fragment is not of the form of RFC 8839"));
                }
                "candidate" if fragment.candidates == MOST_CANDIDATES => {
                    return Err(unusable(format!("the fragment has more than {MOST_CANDIDATES} candidates")));
                }
                "candidate" => fragment.candidates += 1,
                "end-of-candidates" => fragment.ended = true,
                _ => {}
            }
        }
        fragment.ice = match (ufrag, pwd) {
            (None, None) => None,
            (Some(ufrag), Some(pwd)) if is_ice(ufrag, 4) && is_ice(pwd, 22) => {
                Some(IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
            }
            _ => {
                return Err(unusable(
                    "the fragment's ICE credentials (a=ice-ufrag, a=ice-pwd) are incomplete",
                ));
            }
        };
        Ok(fragment)
    }
}

/// `foundation component transport priority address port typ type …`
fn is_candidate(value: &str) -> bool {
    let words: Vec<&str> = value.split_ascii_whitespace().take(8).collect();
    let [foundation, component, transport, priority, address, port, "typ", kind] = words[..] else {
        return false;
    };
    (1..=32).contains(&foundation.len())
        && component.parse::<u16>().is_ok()
        && transport.len() <= 8
        && priority.parse::<u32>().is_ok()
        && address.len() <= 255
        && port.parse::<u16>().is_ok()
        && ["host", "srflx", "prflx", "relay"].contains(&kind)
}

/// Our side of an ICE restart: new credentials and the candidates, for the section `mid` that speaks for the bundle.
pub fn restart(local: &Local, video: bool, mid: &str) -> String {
    let kind = if video { "video" } else { "audio" };
    let mut lines = vec![
        "a=ice-lite".to_owned(),
        "a=ice-options:trickle ice2".to_owned(),
        format!("a=group:BUNDLE {mid}"),
        format!("m={kind} 9 UDP/TLS/RTP/SAVPF 0"),
        format!("a=mid:{mid}"),
        format!("a=ice-ufrag:{}", local.ice.ufrag),
        format!("a=ice-pwd:{}", local.ice.pwd),
    ];
    lines.extend(candidates(local));
    lines.push(String::new());
    lines.join("\r\n")
}
