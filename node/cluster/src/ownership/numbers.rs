//! Where a new owner goes on: sequence numbers never go back for a viewer, whichever node it asks.

use serde::{Deserialize, Serialize};
pub use sluice_store::Numbers;

use super::epoch::is_local;

/// How far a new owner stays away from the highest numbers it was told, when not all who may have higher ones answered
/// and the store reserved none.
const MARGIN: Numbers = Numbers { media_sequence: 300, discontinuity_sequence: 300, timeline: 60_000_000 };

fn plus(numbers: Numbers, more: Numbers) -> Numbers {
    Numbers {
        media_sequence: numbers.media_sequence.saturating_add(more.media_sequence),
        discontinuity_sequence: numbers.discontinuity_sequence.saturating_add(more.discontinuity_sequence),
        timeline: numbers.timeline.saturating_add(more.timeline),
    }
}

/// How a stream was cut, so that players that stay see no other target duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segmented {
    /// The target duration, ms.
    pub target_ms: u64,
    /// The part target, ms.
    pub part_ms: u64,
}

/// The newest numbers in use of a stream, on a node that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// The epoch of the newest group.
    pub epoch: u64,
    /// Its media sequence number.
    pub media_sequence: u64,
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// The end of the newest frame, µs on the stream's timeline.
    pub timeline: i64,
    /// How the stream is cut, when that is decided.
    #[serde(default)]
    pub segmented: Option<Segmented>,
}

/// The first numbers after those in use: the next segment, another discontinuity, the same place in time.
fn next(in_use: Numbers) -> Numbers {
    plus(in_use, Numbers { media_sequence: 1, discontinuity_sequence: 1, timeline: 0 })
}

impl Tail {
    /// The numbers in use.
    pub fn numbers(&self) -> Numbers {
        let Tail { media_sequence, discontinuity_sequence, timeline, .. } = *self;
        Numbers { media_sequence, discontinuity_sequence, timeline }
    }
}

/// The numbers to go on with, each the first that was not used; `known` is the highest epoch known.
///
/// - `complete`: everybody who may have a number of the newest owner has answered: right after the highest tail.
/// - else after the `reserve` of the store, when it is ahead of all that is known;
/// - else well after the tails and what an owner `told` last, in which epoch, a moment before it was lost;
/// - when nobody knows any of that owner, and the store may never have heard of it, also after all that it can have used:
///   each lease has a range of numbers of its own.
pub fn after(
    tails: &[Tail],
    told: Option<(u64, Numbers)>,
    complete: bool,
    reserve: Option<Numbers>,
    known: u64,
) -> Numbers {
    let highest = tails.iter().map(|t| next(t.numbers())).reduce(Numbers::max);
    if complete && let Some(highest) = highest {
        return highest;
    }
    let near = highest.into_iter().chain(told.map(|(_, n)| next(n))).reduce(Numbers::max);
    // A store that never heard of the stream, or forgot it, has none.
    let reserve = reserve.filter(|r| *r != Numbers::default());
    let numbers = match (near, reserve) {
        (None, reserve) => reserve.unwrap_or_default(),
        (Some(near), Some(reserve)) if reserve.max(near) == reserve => reserve,
        (Some(near), reserve) => plus(near, MARGIN).max(reserve.unwrap_or_default()),
    };
    let newest =
        tails.iter().map(|t| t.epoch).chain(told.map(|(epoch, _)| epoch)).any(|epoch| epoch >= known);
    let stored = reserve.is_some() && !is_local(known);
    if newest || stored { numbers } else { numbers.max(range_after(known)) }
}

/// How the stream is cut, as the newest owner did it.
pub fn segmented(tails: &[Tail]) -> Option<Segmented> {
    tails.iter().filter(|t| t.segmented.is_some()).max_by_key(|t| t.epoch).and_then(|t| t.segmented)
}

/// Each lease (the epoch without its boot id counts them) has room for a million segments and twelve days.
fn range_after(known: u64) -> Numbers {
    let leases = (known >> 24).min(1 << 22);
    Numbers {
        media_sequence: leases << 20,
        discontinuity_sequence: leases << 10,
        timeline: i64::try_from(leases << 40).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::member::BootId;
    use crate::ownership::local_after;

    fn tail(epoch: u64, media_sequence: u64, discontinuity_sequence: u64, timeline: i64) -> Tail {
        Tail { epoch, media_sequence, discontinuity_sequence, timeline, segmented: None }
    }

    fn numbers(media_sequence: u64, discontinuity_sequence: u64, timeline: i64) -> Numbers {
        Numbers { media_sequence, discontinuity_sequence, timeline }
    }

    #[test]
    fn right_after_the_highest_when_all_answered() {
        let tails = [tail(5, 10, 2, 4_000), tail(5, 12, 1, 3_000)];
        assert_eq!(after(&tails, None, true, Some(numbers(310, 300, 9_000)), 5), numbers(13, 3, 4_000));
        assert_eq!(after(&tails, None, false, Some(numbers(310, 300, 9_000)), 5), numbers(310, 300, 9_000));
        assert_eq!(after(&tails, None, false, None, 5), numbers(313, 303, 60_004_000));
        // The owner told more than it had reserved, for the store was away.
        let told = Some((5, numbers(400, 1, 1)));
        assert_eq!(
            after(&tails, told, false, Some(numbers(310, 300, 9_000)), 5),
            numbers(701, 303, 60_004_000)
        );
        assert_eq!(after(&[], told, false, None, 5), numbers(701, 302, 60_000_001));
        assert_eq!(after(&tails, told, true, None, 5), numbers(13, 3, 4_000));
        // What an earlier owner told does not cover a later one.
        let later = local_after(5, BootId(9));
        assert_eq!(after(&[], told, false, None, later).media_sequence, 1 << 20);
    }

    #[test]
    fn a_new_stream_begins_at_nothing_and_an_unknown_past_is_skipped() {
        assert_eq!(after(&[], None, false, None, 0), Numbers::default());
        let first = local_after(0, BootId(9));
        let skipped = after(&[], None, false, None, first);
        assert_eq!(skipped, numbers(1 << 20, 1 << 10, 1 << 40));
        let again = after(&[], None, false, None, local_after(first, BootId(3)));
        assert!(again.media_sequence > skipped.media_sequence && again.timeline > skipped.timeline);
        assert!(
            after(&[], None, false, None, u64::MAX).media_sequence < 1 << 53,
            "a player's numbers are doubles"
        );
    }

    #[test]
    fn the_reserve_does_not_cover_an_owner_that_the_store_may_not_know() {
        let granted = (3 << 32) | 7;
        let local = local_after(granted, BootId(9));
        let reserve = Some(numbers(310, 300, 9_000));
        assert_eq!(after(&[], None, false, reserve, granted), numbers(310, 300, 9_000));
        let beyond = after(&[], None, false, reserve, local);
        assert_eq!(beyond, numbers(0x301 << 20, 0x301 << 10, 0x301 << 40));
        assert_eq!(after(&[tail(granted, 12, 1, 1)], None, false, reserve, local), beyond);
        assert_eq!(after(&[tail(local, 12, 1, 1)], None, false, reserve, local), numbers(310, 300, 9_000));
    }

    #[test]
    fn the_newest_owners_cut_is_kept() {
        let cut = |target_ms| Some(Segmented { target_ms, part_ms: 200 });
        let tails = [
            Tail { segmented: cut(2_000), ..tail(5, 1, 1, 1) },
            Tail { segmented: cut(4_000), ..tail(6, 1, 1, 1) },
            tail(7, 1, 1, 1),
        ];
        assert_eq!(segmented(&tails), cut(4_000));
        assert_eq!(segmented(&[]), None);
    }

    proptest! {
        #[test]
        fn never_at_or_below_a_number_that_was_told(
            tails in prop::collection::vec((any::<u64>(), 0..1u64 << 50, 0..1u64 << 50, 0..1i64 << 60), 1..6),
            complete in any::<bool>(),
            reserve in prop::option::of((0..1u64 << 50, 0..1u64 << 50, 0..1i64 << 60)),
            known in any::<u64>(),
        ) {
            let tails: Vec<_> = tails.into_iter().map(|(e, m, d, t)| tail(e, m, d, t)).collect();
            let next = after(&tails, None, complete, reserve.map(|(m, d, t)| numbers(m, d, t)), known);
            for tail in &tails {
                prop_assert!(next.media_sequence > tail.media_sequence);
                prop_assert!(next.discontinuity_sequence > tail.discontinuity_sequence);
                prop_assert!(next.timeline >= tail.timeline);
            }
        }
    }
}
