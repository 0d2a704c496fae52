//! Wall clock as playlists write it: ISO 8601 in UTC with milliseconds.

use std::fmt::{self, Display};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shows a time as `2026-11-21T11:42:39.250Z`. Times before 1970 are shown as 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Iso(pub(crate) SystemTime);

impl Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded: stamps are whole milliseconds plus microseconds of media time.
        let micros = self.0.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let ms = (micros + 500) / 1000;
        let (days, of_day) = ((ms / 86_400_000) as i64, ms % 86_400_000);
        let (y, m, d) = civil(days);
        let (h, min, s) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
        write!(f, "{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z", of_day % 1000)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar: the year is taken to
/// begin in March, so that the leap day is its last.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_days() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.250Z"),
            (951_782_400, "2000-02-29T00:00:00.250Z"),
            (1_795_261_359, "2026-11-21T11:42:39.250Z"),
            (4_107_542_399, "2100-02-28T23:59:59.250Z"),
        ] {
            let t = UNIX_EPOCH + Duration::from_micros(seconds * 1_000_000 + 249_600);
            assert_eq!(Iso(t).to_string(), text);
        }
    }
}
