//! Options of the sockets between nodes.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Unacknowledged data or an unanswered probe for this long: the other end is gone.
const GONE: Duration = Duration::from_secs(5);

/// Small messages go at once, and a peer that has vanished is noticed by the kernel even when nobody writes.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(GONE).with_interval(Duration::from_secs(1)).with_retries(5);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(GONE))?;
    Ok(())
}
