//! What processes spend, from /proc.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Error;

/// In user space the kernel always counts in hundredths of a second (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// CPU time and memory of some processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time since they started.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) rss: u64,
}

/// Reads it for `pids`.
pub(crate) fn usage(pids: &[u32]) -> Result<Usage, Error> {
    let mut sum = Usage::default();
    for pid in pids {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let one = || -> io::Result<(Duration, u64)> {
            let odd = || io::Error::other("/proc looks other than expected");
            Ok((cpu(&read("stat")?).ok_or_else(odd)?, rss(&read("status")?).ok_or_else(odd)?))
        };
        let (cpu, rss) = one().map_err(|e| Error::Process(*pid, e))?;
        sum.cpu += cpu;
        sum.rss += rss;
    }
    Ok(sum)
}

/// Processes that `pid` started and that are still there.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// Allows as many open files, and so connections, as the system lets us have.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it fails the first connection beyond the limit says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything; utime and stime are the 14th and 15th fields of the line.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_and_status() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("garbage"), None);
        assert_eq!(rss("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn ourselves() {
        let usage = usage(&[std::process::id()]).unwrap();
        assert!(usage.rss > 100_000);
        assert!(matches!(super::usage(&[u32::MAX]), Err(Error::Process(..))));
    }
}
