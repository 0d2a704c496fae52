//! Opens the sockets of all loops.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{socket, tcp};
use crate::Settings;

/// A port that the kernel chooses for UDP may be taken for TCP: another is tried then.
const ANY_PORT: usize = 8;

/// The sockets of all loops.
pub(super) struct Sockets {
    /// What is listened on, with the real ports.
    pub(super) listen: Vec<SocketAddr>,
    /// For each loop one of each address.
    pub(super) udp: Vec<Vec<std::net::UdpSocket>>,
    pub(super) tcp: Vec<tokio::net::TcpListener>,
}

impl Sockets {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// An address cannot be opened; the text says which, and what to do.
    pub(super) fn open(settings: &Settings, shards: usize) -> io::Result<Self> {
        let mut sockets = Sockets {
            listen: Vec::new(),
            udp: std::iter::repeat_with(Vec::new).take(shards).collect(),
            tcp: Vec::new(),
        };
        if settings.listen.is_empty() {
            return Err(io::Error::other("WebRTC has no address to listen on: set SLUICE_RTC_ADDR"));
        }
        for wanted in &settings.listen {
            // Two sockets cannot both have the IPv4 side of a port.
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), wanted.port());
            let alone = settings.listen.contains(&v4);
            let any = wanted.is_ipv6() && wanted.ip().is_unspecified() && !alone;
            match sockets.open_one(*wanted, alone, settings.tcp) {
                Err(error) if any && no_ipv6(&error) => {
                    tracing::info!(%error, "there is no IPv6 here: WebRTC is served over IPv4 only");
                    sockets.open_one(v4, alone, settings.tcp)
                }
                opened => opened,
            }
            .map_err(|error| explain(*wanted, &error))?;
        }
        Ok(sockets)
    }

    fn open_one(&mut self, wanted: SocketAddr, alone: bool, tcp: bool) -> io::Result<()> {
        let mut tries = if wanted.port() == 0 { ANY_PORT } else { 1 };
        loop {
            tries -= 1;
            match self.try_one(wanted, alone, tcp) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                result => return result,
            }
        }
    }

    fn try_one(&mut self, wanted: SocketAddr, alone: bool, tcp: bool) -> io::Result<()> {
        socket::probe(wanted, alone)?;
        let first = socket::bind(wanted, alone)?;
        let address = first.local_addr()?;
        let more =
            (1..self.udp.len()).map(|_| socket::bind(address, alone)).collect::<io::Result<Vec<_>>>()?;
        if tcp {
            self.tcp.push(tcp::bind(address, alone)?);
        }
        for (shard, socket) in self.udp.iter_mut().zip(std::iter::once(first).chain(more)) {
            shard.push(socket);
        }
        self.listen.push(address);
        Ok(())
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot listen for WebRTC on {address} (UDP and TCP): {error}: is the port in use? (SLUICE_RTC_ADDR)"
        ),
    )
}
