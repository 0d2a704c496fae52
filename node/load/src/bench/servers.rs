//! The servers that are measured, and the generators that load them: processes of our own, ended when dropped.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cli::Bench;
use crate::error::Error;
use crate::process::{Usage, children, usage};
use crate::report::Report;

/// Time for a server to start and to stop.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of each of nginx's files, and about those of a segment of the stream that is fetched from Sluice.
pub(super) const FILE: usize = 256 << 10;
/// How many files nginx serves.
pub(super) const FILES: usize = 8;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Nginx,
    MediaMtx,
    Sluice,
}

/// What servers and generators are started from.
pub(super) struct Kit {
    node: PathBuf,
    nginx: PathBuf,
    pub(super) mediamtx: Option<PathBuf>,
    /// The stream that is watched: 720p30, 2 Mbit/s, as FLV.
    pub(super) media: PathBuf,
    /// The stream that is watched over WebRTC.
    pub(super) slim: PathBuf,
    generator: PathBuf,
}

impl Kit {
    pub(super) fn new(options: &Bench) -> Result<Self, Error> {
        let (media, slim) = (options.media.join("720p30.flv"), options.media.join("720p30-1500.flv"));
        for path in [&options.node, &options.nginx, &media, &slim].into_iter().chain(&options.mediamtx) {
            fs::metadata(path).map_err(|e| Error::File(path.clone(), e))?;
        }
        let node = fs::canonicalize(&options.node)?;
        let mediamtx = options.mediamtx.as_ref().map(fs::canonicalize).transpose()?;
        Ok(Kit {
            node,
            nginx: options.nginx.clone(),
            mediamtx,
            media,
            slim,
            generator: std::env::current_exe()?,
        })
    }

    /// Starts a server and waits until it answers.
    pub(super) fn start(&self, kind: Kind) -> Result<Server, Error> {
        let folder = tempfile::tempdir()?;
        let (rtmp, http) = (free_port()?, free_port()?);
        let mut command = match kind {
            Kind::Nginx => {
                for i in 0..FILES {
                    // What is in them does not matter; that they are not alike does.
                    let bytes: Vec<u8> = (0..FILE).map(|at| (at * 31 + at / 251 + i) as u8).collect();
                    fs::write(folder.path().join(format!("{i}.m4s")), bytes)?;
                }
                let config = folder.path().join("nginx.conf");
                fs::write(&config, nginx_config(folder.path(), rtmp, http))?;
                let mut command = Command::new(&self.nginx);
                command.arg("-c").arg(config);
                command
            }
            Kind::MediaMtx => {
                let config = folder.path().join("mediamtx.yml");
                fs::write(&config, mediamtx_config(http, free_port()?))?;
                let none = || Error::Bench("MediaMTX is not there: --mediamtx says where it is".into());
                let mut command = Command::new(self.mediamtx.as_ref().ok_or_else(none)?);
                command.arg(config).current_dir(folder.path());
                command
            }
            Kind::Sluice => {
                let mut command = Command::new(&self.node);
                command.arg("run").current_dir(folder.path());
                for (key, _) in std::env::vars_os() {
                    if key.to_string_lossy().starts_with("SLUICE_") {
                        command.env_remove(key);
                    }
                }
                command
                    .env("SLUICE_DATA_DIR", folder.path().join("data"))
                    .env("SLUICE_RTMP_ADDR", format!("127.0.0.1:{rtmp}"))
                    .env("SLUICE_HTTP_ADDR", format!("127.0.0.1:{http}"))
                    .env("SLUICE_RTC_ADDR", "127.0.0.1:0")
                    .env("SLUICE_CLUSTER_ADDR", format!("127.0.0.1:{}", free_port()?))
                    .env("SLUICE_LOG", "warn");
                command
            }
        };
        let log = fs::File::create(folder.path().join("log"))?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.map_err(|e| Error::Bench(format!("cannot start {kind:?}: {e}")))?;
        let ready = || match kind {
            Kind::Nginx => answers(http, "/0.m4s") && accepts(rtmp),
            Kind::MediaMtx => accepts(http),
            Kind::Sluice => answers(http, "/healthz") && accepts(rtmp),
        };
        let mut server =
            Server { kind, process: Process(child), folder, rtmp, http, startup: Duration::ZERO };
        while !ready() {
            if started.elapsed() > PATIENCE || server.process.0.try_wait()?.is_some() {
                let log = fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
                return Err(Error::Bench(format!("{kind:?} does not start: {}", log.trim())));
            }
            sleep(Duration::from_millis(1));
        }
        server.startup = started.elapsed();
        Ok(server)
    }

    /// Runs a generator to its end.
    pub(super) fn load(&self, arguments: &[&str]) -> Result<Report, Error> {
        let output = Command::new(&self.generator).args(arguments).arg("--json").output()?;
        let report: Report = serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            Error::Bench(format!("sluice-load {}: {}", arguments.join(" "), said.trim()))
        })?;
        if report.failed > 0 || report.live < report.clients {
            let why = report.first_error.as_deref().unwrap_or("no media came");
            let (command, clients) = (&report.command, report.clients);
            eprintln!(
                "  {command}: {} of {clients} clients live, {} failed: {why}",
                report.live, report.failed
            );
        }
        Ok(report)
    }

    /// Starts a publisher that goes on until it is dropped.
    pub(super) fn publish(&self, server: &Server, stream: &Published<'_>) -> Result<Process, Error> {
        let mut command = Command::new(&self.generator);
        let (how, url) = match stream {
            Published::Whip(_) => ("publish-whip", server.whip_url("bench")),
            Published::File(_) | Published::Synthetic { .. } => ("publish", server.rtmp_url("bench")),
        };
        command.args([how, "--duration", "1h", "--url", &url]);
        match stream {
            Published::File(path) | Published::Whip(path) => command.arg("--file").arg(path),
            Published::Synthetic { kbps } => command.args(["--kbps", &kbps.to_string()]),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Process(child))
    }
}

/// What is published.
pub(super) enum Published<'a> {
    File(&'a Path),
    Synthetic {
        kbps: usize,
    },
    /// The pictures of the file, with Opus, over WHIP.
    Whip(&'a Path),
}

/// A server that runs.
pub(super) struct Server {
    pub(super) kind: Kind,
    process: Process,
    folder: TempDir,
    rtmp: u16,
    http: u16,
    /// From the start of the process to its first answer.
    pub(super) startup: Duration,
}

impl Server {
    /// The processes that do the work.
    pub(super) fn pids(&self) -> Vec<u32> {
        let own = self.process.0.id();
        [vec![own], children(own)].concat()
    }

    pub(super) fn usage(&self) -> Result<Usage, Error> {
        usage(&self.pids())
    }

    pub(super) fn rtmp_url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/LiveApp/{stream}", self.rtmp)
    }

    pub(super) fn whip_url(&self, stream: &str) -> String {
        self.http_url(&self.webrtc_path("whip", stream))
    }

    pub(super) fn whep_url(&self, stream: &str) -> String {
        self.http_url(&self.webrtc_path("whep", stream))
    }

    fn webrtc_path(&self, what: &str, stream: &str) -> String {
        match self.kind {
            Kind::MediaMtx => format!("{stream}/{what}"),
            Kind::Nginx | Kind::Sluice => format!("LiveApp/{what}/{stream}"),
        }
    }

    pub(super) fn http_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.http)
    }
}

/// A process that is asked to end when it is dropped, and made to if it does not.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn accepts(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Whether a GET is answered with 200.
fn answers(port: u16, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes())?;
        let mut head = [0; 12];
        socket.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// WebRTC and nothing else, over one UDP port of this machine, without a log.
fn mediamtx_config(http: u16, udp: u16) -> String {
    format!(
        "logLevel: error\napi: no\nmetrics: no\npprof: no\nplayback: no\nrtsp: no\nrtmp: no\nhls: no\nsrt: no\n\
         webrtc: yes\nwebrtcAddress: 127.0.0.1:{http}\nwebrtcEncryption: no\nwebrtcLocalUDPAddress: 127.0.0.1:{udp}\n\
         webrtcLocalTCPAddress: ''\nwebrtcIPsFromInterfaces: no\nwebrtcAdditionalHosts: [127.0.0.1]\n\
         webrtcICEServers2: []\npaths:\n  all_others:\n"
    )
}

/// One worker with live streams, and with static files as Debian configures them (sendfile, tcp_nopush), but without
/// a log and over connections that stay open.
fn nginx_config(folder: &Path, rtmp: u16, http: u16) -> String {
    let folder = folder.display();
    // The folder is readable for us alone, and a worker of root's nginx would be somebody else.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         {user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile 16384;\n\
         pid {folder}/nginx.pid;\nerror_log {folder}/error.log error;\n\
         events {{ worker_connections 8192; }}\n\
         rtmp {{ server {{\n  listen 127.0.0.1:{rtmp};\n  access_log off;\n  application LiveApp {{ live on; }}\n}} }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 10000000;\n\
         \x20 server {{ listen 127.0.0.1:{http}; root {folder}; }}\n}}\n"
    )
}
