//! Opens listening sockets: dual stack, with what to do when one cannot be had.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Endpoint, Listen};
use crate::exit::{Exit, Failure};

/// How many connections may wait to be accepted; the kernel's `somaxconn` bounds it too.
const BACKLOG: i32 = 4096;

/// A socket that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} ({setting}): {}", why(.source, .setting))]
pub struct ListenError {
    /// The key of the setting.
    pub setting: &'static str,
    /// The address.
    pub addr: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

fn why(error: &io::Error, setting: &str) -> String {
    let env = format!("SLUICE_{}", setting.to_ascii_uppercase());
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program has this port; stop it, or set {env} to another port")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have this address; set {env} to one that it has, or to 0.0.0.0")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 need the right to bind them; set {env} to a higher port, or grant CAP_NET_BIND_SERVICE"
            )
        }
        _ => format!("{error}; set {env} to another address"),
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        Failure::new(Exit::Address, error.to_string())
    }
}

/// Opens the TCP sockets of a setting. They don't block, ready for `tokio::net::TcpListener::from_std`.
///
/// # Errors
/// The first socket that cannot be opened. The IPv6 companion of `0.0.0.0` may be missing on a host without IPv6.
pub fn tcp(setting: &'static str, listen: &Listen) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    for endpoint in listen.endpoints() {
        match open(endpoint) {
            Ok(listener) => listeners.push(listener),
            Err(error) if endpoint.optional && error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(addr = %endpoint.addr, %error, "no IPv6 here");
            }
            Err(source) => return Err(ListenError { setting, addr: endpoint.addr, source }),
        }
    }
    Ok(listeners)
}

fn open(endpoint: Endpoint) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(endpoint.addr), Type::STREAM, Some(Protocol::TCP))?;
    if endpoint.addr.is_ipv6() {
        socket.set_only_v6(endpoint.v6_only)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT. On Linux this does not let two listeners share.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&endpoint.addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(addr: &str) -> Listen {
        Listen::new(vec![addr.parse().unwrap()])
    }

    #[test]
    fn a_taken_port_is_said_with_the_setting_to_change() {
        let first = tcp("http_addr", &on("127.0.0.1:0")).unwrap();
        let addr = first[0].local_addr().unwrap();
        let error = tcp("http_addr", &on(&addr.to_string())).unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.exit, Exit::Address);
        assert!(failure.message.contains("another program has this port"), "{failure}");
        assert!(failure.message.contains("SLUICE_HTTP_ADDR"), "{failure}");
    }

    #[test]
    fn any_address_takes_ipv4_and_ipv6() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listeners = tcp("http_addr", &on(&format!("0.0.0.0:{free}"))).unwrap();
        assert!(std::net::TcpStream::connect(("127.0.0.1", free)).is_ok());
        if listeners.len() == 2 && TcpListener::bind("[::1]:0").is_ok() {
            assert!(std::net::TcpStream::connect(("::1", free)).is_ok());
        }
    }

    #[test]
    fn off_opens_nothing() {
        assert!(tcp("rtmps_addr", &Listen::default()).unwrap().is_empty());
    }
}
