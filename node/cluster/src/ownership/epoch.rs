//! Epochs: every turn of an owner of a stream has one of its own.
//!
//! ```text
//!  63        32 31    24 23         0
//! +------------+--------+------------+
//! |   grants   | leases |  boot id   |     known < epoch < any later grant
//! +------------+--------+------------+
//! ```
//!
//! The store counts the upper half: [`granted_after`]. The node that was granted an epoch signs it with its boot id
//! ([`signed`]) and has the store adopt the signed one, and only then writes. Without the store it makes one itself
//! by counting the eight bits below: [`local_after`].
//!
//! **Unique.** The lowest 24 bits of any epoch in use are the boot id of the run of the node that made it, so two runs
//! never make the same one (boot ids are random: two of a hundred nodes share one with a probability below 0.0003, and
//! then they still must lease one stream from the same knowledge). One run never makes the same one twice for a
//! stream, because each is above all that it knows, its own former ones included. This does not depend on what the store
//! remembers: one that comes back empty may grant the same step again, but to another run, which signs it differently.
//!
//! **In order.** Each is above what its maker knew. A grant is above every lease made since the grant before, up to 255
//! of them in a row; the 256th counts into the upper half, as a grant does, and stays unique.
//!
//! Whoever reads a stream never goes back to a lower epoch: that is the fence, and the reason why order matters.

use crate::member::BootId;

/// An epoch above this is nobody's: it came from a broken peer. Those in use can go 2^30 grants further.
pub const HIGHEST: u64 = 1 << 62;

const LEASE: u32 = 24;
const GRANT: u32 = 32;

/// What a store grants to whoever claims a stream, `known` being the highest epoch that it or the claimer knows of.
pub fn granted_after(known: u64) -> u64 {
    ((known.min(HIGHEST) >> GRANT) + 1) << GRANT
}

/// The epoch in which the run `boot` of a node uses what the store granted to it.
pub fn signed(granted: u64, boot: BootId) -> u64 {
    granted | u64::from(boot.0)
}

/// An epoch that the run `boot` of a node makes without the store: above `known`, below any grant that is made after it
/// was heard of.
pub fn local_after(known: u64, boot: BootId) -> u64 {
    (((known.min(HIGHEST) >> LEASE) + 1) << LEASE) | u64::from(boot.0)
}

/// Whether it was made without the store, as far as the number tells.
pub fn is_local(epoch: u64) -> bool {
    (epoch >> LEASE) & 0xff != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_above_what_was_known_and_below_the_next_grant(known in 0..HIGHEST, boot in 1u32..1 << 24) {
            let boot = BootId(boot);
            let local = local_after(known, boot);
            prop_assert!(local > known);
            prop_assert!(granted_after(local) > local);
            prop_assert!(granted_after(known) > known);
            prop_assert!(signed(granted_after(known), boot) > known);
            prop_assert!(granted_after(known) <= signed(granted_after(known), boot));
            prop_assert!(!is_local(signed(granted_after(known), boot)));
            prop_assert!(i64::try_from(granted_after(local)).is_ok());
            if (known >> 24) & 0xff != 0xff {
                prop_assert!(local < granted_after(known));
                prop_assert!(is_local(local));
            }
        }

        #[test]
        fn two_runs_never_make_the_same(a in 1u32..1 << 24, b in 1u32..1 << 24, k in 0..HIGHEST, l in 0..HIGHEST) {
            prop_assume!(a != b);
            let (a, b) = (BootId(a), BootId(b));
            let of = |known, boot| [local_after(known, boot), signed(granted_after(known), boot)];
            for left in of(k, a) {
                for right in of(l, b) {
                    prop_assert_ne!(left, right);
                }
            }
        }
    }

    #[test]
    fn leases_count_up_between_grants() {
        let boot = BootId(7);
        let granted = signed(granted_after(0), boot);
        assert_eq!(granted, (1 << 32) | 7);
        let first = local_after(granted, BootId(5));
        assert_eq!(first, (1 << 32) | (1 << 24) | 5);
        assert_eq!(local_after(first, boot), (1 << 32) | (2 << 24) | 7);
        assert_eq!(granted_after(first), 2 << 32);
        assert!(local_after(u64::MAX, boot) > HIGHEST, "no overflow");
    }
}
