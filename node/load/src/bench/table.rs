//! The table: medians of two servers, their ratio, and what is asked of Sluice.

use std::collections::BTreeMap;
use std::fmt;

use super::servers::Kind;

/// A value of one round.
pub(super) type Sample = (Metric, f64);

macro_rules! metrics {
    ($($name:ident: $what:literal, $unit:literal, $decimals:literal, $bound:expr;)*) => {
        /// What is measured, in the order of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Metric { $($name),* }

        impl Metric {
            const ALL: &[Metric] = &[$(Metric::$name),*];

            /// What it is, its unit, decimals that are shown, and what is asked.
            fn description(self) -> (&'static str, &'static str, usize, Bound) {
                match self { $(Metric::$name => ($what, $unit, $decimals, $bound)),* }
            }
        }
    };
}

/// What is asked of Sluice's median.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Nothing,
    /// At most so many times the other's.
    Ratio(f64),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
}

use Bound::{AtLeast, AtMost, Nothing, Ratio};

metrics! {
    Startup: "start to first answer", "ms", 0, Nothing;
    IdleMemory: "memory at rest", "MiB", 1, Nothing;
    RtmpFew: "RTMP, CPU per viewer at 100", "% of a core", 4, Nothing;
    RtmpMany: "RTMP, CPU per viewer at 400", "% of a core", 4, Nothing;
    RtmpSlope: "RTMP, CPU of each further viewer (100 to 400)", "% of a core", 4, Ratio(1.0);
    RtmpFewP50: "RTMP, delay at 100, p50", "ms", 2, Nothing;
    RtmpFewP99: "RTMP, delay at 100, p99", "ms", 2, Ratio(1.0);
    RtmpManyP50: "RTMP, delay at 400, p50", "ms", 2, Nothing;
    RtmpManyP99: "RTMP, delay at 400, p99", "ms", 2, Ratio(1.0);
    RtmpStart: "RTMP, start to first picture, p50", "ms", 0, Nothing;
    RtmpMemory: "RTMP, memory per viewer at 400", "KiB", 1, Nothing;
    Segments: "segments, CPU for 10,000 requests", "s", 3, Ratio(0.6);
    SegmentSize: "segments, mean size", "KiB", 0, Nothing;
    HlsFew: "LL-HLS, CPU per viewer at 50", "% of a core", 4, Nothing;
    HlsMany: "LL-HLS, CPU per viewer at 200", "% of a core", 4, Nothing;
    HlsSlope: "LL-HLS, CPU of each further viewer (50 to 200)", "% of a core", 4, AtMost(0.1);
    HlsRequests: "LL-HLS, requests of a viewer", "1/s", 1, Nothing;
    // Half a part or a whole one of 200 ms, a frame of 33.3 ms, and what is allowed on top.
    HlsP50: "LL-HLS, delay at 50, p50", "ms", 0, AtMost(143.3);
    HlsP99: "LL-HLS, delay at 50, p99", "ms", 0, AtMost(253.3);
    HlsManyP99: "LL-HLS, delay at 200, p99", "ms", 0, Nothing;
    HlsMemory: "LL-HLS, memory per viewer at 200", "KiB", 1, Nothing;
    HintsSlope: "LL-HLS by preload hints, CPU of each further viewer", "% of a core", 4, AtMost(0.1);
    HintsP50: "LL-HLS by preload hints, delay at 50, p50", "ms", 0, AtMost(143.3);
    HintsP99: "LL-HLS by preload hints, delay at 50, p99", "ms", 0, AtMost(253.3);
    WebrtcFew: "WebRTC, packets forwarded per second of CPU at 100", "1/s", 0, AtLeast(256_000.0);
    WebrtcSome: "WebRTC, packets forwarded per second of CPU at 300", "1/s", 0, AtLeast(256_000.0);
    WebrtcMany: "WebRTC, packets forwarded per second of CPU at 600", "1/s", 0, AtLeast(256_000.0);
    WebrtcLost: "WebRTC, packets lost at 100, 300 and 600", "", 0, Nothing;
    WebrtcP50: "WebRTC, delay at 100, p50", "ms", 2, Nothing;
    WebrtcP99: "WebRTC, delay at 100, p99", "ms", 2, Nothing;
    WebrtcStart: "WebRTC, start to first packet at 100, p50", "ms", 0, Nothing;
    WebrtcMemory: "WebRTC, memory per viewer at 600", "KiB", 1, AtMost(200.0);
    Ingest: "ingest, CPU per stream at 100", "% of a core", 4, Nothing;
    IngestMemory: "ingest, memory per stream at 100", "KiB", 1, Nothing;
    Ingest500Lost: "500 publishers for 60 s: errors and lost streams", "", 0, AtMost(0.0);
    Ingest500Cpu: "500 publishers: CPU", "% of a core", 1, Nothing;
    Ingest500Memory: "500 publishers: memory", "MiB", 1, Nothing;
}

/// All values so far.
#[derive(Debug, Default)]
pub(super) struct Table {
    values: BTreeMap<(Metric, Kind), Vec<f64>>,
}

impl Table {
    pub(super) fn add(&mut self, kind: Kind, samples: Vec<Sample>) {
        for (metric, value) in samples {
            self.values.entry((metric, kind)).or_default().push(value);
        }
    }

    fn median(&self, metric: Metric, kind: Kind) -> Option<f64> {
        let mut values = self.values.get(&(metric, kind))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let low = values.get(middle.checked_sub(usize::from(values.len().is_multiple_of(2)))?)?;
        Some((low + values.get(middle)?) / 2.0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | unit | nginx, MediaMTX | Sluice | ratio | asked for | |\n|---|---|--:|--:|--:|---|---|"
        )?;
        for metric in Metric::ALL.iter().copied() {
            let Some(ours) = self.median(metric, Kind::Sluice) else { continue };
            let other = self.median(metric, Kind::Nginx).or(self.median(metric, Kind::MediaMtx));
            let (what, unit, decimals, bound) = metric.description();
            let show = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.decimals$}"));
            let ratio = other.filter(|n| *n != 0.0).map(|n| ours / n);
            let (asked, met) = match bound {
                Nothing => (String::new(), None),
                Ratio(most) => (format!("ratio at most {most}"), ratio.map(|r| r <= most)),
                AtMost(most) => (format!("at most {most}"), Some(ours <= most)),
                AtLeast(least) => (format!("at least {least}"), Some(ours >= least)),
            };
            let met = met.map_or("", |met| if met { "yes" } else { "**no**" });
            let ratio = ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
            writeln!(
                f,
                "| {what} | {unit} | {} | {} | {ratio} | {asked} | {met} |",
                show(other),
                show(Some(ours))
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ratios_and_bounds() {
        let mut table = Table::default();
        for (nginx, sluice) in [(0.2, 0.15), (0.1, 0.9), (0.3, 0.12)] {
            table.add(Kind::Nginx, vec![(Metric::RtmpSlope, nginx)]);
            table.add(Kind::Sluice, vec![(Metric::RtmpSlope, sluice), (Metric::HlsSlope, sluice)]);
        }
        let text = table.to_string();
        assert!(text.contains("| 0.2000 | 0.1500 | 0.75 | ratio at most 1 | yes |"), "{text}");
        assert!(text.contains("| - | 0.1500 | - | at most 0.1 | **no** |"), "{text}");
        assert!(!text.contains("ingest"));
        table.add(Kind::MediaMtx, vec![(Metric::WebrtcMany, 20_000.0)]);
        table.add(Kind::Sluice, vec![(Metric::WebrtcMany, 300_000.0)]);
        let text = table.to_string();
        assert!(text.contains("| 20000 | 300000 | 15.00 | at least 256000 | yes |"), "{text}");
        table.add(Kind::Nginx, vec![(Metric::RtmpSlope, 0.4)]);
        assert_eq!(table.median(Metric::RtmpSlope, Kind::Nginx), Some(0.25));
    }
}
