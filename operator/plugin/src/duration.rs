//! Spans of time, as people write and read them: `30s`, `1h30m`, `5m`.

use std::time::Duration;

/// Reads `500ms`, `30s`, `10m`, `2h`, `1h30m`: whole numbers with units, the larger first; up to 100 days.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write 30s, 10m, 2h or 1h30m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(wrong)?;
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        if unit >= last {
            return Err(wrong());
        }
        last = unit;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let span = number.checked_mul(unit).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(span)).ok_or_else(wrong)?;
        rest = after;
    }
    if total.is_zero() || total > Duration::from_secs(100 * 86_400) {
        return Err(format!("{text:?} is not a duration between 1ms and 100d"));
    }
    Ok(total)
}

/// The deadline of a drain, as the pools' `drain.deadline` is written: one number with one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(pub(crate) String);

impl Deadline {
    /// Reads a deadline of 10 s to 48 h.
    pub(crate) fn parse(text: &str) -> Result<Deadline, String> {
        let span = parse(text)?;
        if span < Duration::from_secs(10) || span > Duration::from_secs(48 * 3600) {
            return Err("a drain's deadline is from 10s to 48h".into());
        }
        if span.subsec_millis() != 0 {
            return Err("a drain's deadline is in whole seconds".into());
        }
        let seconds = span.as_secs();
        Ok(Deadline(match seconds {
            _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
            _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            _ => format!("{seconds}s"),
        }))
    }
}

/// `45s`, `12m`, `5h`, `3d`, as in kubectl's AGE: the largest unit that is at least two of it, or the next smaller one.
pub(crate) fn short(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1h1s", 3_601_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "5", "m", "0s", "-5m", "5 m", "5m5m", "5s5m", "1.5h", "99999999999999999999h", "101d", "5µs"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deadlines_are_within_the_pools_limits() {
        for (text, one_unit) in
            [("30m", "30m"), ("1h30m", "90m"), ("3600s", "1h"), ("61s", "61s"), ("2d", "48h")]
        {
            assert_eq!(Deadline::parse(text), Ok(Deadline(one_unit.into())));
        }
        for text in ["9s", "49h", "10500ms", "soon"] {
            assert!(Deadline::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in
            [(-3, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")]
        {
            assert_eq!(short(seconds), text);
        }
    }
}
