//! Profiles of H.264 as `profile-level-id` names them (RFC 6184, 8.1). The level is only advice and is passed over.

/// A profile, the simplest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    Other,
}

impl Profile {
    /// Of six hexadecimal digits: profile, constraints, level. Without them it is Baseline (RFC 6184).
    pub(super) fn of(profile_level_id: Option<&str>) -> Self {
        let Some(id) = profile_level_id else { return Profile::Baseline };
        let id = if id.len() == 6 { u32::from_str_radix(id, 16).ok() } else { None };
        let Some([_, profile, constraints, _]) = id.map(u32::to_be_bytes) else { return Profile::Other };
        let set = |bit: u8| constraints & (0x80 >> bit) != 0;
        match profile {
            66 if set(1) => Profile::ConstrainedBaseline,
            66 => Profile::Baseline,
            77 if set(0) => Profile::ConstrainedBaseline,
            77 => Profile::Main,
            88 if set(0) && set(1) => Profile::ConstrainedBaseline,
            100 if set(4) && set(5) => Profile::ConstrainedHigh,
            100 => Profile::High,
            _ => Profile::Other,
        }
    }

    /// How badly a decoder of `other` fits a stream of this profile: 0 when it is the same. A richer one is better
    /// than a simpler one.
    pub(super) fn distance(self, other: Profile) -> u8 {
        let (a, b) = (self as u8, other as u8);
        if b >= a { b - a } else { 16 + a - b }
    }

    /// The profile to offer for a stream of this one, such that browsers know it.
    pub(super) fn to_offer(self) -> &'static str {
        match self {
            Profile::ConstrainedBaseline => "42e01f",
            Profile::Baseline => "42001f",
            Profile::Main => "4d001f",
            Profile::ConstrainedHigh | Profile::High | Profile::Other => "64001f",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_by_id_and_constraints() {
        for (id, profile) in [
            ("42e01f", Profile::ConstrainedBaseline),
            ("42c028", Profile::ConstrainedBaseline),
            ("42001f", Profile::Baseline),
            ("4D001F", Profile::Main),
            ("640c1f", Profile::ConstrainedHigh),
            ("640028", Profile::High),
            ("f4001f", Profile::Other),
            ("42e0", Profile::Other),
            ("+2e01f", Profile::Other),
            ("xyzxyz", Profile::Other),
        ] {
            assert_eq!(Profile::of(Some(id)), profile, "{id}");
        }
        assert_eq!(Profile::of(None), Profile::Baseline);
    }

    #[test]
    fn a_richer_decoder_is_nearer_than_a_simpler_one() {
        let main = Profile::Main;
        assert_eq!(main.distance(Profile::Main), 0);
        assert!(main.distance(Profile::High) < main.distance(Profile::Baseline));
        assert!(main.distance(Profile::ConstrainedHigh) < main.distance(Profile::High));
    }
}
