//! Where the other side is (RFC 8445): as an ICE-lite agent, which only answers; or checking one path as the controlling side,
//! when it is us who call.
//!
//! No path is used before a check with the right password has come over it, and it is over when none has come for a while (RFC 7675).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCrypto;

use super::Path;
use super::certificate::Certificate;
use super::stun::{self, Binding, Request, Response};
use crate::agreed::IceCredentials;
use crate::random::Row;

/// Without a check for so long, the other side is gone (RFC 7675, 5.1).
pub(super) const CONSENT: Duration = Duration::from_secs(30);
/// The selected path is left for another valid one when no check has come over it for so long: browsers check each 2.5 to 6 s.
const STALE: Duration = Duration::from_secs(8);
/// Most paths that are remembered.
const MAX_PATHS: usize = 8;
/// Between checks of ours, once one has been answered.
const KEEPALIVE: Duration = Duration::from_millis(2500);
/// Between checks of ours at first; doubled until the longest.
const FIRST_CHECK: Duration = Duration::from_millis(50);
const SLOWEST_CHECK: Duration = Duration::from_millis(800);

/// An ICE agent.
pub(super) struct Ice {
    certificate: Arc<Certificate>,
    ours: IceCredentials,
    theirs: Option<IceCredentials>,
    /// What was valid before a restart: our credentials, and their user fragment.
    before: Option<(IceCredentials, String)>,
    /// The paths over which a check came, and when the last one did.
    paths: Vec<(Path, Instant)>,
    selected: Option<Path>,
    nominated: bool,
    heard: Option<Instant>,
    dial: Option<Dial>,
}

/// A path that we check.
struct Dial {
    path: Path,
    random: Row,
    tie_breaker: u64,
    transaction: [u8; 12],
    next: Instant,
    interval: Duration,
}

/// What came of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What to answer, over the same path.
    pub(super) answer: Option<Vec<u8>>,
    /// Whether the path is valid since now.
    pub(super) validated: bool,
    /// Whether another path is selected since now.
    pub(super) selected: bool,
}

impl Ice {
    pub(super) fn new(
        ours: IceCredentials,
        theirs: Option<IceCredentials>,
        certificate: Arc<Certificate>,
    ) -> Self {
        Ice {
            certificate,
            ours,
            theirs,
            before: None,
            paths: Vec::new(),
            selected: None,
            nominated: false,
            heard: None,
            dial: None,
        }
    }

    /// The other side's credentials are known, or are others since now; with new ones of ours it is a restart: the old pair is valid
    /// until a check with the new one comes.
    pub(super) fn set_remote(&mut self, theirs: IceCredentials, ours: Option<IceCredentials>) {
        if let (Some(ours), Some(theirs)) = (ours.filter(|ours| *ours != self.ours), self.theirs.take()) {
            self.before = Some((std::mem::replace(&mut self.ours, ours), theirs.ufrag));
        }
        self.theirs = Some(theirs);
    }

    /// Starts to check a path as the controlling side.
    pub(super) fn dial(&mut self, path: Path, seed: u64, now: Instant) {
        let mut dial = Dial {
            path,
            random: Row::new(seed),
            tie_breaker: 0,
            transaction: [0; 12],
            next: now,
            interval: FIRST_CHECK,
        };
        dial.tie_breaker = dial.random.draw();
        dial.renew();
        self.dial = Some(dial);
    }

    /// A STUN message came.
    pub(super) fn receive(&mut self, path: Path, datagram: &[u8], now: Instant) -> Heard {
        match stun::read(datagram) {
            Some(Binding::Request(request)) => self.request(path, request, now),
            Some(Binding::Response(response)) => self.response(path, response, now),
            None => Heard::default(),
        }
    }

    fn request(&mut self, path: Path, mut request: Request, now: Instant) -> Heard {
        let certificate = self.certificate.clone();
        let crypto = certificate.crypto();
        let Some((ours, theirs)) = request.username() else { return Heard::default() };
        let current = ours == self.ours.ufrag && self.theirs.as_ref().is_none_or(|t| t.ufrag == theirs);
        let before = self.before.as_ref().filter(|(old, their)| ours == old.ufrag && theirs == their);
        let password = match (current, before) {
            (true, _) => self.ours.pwd.clone(),
            (false, Some((old, _))) => old.pwd.clone(),
            (false, None) => return Heard::default(),
        };
        if !request.is_authentic(&password, crypto) {
            return Heard::default();
        }
        // One side controls: the one that calls.
        let same_role = if self.dial.is_some() { request.is_controlling() } else { request.is_controlled() };
        if same_role {
            return Heard { answer: request.conflict(&password, crypto), ..Heard::default() };
        }
        if current {
            self.before = None;
        }
        let mut heard = self.valid(path, request.nominates() && self.dial.is_none(), now);
        heard.answer = request.succeed(path.remote, &password, crypto);
        heard
    }

    fn response(&mut self, path: Path, mut response: Response, now: Instant) -> Heard {
        let (Some(dial), Some(theirs)) = (self.dial.as_mut(), self.theirs.as_ref()) else {
            return Heard::default();
        };
        if path != dial.path || !response.answers(dial.transaction, &theirs.pwd, self.certificate.crypto()) {
            return Heard::default();
        }
        dial.renew();
        dial.interval = KEEPALIVE;
        dial.next = now + KEEPALIVE;
        self.valid(path, true, now)
    }

    /// A path has proved valid.
    fn valid(&mut self, path: Path, nominated: bool, now: Instant) -> Heard {
        self.heard = Some(now);
        let mut heard = Heard::default();
        match self.paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, last)) => *last = now,
            None => {
                if self.paths.len() >= MAX_PATHS {
                    self.forget_oldest();
                }
                self.paths.push((path, now));
                heard.validated = true;
            }
        }
        let stale = self.paths.iter().any(|(known, last)| {
            Some(*known) == self.selected && now.saturating_duration_since(*last) > STALE
        });
        if nominated || stale || !self.nominated && self.selected.is_none() {
            heard.selected = self.selected != Some(path);
            self.selected = Some(path);
            self.nominated |= nominated;
        }
        heard
    }

    fn forget_oldest(&mut self) {
        let others = self.paths.iter().enumerate().filter(|(_, (path, _))| Some(*path) != self.selected);
        if let Some((oldest, _)) = others.min_by_key(|(_, (_, last))| *last) {
            self.paths.swap_remove(oldest);
        }
    }

    /// Whether traffic may come and go over this path.
    pub(super) fn is_valid(&self, path: Path) -> bool {
        self.selected == Some(path) || self.paths.iter().any(|(known, _)| *known == path)
    }

    /// The path that is used.
    pub(super) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// When consent runs out; `None` before the first check.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.heard.map(|at| at + CONSENT)
    }

    /// When the next check of ours is due.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.dial.as_ref().filter(|_| self.theirs.is_some()).map(|dial| dial.next)
    }

    /// A check of ours, when one is due.
    pub(super) fn check(&mut self, now: Instant) -> Option<(Path, Vec<u8>)> {
        let theirs = self.theirs.as_ref()?;
        let dial = self.dial.as_mut().filter(|dial| dial.next <= now)?;
        dial.next = now + dial.interval;
        dial.interval =
            if dial.interval < KEEPALIVE { SLOWEST_CHECK.min(dial.interval * 2) } else { KEEPALIVE };
        let username = format!("{}:{}", theirs.ufrag, self.ours.ufrag);
        let crypto: &dyn RTCCrypto = self.certificate.crypto();
        let request = stun::request(dial.transaction, &username, &theirs.pwd, dial.tie_breaker, crypto)?;
        Some((dial.path, request))
    }
}

impl Dial {
    fn renew(&mut self) {
        let (high, low) = (self.random.draw(), self.random.draw());
        self.transaction[..8].copy_from_slice(&high.to_be_bytes());
        self.transaction[8..].copy_from_slice(&low.to_be_bytes()[..4]);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_selected_path_without_checks_is_left_for_one_that_has_them() {
        let ours = IceCredentials { ufrag: "ours".into(), pwd: "x".repeat(24) };
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let mut ice = Ice::new(ours, None, certificate);
        let path = |port| Path {
            local: SocketAddr::from(([192, 0, 2, 1], 1)),
            remote: SocketAddr::from(([192, 0, 2, 2], port)),
            tcp: false,
        };
        let (lost, found, start) = (path(1), path(2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(ice.valid(lost, true, at(0)).selected);
        for second in [2, 4, 6, 8] {
            assert!(!ice.valid(found, false, at(second)).selected, "it may come back");
        }
        assert!(ice.valid(found, false, at(9)).selected);
        assert_eq!(ice.selected(), Some(found));
        assert!(!ice.valid(lost, false, at(10)).selected, "no to and fro");
        assert!(ice.valid(lost, true, at(10)).selected, "but the other side decides");
        assert!(!ice.valid(lost, false, at(60)).selected);
        assert_eq!(ice.selected(), Some(lost));
    }

    #[test]
    fn the_one_that_calls_controls() {
        let pair = |name: &str| IceCredentials { ufrag: name.repeat(16), pwd: name.repeat(24) };
        let username = format!("{}:{}", pair("a").ufrag, pair("b").ufrag);
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let (local, remote) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2)));
        let (path, now) = (Path { local, remote, tcp: false }, Instant::now());
        let crypto = certificate.crypto();
        let controlled = stun::controlled_request(&username, &pair("a").pwd, crypto).expect("a request");
        let controlling = stun::request([7; 12], &username, &pair("a").pwd, 1, crypto).expect("a request");
        for calls in [false, true] {
            let mut ice = Ice::new(pair("a"), Some(pair("b")), certificate.clone());
            if calls {
                ice.dial(path, 1, now);
            }
            for (request, theirs) in [(&controlled, false), (&controlling, true)] {
                let heard = ice.receive(path, request, now);
                let answer = heard.answer.expect("an answer");
                let refused = answer.starts_with(&[0x01, 0x11]);
                assert_eq!(refused, calls == theirs, "we call: {calls}, they: {theirs}");
                assert!(refused || answer.starts_with(&[0x01, 0x01]));
            }
        }
    }
}
