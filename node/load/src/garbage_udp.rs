//! Hostile datagrams for a WebRTC port: noise, binding requests for nobody, beginnings of handshakes, media that was never agreed on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::GarbageUdp;
use crate::error::Error;
use crate::report::Report;
use crate::run::{self, Client};
use crate::stats::Stats;
use crate::target;

/// Datagrams leave in bursts this far apart.
const BURST: Duration = Duration::from_millis(10);
/// The longest datagram.
const LONGEST: usize = 1200;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

pub(crate) fn run(options: &GarbageUdp) -> Result<Report, Error> {
    let load = &options.load;
    let servers: Vec<SocketAddr> = target::each(load)
        .iter()
        .map(|url| {
            let authority = url.strip_prefix("udp://").map(|rest| rest.trim_end_matches('/'));
            let (host, port) = authority
                .and_then(|authority| authority.rsplit_once(':'))
                .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
                .ok_or_else(|| Error::Url(url.clone(), "expected udp://HOST:PORT"))?;
            target::resolve(host, port, load.allow_remote)
        })
        .collect::<Result<_, _>>()?;
    let share = options.packets_per_second / f64::from(load.clients);
    run::run("garbage-udp", load, |Client { index, stats, stop }| {
        let server = servers[index];
        async move { stop.cut(send(index, &stats, server, share)).await }
    })
}

async fn send(index: usize, stats: &Stats, server: SocketAddr, rate: f64) -> Result<(), Error> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    stats.started(Duration::ZERO);
    let mut garbage = Garbage(index as u64 + 1);
    let mut bursts = interval(BURST);
    bursts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begin, mut sent) = (Instant::now(), 0_u64);
    loop {
        bursts.tick().await;
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        // What could not be sent in time is not made up for all at once.
        sent = sent.max(due.saturating_sub(2 * (rate * BURST.as_secs_f64()) as u64 + 1));
        while sent < due {
            sent += 1;
            let datagram = garbage.datagram();
            // A full buffer and a port that is closed are no reason to stop.
            if socket.try_send(&datagram).is_ok() {
                stats.packets.fetch_add(1, Relaxed);
                stats.bytes.fetch_add(datagram.len() as u64, Relaxed);
            }
        }
    }
}

/// Makes datagrams; the seed is what they follow from.
struct Garbage(u64);

impl Garbage {
    /// The next of a row of numbers that look random (SplitMix64).
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        let length = self.number() as usize % most + 1;
        let words = std::iter::repeat_with(|| self.number().to_le_bytes()).take(length.div_ceil(8));
        let mut noise: Vec<u8> = words.flatten().collect();
        noise.truncate(length);
        noise
    }

    fn datagram(&mut self) -> Vec<u8> {
        match self.number() % 4 {
            0 => self.noise(LONGEST),
            1 => self.binding_request(),
            2 => self.client_hello(),
            _ => [&[0x80, 0x60 | self.number() as u8 & 0x80][..], &self.noise(LONGEST - 2)].concat(),
        }
    }

    /// A binding request (RFC 8489) to a user fragment that nobody has, with an integrity that is none.
    fn binding_request(&mut self) -> Vec<u8> {
        let name = format!("{:08x}:{:04x}", self.number() as u32, self.number() as u16);
        let mut body = vec![0, 6, 0, name.len() as u8];
        body.extend_from_slice(name.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend_from_slice(&[0, 8, 0, 20]);
        (0..5).for_each(|_| body.extend_from_slice(&(self.number() as u32).to_be_bytes()));
        let mut datagram = vec![0, 1, 0, body.len() as u8];
        datagram.extend_from_slice(&MAGIC_COOKIE);
        (0..3).for_each(|_| datagram.extend_from_slice(&(self.number() as u32).to_be_bytes()));
        datagram.extend_from_slice(&body);
        datagram
    }

    /// A DTLS 1.2 record with a ClientHello (RFC 6347), of which only the beginning makes sense.
    fn client_hello(&mut self) -> Vec<u8> {
        let hello = self.noise(400);
        let length = hello.len() as u16;
        let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
        datagram.extend_from_slice(&(length + 12).to_be_bytes());
        datagram.push(1);
        datagram.extend_from_slice(&u32::from(length).to_be_bytes()[1..]);
        datagram.extend_from_slice(&[0; 5]);
        datagram.extend_from_slice(&u32::from(length).to_be_bytes()[1..]);
        datagram.extend_from_slice(&hello);
        datagram
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn there_is_something_of_every_kind() {
        let mut garbage = Garbage(7);
        let (mut stun, mut hellos, mut media) = (0, 0, 0);
        for _ in 0..1000 {
            let datagram = garbage.datagram();
            assert!((1..=LONGEST).contains(&datagram.len()));
            stun += usize::from(sluice_rtc::peer::ufrag_of(&datagram).is_some());
            let record = datagram.get(11..13).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
            hellos += usize::from(datagram.starts_with(&[22, 0xfe, 0xfd]) && datagram.len() == 13 + record);
            media += usize::from(datagram[0] == 0x80);
        }
        assert!(stun > 200 && hellos > 200 && media > 200, "{stun} {hellos} {media}");
    }

    #[test]
    fn it_goes_at_its_rate_to_this_machine_only() {
        let options = |url: &str| {
            let line = [
                "sluice-load",
                "garbage-udp",
                "--packets-per-second",
                "2000",
                "--warmup",
                "0",
                "--duration",
                "300ms",
            ];
            match Cli::parse_from([&line[..], &["-n", "2", "--url", url]].concat()).command {
                Command::GarbageUdp(options) => options,
                other => panic!("{other:?}"),
            }
        };
        let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let report = run(&options(&format!("udp://{}", sink.local_addr().unwrap()))).unwrap();
        assert_eq!((report.live, report.failed), (2, 0));
        assert!((1.0..4000.0).contains(&report.packets_s), "{}", report.packets_s);
        sink.recv(&mut [0; LONGEST]).unwrap();
        for bad in ["127.0.0.1:1", "udp://127.0.0.1", "udp://127.0.0.1:x", "udp://192.0.2.1:1"] {
            assert!(run(&options(bad)).is_err(), "{bad}");
        }
    }
}
