//! How much a publisher may send where it does not find out by itself: without transport-wide feedback.

/// Before anything is known.
const START: f64 = 3e6;
/// No less is asked for.
const LEAST: f64 = 150e3;
/// No more is offered.
const MOST: f64 = 30e6;

/// An estimate by loss alone (draft-ietf-rmcat-gcc-02, 6): up while little is lost, down when much is.
#[derive(Debug)]
pub(super) struct Bandwidth {
    bitrate: f64,
}

impl Default for Bandwidth {
    fn default() -> Self {
        Bandwidth { bitrate: START }
    }
}

impl Bandwidth {
    /// `loss` of 256 since the last call, and what comes, in bits a second.
    pub(super) fn update(&mut self, loss: u8, incoming: u64) -> u64 {
        let loss = f64::from(loss) / 256.0;
        if loss < 0.02 {
            // More than twice of what comes is never needed, and would have to come down all the way.
            let most = (2.0 * incoming as f64).max(START);
            self.bitrate = (self.bitrate * 1.04).min(most.max(self.bitrate * 0.98));
        } else if loss > 0.1 {
            self.bitrate *= 1.0 - loss / 2.0;
        }
        self.bitrate = self.bitrate.clamp(LEAST, MOST);
        self.bitrate as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_loss() {
        let mut b = Bandwidth::default();
        let before = b.update(0, 4_000_000);
        assert!(before > 3_000_000);
        assert_eq!(b.update(13, 4_000_000), before, "5 % changes nothing");
        assert!(b.update(64, 4_000_000) < before * 9 / 10);
        (0..1000).for_each(|_| assert!(b.update(0, 4_000_000) <= 8_000_000));
        (0..1000).for_each(|_| assert!(b.update(255, 0) >= 150_000));
    }
}
