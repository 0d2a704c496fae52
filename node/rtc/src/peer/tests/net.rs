//! The network between two peers.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        }
    }
}

/// What happens to datagrams, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) twice: u64,
    /// Added to the delay, up to this.
    pub(super) jitter: Duration,
}

/// One way.
const DELAY: Duration = Duration::from_millis(10);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5004);

pub(super) struct Net {
    server: Peer,
    client: Peer,
    pub(super) now: Instant,
    pub(super) weather: Weather,
    /// Whether STUN is lost.
    pub(super) hold_stun: bool,
    client_at: SocketAddr,
    /// Datagrams on the way: when they arrive, where, from which address of the client or to which.
    flying: Vec<(Instant, Side, SocketAddr, BytesMut)>,
    said: [Vec<Output>; 2],
    random: u64,
}

impl Net {
    pub(super) fn new(server: Config, client: Config, weather: Weather, seed: u64) -> Self {
        let now = Instant::now();
        let client_at = SocketAddr::from(([198, 51, 100, 1], 40000));
        let mut net = Net {
            server: Peer::new(server, now),
            client: Peer::new(client, now),
            now,
            weather,
            hold_stun: false,
            client_at,
            flying: Vec::new(),
            said: [Vec::new(), Vec::new()],
            random: seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1,
        };
        let path = net.path(Side::Client);
        net.client.dial(&[path], seed, now);
        net
    }

    pub(super) fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }

    /// The path as a side sees it.
    pub(super) fn path(&self, side: Side) -> Path {
        let (local, remote) = match side {
            Side::Server => (SERVER, self.client_at),
            Side::Client => (self.client_at, SERVER),
        };
        Path { local, remote, tcp: false }
    }

    /// The client gets another address.
    pub(super) fn move_client(&mut self) {
        self.client_at = SocketAddr::from(([203, 0, 113, 7], 50000));
        let (path, now) = (self.path(Side::Client), self.now);
        self.client.dial(&[path], 77, now);
    }

    pub(super) fn outputs(&self, side: Side) -> &[Output] {
        &self.said[side as usize]
    }

    pub(super) fn take(&mut self, side: Side) -> Vec<Output> {
        std::mem::take(&mut self.said[side as usize])
    }

    pub(super) fn on_the_way(&self, to: Side) -> usize {
        self.flying.iter().filter(|(_, side, ..)| *side == to).count()
    }

    pub(super) fn connected(&self) -> bool {
        self.said.iter().all(|said| said.iter().any(|o| matches!(o, Output::Connected)))
    }

    /// Lets time pass until both are connected, and says how long it took.
    pub(super) fn connect(&mut self) -> Duration {
        let start = self.now;
        self.run(Duration::from_secs(30), Net::connected);
        assert!(self.connected(), "{:?}", self.said);
        self.now - start
    }

    /// Lets time pass until something is so, but not longer.
    pub(super) fn run(&mut self, atmost: Duration, until: impl Fn(&Net) -> bool) {
        let end = self.now + atmost;
        loop {
            self.drain();
            if until(self) {
                return;
            }
            let timers = [self.server.timeout(), self.client.timeout()];
            let arrivals = self.flying.iter().map(|(at, ..)| *at);
            let next = timers.into_iter().flatten().chain(arrivals).min().unwrap_or(end).min(end);
            self.now = self.now.max(next);
            if self.now >= end {
                return;
            }
            self.arrive();
            let now = self.now;
            for peer in [&mut self.server, &mut self.client] {
                if peer.timeout().is_some_and(|at| at <= now) {
                    peer.handle_timeout(now);
                }
            }
        }
    }

    fn arrive(&mut self) {
        let mut due = Vec::new();
        self.flying.retain_mut(|(at, to, client_at, datagram)| {
            let keep = *at > self.now;
            if !keep {
                due.push((*at, *to, *client_at, std::mem::take(datagram)));
            }
            keep
        });
        due.sort_by_key(|(at, ..)| *at);
        for (_, to, client_at, datagram) in due {
            let path = match to {
                Side::Server => Path { local: SERVER, remote: client_at, tcp: false },
                Side::Client => Path { local: client_at, remote: SERVER, tcp: false },
            };
            let now = self.now;
            self.peer(to).receive(path, datagram, now);
        }
    }

    /// Sends what the peers want to send, and keeps what they say.
    pub(super) fn drain(&mut self) {
        for from in [Side::Server, Side::Client] {
            let now = self.now;
            while let Some(output) = self.peer(from).poll(now) {
                match output {
                    Output::Send { path, datagram } => self.fly(from, path, datagram),
                    said => self.said[from as usize].push(said),
                }
            }
        }
    }

    fn fly(&mut self, from: Side, path: Path, datagram: BytesMut) {
        assert!(datagram.len() <= 1200, "{}", datagram.len());
        let client_at = match from {
            Side::Server => path.remote,
            Side::Client => path.local,
        };
        let stun = datagram.first().is_some_and(|first| *first <= 3);
        if self.chance(self.weather.loss) || stun && self.hold_stun {
            return;
        }
        let copies = if self.chance(self.weather.twice) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.weather.jitter.as_micros() as u64;
            let jitter = Duration::from_micros(self.random() % (jitter + 1));
            self.flying.push((self.now + DELAY + jitter, from.other(), client_at, datagram.clone()));
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }
}
