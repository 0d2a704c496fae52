//! What Linux tells about this process and its machine (proc(5)). What cannot be read is zero.

use std::path::Path;

/// Processor time in ticks of 1/100 s, the unit of `/proc` on every architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    /// Of this process.
    pub(crate) process: u64,
    /// Of all processors, not idle.
    pub(crate) busy: u64,
    /// Of all processors.
    pub(crate) all: u64,
}

impl CpuTimes {
    pub(crate) fn read() -> Self {
        let (busy, all) = parse_stat(&read("/proc/stat"));
        CpuTimes { process: parse_self_stat(&read("/proc/self/stat")), busy, all }
    }
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_free: u64,
    /// Of this process.
    pub(crate) resident: u64,
    /// Of this process.
    pub(crate) virtual_size: u64,
}

impl Memory {
    pub(crate) fn read() -> Self {
        let (machine, process) = (read("/proc/meminfo"), read("/proc/self/status"));
        Memory {
            total: kilobytes(&machine, "MemTotal:"),
            free: kilobytes(&machine, "MemFree:"),
            available: kilobytes(&machine, "MemAvailable:"),
            swap_total: kilobytes(&machine, "SwapTotal:"),
            swap_free: kilobytes(&machine, "SwapFree:"),
            resident: kilobytes(&process, "VmRSS:"),
            virtual_size: kilobytes(&process, "VmSize:"),
        }
    }
}

/// What the control group of this process may use of memory, as a container sees it; none without a limit.
pub(crate) fn group_limit() -> Option<u64> {
    // Version 2 (cgroup-v2.rst), else 1, whose "no limit" is a very large number.
    parse_limit(&read("/sys/fs/cgroup/memory.max"))
        .or_else(|| parse_limit(&read("/sys/fs/cgroup/memory/memory.limit_in_bytes")))
}

fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit > 0)
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) total: u64,
    /// For everybody together with the reserve of the superuser.
    pub(crate) free: u64,
    pub(crate) usable: u64,
}

impl Disk {
    /// The file system that has `path`.
    pub(crate) fn of(path: &Path) -> Self {
        rustix::fs::statvfs(path).map_or_else(
            |_| Disk::default(),
            |v| Disk {
                total: v.f_blocks.saturating_mul(v.f_frsize),
                free: v.f_bfree.saturating_mul(v.f_frsize),
                usable: v.f_bavail.saturating_mul(v.f_frsize),
            },
        )
    }
}

/// The load average of the last minute.
pub(crate) fn load_average() -> f64 {
    read("/proc/loadavg").split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// Open file descriptors of this process.
pub(crate) fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Such as `6.1.0-18-amd64`.
pub(crate) fn kernel() -> String {
    read("/proc/sys/kernel/osrelease").trim().to_owned()
}

/// How many processors this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn kilobytes(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kb| kb.saturating_mul(1024))
}

/// Busy and all ticks of the first line: user nice system idle iowait irq softirq steal, and guest times that
/// are in user and nice already.
fn parse_stat(text: &str) -> (u64, u64) {
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .map(|rest| rest.split_whitespace().take(8).map_while(|n| n.parse().ok()).collect())
        .unwrap_or_default();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// Ticks in user and in kernel mode. The name, in parentheses, may contain anything.
fn parse_self_stat(text: &str) -> u64 {
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files() {
        assert_eq!(parse_stat("cpu  10 1 5 100 20 1 1 2 7 0\ncpu0 1 1"), (20, 140));
        assert_eq!(parse_stat(""), (0, 0));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 5 0 0 0 120 30 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_self_stat(stat), 150);
        assert_eq!(parse_limit("536870912\n"), Some(536_870_912));
        assert_eq!((parse_limit("max\n"), parse_limit("")), (None, None));
        assert_eq!(kilobytes("MemTotal:  2 kB\nMemFree: 1 kB", "MemFree:"), 1024);
    }

    #[test]
    fn this_machine() {
        let (m, d) = (Memory::read(), Disk::of(Path::new("/")));
        assert!(m.total > 0 && m.resident > 0 && m.available <= m.total);
        assert!(d.total > 0 && d.usable <= d.free);
        assert!(CpuTimes::read().all > 0 && open_files() > 2 && processors() > 0 && !kernel().is_empty());
    }
}
