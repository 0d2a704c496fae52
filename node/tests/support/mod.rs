//! A node as a process, real publishers and players, and plain HTTP: what the end-to-end tests share.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

pub mod cluster;
pub mod encoder;
pub mod viewer;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running node with ports and a data directory of its own. It is killed when it is dropped.
pub struct Node {
    pub http: u16,
    pub rtmp: u16,
    pub dir: PathBuf,
    child: Child,
    _temp: Option<TempDir>,
}

impl Node {
    /// Starts a node on its defaults but for addresses, and waits until it is live.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(env: &[(&str, &str)]) -> Self {
        let temp = TempDir::new().expect("a temporary directory");
        let dir = temp.path().to_owned();
        let mut node = Self::start_in(&dir, (port(), port()), env);
        node._temp = Some(temp);
        node
    }

    /// Starts a node on a data directory and ports that are there already.
    pub fn start_in(dir: &Path, (http, rtmp): (u16, u16), env: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(dir.join("node.log")).expect("a log file");
        let child = command(dir, http, rtmp, env)
            .stdout(log.try_clone().expect("the log file"))
            .stderr(log)
            .spawn()
            .expect("sluice-node starts");
        let mut node = Node { http, rtmp, dir: dir.to_owned(), child, _temp: None };
        wait_for(Duration::from_secs(15), "the node to be live", || {
            assert!(node.child.try_wait().expect("a process").is_none(), "it ended: {}", node.log());
            status(&node.url("/rest/v2/liveness")) == 200
        });
        node
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    pub fn rtmp(&self, path: &str) -> String {
        format!("rtmp://127.0.0.1:{}{path}", self.rtmp)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("node.log")).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("a process");
        text.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("statm") * 4096
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait_child(&mut self.child, limit).unwrap_or_else(|| panic!("still running: {}", self.log()))
    }

    /// `kill -9`; the data directory and the ports stay for the next one.
    pub fn crash(mut self) -> (Option<TempDir>, PathBuf, (u16, u16)) {
        self.signal("KILL");
        self.wait(Duration::from_secs(5));
        (self._temp.take(), self.dir.clone(), (self.http, self.rtmp))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the node\n{}", self.log());
        }
    }
}

/// `sluice-node run` with addresses on loopback, not started yet.
pub fn command(dir: &Path, http: u16, rtmp: u16, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-node"));
    command
        .arg("run")
        .env("SLUICE_DATA_DIR", dir.join("data"))
        .env("SLUICE_HTTP_ADDR", format!("127.0.0.1:{http}"))
        .env("SLUICE_RTMP_ADDR", format!("127.0.0.1:{rtmp}"))
        .env("SLUICE_HTTPS_ADDR", "off")
        .env("SLUICE_RTC_ADDR", "127.0.0.1:0")
        .envs(env.iter().copied());
    command
}

/// A publisher or player, killed when it is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_child(&mut self.0, limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// ffmpeg with a test picture and a tone; `options` go before the output, `-g` and the like.
pub fn publish(url: &str, options: &[&str]) -> Process {
    publish_inputs(url, true, true, options)
}

pub fn publish_inputs(url: &str, video: bool, audio: bool, options: &[&str]) -> Process {
    let mut c = Command::new("ffmpeg");
    c.args(["-v", "error", "-nostdin", "-re"]);
    if video {
        c.args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]);
    }
    if audio {
        c.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:a", "aac"]);
    }
    if video {
        c.args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-pix_fmt",
            "yuv420p",
            "-g",
            "30",
        ]);
    }
    c.args(options).args(["-f", "flv", url]);
    Process(c.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("ffmpeg is installed"))
}

/// Runs a program with a time limit and gives what it printed.
pub fn run(limit: Duration, program: &str, args: &[&str]) -> Output {
    let limit = limit.as_secs_f64().to_string();
    Command::new("timeout")
        .args(["-s", "KILL", &limit, program])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program is installed")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The tracks that ffprobe finds, sorted: `aac h264`.
pub fn tracks(url: &str) -> String {
    let args = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", url];
    let out = stdout(&run(Duration::from_secs(20), "ffprobe", &args));
    let mut names: Vec<_> = out.split_whitespace().map(|s| s.trim_matches(',')).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}

/// How many video packets a player gets in some seconds of media.
pub fn packets(url: &str, seconds: u32) -> usize {
    let interval = format!("%+{seconds}");
    let args = [
        "-v",
        "error",
        "-read_intervals",
        &interval,
        "-select_streams",
        "v",
        "-show_entries",
        "packet=pts_time",
        "-of",
        "csv=p=0",
        url,
    ];
    stdout(&run(Duration::from_secs(u64::from(seconds) + 10), "ffprobe", &args)).lines().count()
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// curl with further arguments; redirects are followed.
pub fn http(url: &str, args: &[&str]) -> Answer {
    let out = Command::new("curl")
        .args(["-s", "-i", "-L", "-m", "15"])
        .args(args)
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("curl is installed");
    let mut rest = &out.stdout[..];
    loop {
        let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") else {
            return Answer { status: 0, head: String::new(), body: Vec::new() };
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        if !(300..400).contains(&status) && status != 100 {
            return Answer { status, head: head.to_lowercase(), body: rest.to_vec() };
        }
    }
}

pub fn get(url: &str) -> Answer {
    http(url, &[])
}

pub fn status(url: &str) -> u16 {
    get(url).status
}

/// The first media playlist of a stream, as `(url, text)`.
pub fn media_playlist(node: &Node, stream: &str) -> (String, String) {
    let master = get(&node.url(&format!("/LiveApp/streams/{stream}.m3u8")));
    let text = master.text();
    let Some(uri) = text.lines().find(|l| !l.starts_with('#') && !l.is_empty()) else {
        return Default::default();
    };
    let url = node.url(&format!("/LiveApp/streams/{uri}"));
    let text = get(&url).text();
    (url, text)
}

/// A tag's value as a number.
pub fn tag(playlist: &str, name: &str) -> Option<f64> {
    let line = playlist.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split(',').next()?.parse().ok()
}

pub fn broadcast(node: &Node, stream: &str) -> Answer {
    get(&node.url(&format!("/LiveApp/rest/v2/broadcasts/{stream}")))
}

/// Waits until something is so.
pub fn wait_for(limit: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !so() {
        assert!(Instant::now() < end, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn wait_child(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a process") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u32, name: &str) {
    let ok = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(ok.is_ok_and(|s| s.success()), "kill -{name} {pid}");
}

/// A port that is free now.
pub fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}
