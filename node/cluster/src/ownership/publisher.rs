//! A second publisher comes for a stream that has one: is it another, or the same one whose connection broke?

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A publisher that has sent no media for this long gives way to any other.
pub const SILENT: Duration = Duration::from_secs(2);

/// A publisher that has sent no media for this long gives way to one that looks the same.
pub const SILENT_TO_ITSELF: Duration = Duration::from_millis(300);

/// How long an owner that is asked may wait for its publisher to fall silent before it refuses.
pub const LOOK_FOR: Duration = Duration::from_millis(400);

/// By what a publisher is known again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// Where it comes from; none when that is not known, behind a proxy that does not tell. The port differs with each
    /// connection and is not looked at.
    pub address: Option<IpAddr>,
    /// What it says it is.
    pub user_agent: String,
    /// What it said beside the stream's name: a token, for example.
    pub query: Vec<(String, String)>,
}

impl Identity {
    /// Whether they look like one and the same. Those whose address is not known never do.
    pub fn is_same(&self, other: &Identity) -> bool {
        self.address.is_some() && self == other
    }
}

/// The publisher that a stream has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherState {
    /// By what it is known.
    pub identity: Identity,
    /// False when its connection is known to be broken and the stream only waits for it.
    pub connected: bool,
    /// For how long it has sent no media.
    pub silent_for: Duration,
    /// Whether it was asked to come back elsewhere, because its node ends.
    pub moving: bool,
}

/// What becomes of the second publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is refused: the first one is sending.
    Refuse,
    /// The first one gives way.
    Yield,
    /// Ask again after this time.
    LookAgain(Duration),
}

/// Whether the publisher of a stream gives way to a new one; `waited` is for how long it was looked at already because of
/// [`Verdict::LookAgain`].
pub fn second_publisher(owner: &PublisherState, new: &Identity, waited: Duration) -> Verdict {
    if !owner.connected || owner.moving || owner.silent_for >= SILENT {
        return Verdict::Yield;
    }
    if !owner.identity.is_same(new) {
        return Verdict::Refuse;
    }
    let Some(wait) = SILENT_TO_ITSELF.checked_sub(owner.silent_for).filter(|w| !w.is_zero()) else {
        return Verdict::Yield;
    };
    if waited + wait > LOOK_FOR { Verdict::Refuse } else { Verdict::LookAgain(wait) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn someone(address: [u8; 4], user_agent: &str) -> Identity {
        Identity {
            address: Some(address.into()),
            user_agent: user_agent.into(),
            query: vec![("token".into(), "t".into())],
        }
    }

    fn state(identity: &Identity, silent: u64) -> PublisherState {
        PublisherState { identity: identity.clone(), connected: true, silent_for: ms(silent), moving: false }
    }

    #[test]
    fn another_waits_for_two_seconds_of_silence() {
        let (a, b) = (someone([10, 0, 0, 1], "OBS"), someone([10, 0, 0, 2], "OBS"));
        assert_eq!(second_publisher(&state(&a, 0), &b, ms(0)), Verdict::Refuse);
        assert_eq!(second_publisher(&state(&a, 1_999), &b, ms(0)), Verdict::Refuse);
        assert_eq!(second_publisher(&state(&a, 2_000), &b, ms(0)), Verdict::Yield);
        let broken = PublisherState { connected: false, ..state(&a, 0) };
        assert_eq!(second_publisher(&broken, &b, ms(0)), Verdict::Yield);
    }

    #[test]
    fn who_was_asked_to_move_gives_way_at_once() {
        // It goes on sending until its new connection is let in. Behind proxies it is not known again.
        let (a, b) = (someone([10, 0, 0, 1], "OBS"), someone([10, 0, 0, 2], "OBS"));
        let moving = PublisherState { moving: true, ..state(&a, 0) };
        assert_eq!(second_publisher(&moving, &a, ms(0)), Verdict::Yield);
        assert_eq!(second_publisher(&moving, &b, ms(0)), Verdict::Yield);
    }

    #[test]
    fn the_same_one_is_let_in_as_soon_as_its_former_connection_is_silent() {
        let a = someone([10, 0, 0, 1], "OBS");
        assert_eq!(second_publisher(&state(&a, 300), &a, ms(0)), Verdict::Yield);
        assert_eq!(second_publisher(&state(&a, 100), &a, ms(0)), Verdict::LookAgain(ms(200)));
        assert_eq!(second_publisher(&state(&a, 300), &a, ms(200)), Verdict::Yield);
        // It goes on sending: two encoders of one make behind one address.
        assert_eq!(second_publisher(&state(&a, 0), &a, ms(0)), Verdict::LookAgain(ms(300)));
        assert_eq!(second_publisher(&state(&a, 20), &a, ms(300)), Verdict::Refuse);
    }

    #[test]
    fn behind_a_proxy_nobody_is_the_same() {
        let hidden = Identity { address: None, ..someone([10, 0, 0, 1], "OBS") };
        assert_eq!(second_publisher(&state(&hidden, 500), &hidden, ms(0)), Verdict::Refuse);
        let (a, other) = (someone([10, 0, 0, 1], "OBS"), someone([10, 0, 0, 1], "FFmpeg"));
        assert_eq!(second_publisher(&state(&a, 500), &other, ms(0)), Verdict::Refuse);
    }

    #[test]
    fn looking_again_ends() {
        // Whatever the publisher does, nobody is kept longer than the limit.
        let a = someone([10, 0, 0, 1], "OBS");
        for silent in 0..300 {
            let mut waited = ms(0);
            while let Verdict::LookAgain(wait) = second_publisher(&state(&a, silent), &a, waited) {
                assert!(wait > ms(0));
                waited += wait;
            }
            assert!(waited <= LOOK_FOR);
        }
    }
}
