//! The one transport of a session: BUNDLE (RFC 9143), ICE (RFC 8839), DTLS (RFC 8842).

use super::SdpError;
use super::media::{Direction, Kind, Media};
use super::text::{Description, find, unusable};
use crate::agreed::{DtlsRole, Fingerprint, IceCredentials, RemoteTransport};

/// A description whose sections are understood.
pub(super) struct Remote<'a> {
    /// Its transport, when a section is there to use it.
    pub(super) transport: RemoteTransport,
    /// Its sections.
    pub(super) sections: Vec<Media<'a>>,
    /// Which of them are on the transport.
    pub(super) bundled: Vec<bool>,
    /// Whether it names its bundle.
    pub(super) names_bundle: bool,
    /// `a=extmap-allow-mixed` of the session.
    pub(super) allow_mixed: bool,
}

/// Which side wrote a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Offer,
    Answer,
    /// The answer of one whom we call: it may be ICE-lite.
    AnswerToCall,
}

impl<'a> Remote<'a> {
    /// Reads a description.
    pub(super) fn read(text: &'a str, wrote: Wrote) -> Result<Self, SdpError> {
        let description = Description::parse(text)?;
        let direction = ["sendrecv", "sendonly", "recvonly", "inactive"];
        let session = direction.iter().find(|name| find(&description.attributes, name).is_some());
        let session = session.map(|name| match *name {
            "sendonly" => Direction::SendOnly,
            "recvonly" => Direction::RecvOnly,
            "inactive" => Direction::Inactive,
            _ => Direction::SendRecv,
        });
        let sections: Vec<Media<'a>> =
            description.sections.iter().map(|s| Media::read(s, session)).collect::<Result<_, _>>()?;
        for (i, media) in sections.iter().enumerate() {
            if media.mid.is_some() && sections[..i].iter().any(|other| other.mid == media.mid) {
                return Err(unusable("two media sections have the same name (a=mid)"));
            }
        }
        let (bundled, names_bundle) = bundle(&description, &sections)?;
        let Some(first) = bundled.iter().position(|b| *b) else {
            return Err(unusable("it has no media section to use: all have port 0"));
        };
        let mut on_it = sections.iter().zip(&bundled).filter(|(_, bundled)| **bundled);
        if on_it.any(|(media, _)| matches!(media.kind, Kind::Audio | Kind::Video) && !media.rtcp_mux) {
            return Err(unusable("RTP and RTCP must share a port: add a=rtcp-mux to each media section"));
        }
        let transport = transport(&description, first, wrote)?;
        let allow_mixed = description.attribute("extmap-allow-mixed").is_some();
        Ok(Remote { transport, sections, bundled, names_bundle, allow_mixed })
    }
}

/// Which sections share the first transport.
fn bundle(description: &Description<'_>, sections: &[Media<'_>]) -> Result<(Vec<bool>, bool), SdpError> {
    let groups = description.attributes.iter().filter(|(name, _)| *name == "group");
    let group = groups.map(|(_, value)| *value).find_map(|value| value.strip_prefix("BUNDLE"));
    let live = sections.iter().filter(|m| m.live).count();
    match group {
        Some(mids) => {
            let mids: Vec<&str> = mids.split_ascii_whitespace().take(sections.len()).collect();
            let on_it = |m: &Media<'_>| m.live && m.mid.is_some_and(|mid| mids.contains(&mid));
            Ok((sections.iter().map(on_it).collect(), true))
        }
        None if live > 1 => Err(unusable(
            "all media must share one transport: the client has to support BUNDLE (a=group:BUNDLE, bundlePolicy)",
        )),
        None => Ok((sections.iter().map(|m| m.live).collect(), false)),
    }
}

/// The transport of a section; what it does not say itself stands at the session or at another section.
fn transport(
    description: &Description<'_>,
    section: usize,
    wrote: Wrote,
) -> Result<RemoteTransport, SdpError> {
    let section = &description.sections[section];
    let named = |name: &str| {
        let others = || description.sections.iter().find_map(|s| s.attribute(name));
        section.attribute(name).or_else(|| description.attribute(name)).or_else(others)
    };
    if wrote != Wrote::AnswerToCall && description.attribute("ice-lite").is_some() {
        return Err(unusable(
            "both sides are ICE-lite, so nobody would check the way: use a client with full ICE",
        ));
    }
    let ufrag = named("ice-ufrag").filter(|u| is_ice(u, 4));
    let pwd = named("ice-pwd").filter(|p| is_ice(p, 22));
    let (Some(ufrag), Some(pwd)) = (ufrag, pwd) else {
        return Err(unusable(
            "it lacks ICE credentials (a=ice-ufrag of 4 characters or more, a=ice-pwd of 22 or more)",
        ));
    };
    let mut lists = vec![&section.attributes, &description.attributes];
    lists.extend(description.sections.iter().map(|s| &s.attributes));
    let fingerprint = lists
        .into_iter()
        .find_map(|list| {
            list.iter().filter(|(name, _)| *name == "fingerprint").find_map(|(_, v)| fingerprint(v))
        })
        .ok_or_else(|| unusable("it lacks the SHA-256 hash of a certificate (a=fingerprint:sha-256 …)"))?;
    let role = match (named("setup"), wrote) {
        (Some("actpass" | "active") | None, Wrote::Offer) => DtlsRole::Server,
        (Some("passive"), _) => DtlsRole::Client,
        // An answer has to choose; one that leaves it open is taken as the usual choice.
        (Some("active" | "actpass") | None, Wrote::Answer | Wrote::AnswerToCall) => DtlsRole::Server,
        (Some(other), _) => {
            return Err(unusable(format!(
                "a=setup:{} is not one of actpass, active and passive",
                other.chars().take(20).collect::<String>()
            )));
        }
    };
    let ice = IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() };
    Ok(RemoteTransport { ice, fingerprint, role })
}

/// Letters, digits, `+` and `/` (RFC 8839, 5.4), and what some clients use besides; at most 256.
pub(super) fn is_ice(text: &str, least: usize) -> bool {
    (least..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// `sha-256 AB:CD:…`
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, hex) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut parts = hex.trim().split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Fingerprint(bytes))
}

/// As [`Fingerprint`] stands in a description.
pub(super) fn write_fingerprint(fingerprint: &Fingerprint) -> String {
    let hex: Vec<String> = fingerprint.0.iter().map(|b| format!("{b:02X}")).collect();
    format!("sha-256 {}", hex.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_writing_and_reading() {
        let f = Fingerprint(std::array::from_fn(|i| (i * 37) as u8));
        assert_eq!(fingerprint(&write_fingerprint(&f)), Some(f));
        assert_eq!(fingerprint(&write_fingerprint(&f).to_lowercase()), Some(f));
        assert_eq!(fingerprint("sha-1 00:01"), None);
        assert_eq!(fingerprint("sha-256 00:01"), None);
        assert_eq!(fingerprint(&format!("{}:00", write_fingerprint(&f))), None);
        assert_eq!(fingerprint("sha-256"), None);
    }
}
