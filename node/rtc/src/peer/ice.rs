//! Where the other side is (RFC 8445): as an ICE-lite agent, which only answers; or checking paths as the controlling side, when it
//! is us who call.
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
/// The same where it is us who check, and who may call again: four checks without an answer.
pub(super) const CONSENT_OF_CALLED: Duration = Duration::from_secs(10);
/// The selected path is left for another valid one when no check has come over it for so long: browsers check each 2.5 to 6 s.
const STALE: Duration = Duration::from_secs(8);
/// Most paths that are remembered.
const MAX_PATHS: usize = 8;
/// Between checks of ours, once one has been answered.
const KEEPALIVE: Duration = Duration::from_millis(2500);
/// Between checks of ours at first; doubled until the longest.
const FIRST_CHECK: Duration = Duration::from_millis(50);
const SLOWEST_CHECK: Duration = Duration::from_millis(800);
/// Between the first checks of two paths (RFC 8445, 14.2).
const PACE: Duration = Duration::from_millis(50);
/// Most paths that are checked.
const MAX_CHECKS: usize = 16;

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

/// What we check: several paths until the first has answered, then that one.
struct Dial {
    checks: Vec<Check>,
    random: Row,
    tie_breaker: u64,
}

/// A path that we check.
struct Check {
    path: Path,
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

    /// Starts to check these paths as the controlling side, the preferred first.
    pub(super) fn dial(&mut self, paths: &[Path], seed: u64, now: Instant) {
        let mut random = Row::new(seed);
        let tie_breaker = random.draw();
        let mut dial = Dial { checks: Vec::new(), random, tie_breaker };
        for (nth, path) in (0..).zip(paths.iter().take(MAX_CHECKS)) {
            dial.add(*path, now + PACE * nth);
        }
        self.dial = Some(dial);
    }

    /// Whether it is us who call.
    pub(super) fn calls(&self) -> bool {
        self.dial.is_some()
    }

    /// How long the other side may be silent.
    pub(super) fn consent(&self) -> Duration {
        if self.calls() { CONSENT_OF_CALLED } else { CONSENT }
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
        let conflicts = if self.calls() { request.is_controlling() } else { request.is_controlled() };
        if conflicts {
            return Heard { answer: request.conflict(&password, crypto), ..Heard::default() };
        }
        if current {
            self.before = None;
        }
        // A way that we were not told of is checked, too (RFC 8445, 7.3.1.4), until one is chosen.
        if let Some(dial) = self.dial.as_mut().filter(|_| !self.nominated) {
            let known = dial.checks.iter().any(|check| is_same(check.path, path));
            if !known && dial.checks.len() < MAX_CHECKS {
                dial.add(path, now);
            }
        }
        let mut heard = self.valid(path, request.nominates() && !self.calls(), now);
        heard.answer = request.succeed(path.remote, &password, crypto);
        heard
    }

    fn response(&mut self, path: Path, mut response: Response, now: Instant) -> Heard {
        let (Some(dial), Some(theirs)) = (self.dial.as_mut(), self.theirs.as_ref()) else {
            return Heard::default();
        };
        let crypto = self.certificate.crypto();
        let answered = |check: &Check, response: &mut Response| {
            is_same(check.path, path) && response.answers(check.transaction, &theirs.pwd, crypto)
        };
        let Some(nth) = dial.checks.iter().position(|check| answered(check, &mut response)) else {
            return Heard::default();
        };
        // Where there are several ways the first that answers is nominated by the next check over it.
        let nominated = dial.checks.len() == 1;
        dial.checks.swap(0, nth);
        dial.checks.truncate(1);
        let transaction = dial.transaction();
        if let Some(check) = dial.checks.first_mut() {
            // The socket has told by now which address of ours it is.
            check.path = path;
            check.transaction = transaction;
            check.interval = KEEPALIVE;
            check.next = if nominated { now + KEEPALIVE } else { now };
        }
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
        self.heard.map(|at| at + self.consent())
    }

    /// When the next check of ours is due.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let dial = self.dial.as_ref().filter(|_| self.theirs.is_some())?;
        dial.checks.iter().map(|check| check.next).min()
    }

    /// A check of ours, when one is due.
    pub(super) fn check(&mut self, now: Instant) -> Option<(Path, Vec<u8>)> {
        let theirs = self.theirs.as_ref()?;
        let dial = self.dial.as_mut()?;
        let nominates = dial.checks.len() == 1;
        let check = dial.checks.iter_mut().find(|check| check.next <= now)?;
        check.next = now + check.interval;
        check.interval =
            if check.interval < KEEPALIVE { SLOWEST_CHECK.min(check.interval * 2) } else { KEEPALIVE };
        let username = format!("{}:{}", theirs.ufrag, self.ours.ufrag);
        let crypto: &dyn RTCCrypto = self.certificate.crypto();
        let request =
            stun::request(check.transaction, (&username, &theirs.pwd), dial.tie_breaker, nominates, crypto)?;
        Some((check.path, request))
    }
}

impl Dial {
    fn add(&mut self, path: Path, next: Instant) {
        let transaction = self.transaction();
        self.checks.push(Check { path, transaction, next, interval: FIRST_CHECK });
    }

    fn transaction(&mut self) -> [u8; 12] {
        let (high, low) = (self.random.draw(), self.random.draw());
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&high.to_be_bytes());
        transaction[8..].copy_from_slice(&low.to_be_bytes()[..4]);
        transaction
    }
}

/// Whether what came over `path` came the way of `checked`: before the first answer the socket may not have told which
/// address of ours that is.
fn is_same(checked: Path, path: Path) -> bool {
    let local = checked.local.ip().is_unspecified() || checked.local == path.local;
    local && checked.remote == path.remote && checked.tcp == path.tcp
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

    /// A caller that knows these paths, and the one who is called at each of them.
    fn call(paths: &[Path], now: Instant) -> (Ice, Ice) {
        let credentials = |ufrag: &str| IceCredentials { ufrag: ufrag.into(), pwd: "x".repeat(24) };
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let mut caller = Ice::new(credentials("caller"), Some(credentials("called")), certificate.clone());
        caller.dial(paths, 1, now);
        (caller, Ice::new(credentials("called"), Some(credentials("caller")), certificate))
    }

    fn nominates(request: &[u8]) -> bool {
        matches!(stun::read(request), Some(Binding::Request(request)) if request.nominates())
    }

    #[test]
    fn of_several_paths_the_first_that_answers_is_nominated_and_the_others_are_left() {
        let remote = |port| SocketAddr::from(([192, 0, 2, 2], port));
        // The caller's socket listens on all addresses: an answer says which one it was.
        let any = SocketAddr::from(([0, 0, 0, 0], 9));
        let paths: Vec<Path> =
            (1..=3).map(|port| Path { local: any, remote: remote(port), tcp: false }).collect();
        let start = Instant::now();
        let (mut caller, mut called) = call(&paths, start);
        let mut asked = Vec::new();
        for step in 0..3 {
            let now = start + PACE * step;
            while let Some((path, request)) = caller.check(now) {
                assert!(!nominates(&request));
                asked.push((path.remote.port(), request));
            }
        }
        let order: Vec<u16> = asked.iter().map(|(port, _)| *port).collect();
        assert_eq!(order, [1, 1, 2, 2, 3], "one after the other, each again");
        let now = start + PACE * 3;
        let at =
            |port| Path { local: SocketAddr::from(([198, 51, 100, 1], 9)), remote: remote(port), tcp: false };
        let answer = called.receive(at(2), &asked[2].1, now).answer.expect("an answer");
        assert_eq!(caller.receive(at(3), &answer, now), Heard::default(), "not the way of its request");
        assert!(caller.receive(at(2), &answer, now).selected);
        assert_eq!((caller.selected(), caller.timeout()), (Some(at(2)), Some(now)));
        let (path, request) = caller.check(now).expect("the nomination");
        assert!(path == at(2) && nominates(&request));
        assert!(called.receive(path, &request, now).answer.is_some());
        assert!(caller.check(now + Duration::from_secs(1)).is_none(), "the others are left");
        assert_eq!(caller.expires(), Some(now + CONSENT_OF_CALLED));
    }

    #[test]
    fn a_caller_answers_who_lets_it_control_and_checks_ways_that_it_was_not_told_of() {
        let start = Instant::now();
        let path = |port| Path {
            local: SocketAddr::from(([192, 0, 2, 1], 9)),
            remote: SocketAddr::from(([192, 0, 2, 2], port)),
            tcp: false,
        };
        let (mut caller, called) = call(&[path(1)], start);
        let request = |controlling| {
            let pwd = "x".repeat(24);
            let crypto = called.certificate.crypto();
            let request =
                stun::request([3; 12], ("caller:called", &pwd), 1, true, crypto).expect("a request");
            match controlling {
                true => request,
                false => stun::controlled([3; 12], ("caller:called", &pwd), crypto).expect("a request"),
            }
        };
        let conflict = caller.receive(path(7), &request(true), start);
        assert!(conflict.answer.is_some() && !conflict.validated, "there is one who controls");
        let heard = caller.receive(path(7), &request(false), start);
        assert!(heard.answer.is_some() && heard.validated && heard.selected);
        let checked: Vec<u16> =
            std::iter::from_fn(|| caller.check(start)).map(|(path, _)| path.remote.port()).collect();
        assert_eq!(checked, [1, 7]);
    }
}
