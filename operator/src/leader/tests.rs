use super::*;

const TIMES: Times = Times {
    duration: Duration::from_secs(15),
    deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

fn held_by(holder: &str, version: u64) -> Option<Record> {
    Some(Record {
        holder: (!holder.is_empty()).then(|| holder.to_owned()),
        version: version.to_string(),
        duration: Some(TIMES.duration),
    })
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Each line: seconds since the start, what is seen, what is to be done.
#[tokio::test(start_paused = true)]
async fn who_may_take_it() {
    type Look = (u64, Option<Record>, Step);
    let cases: [(&str, Vec<Look>); 6] = [
        ("there is none", vec![(0, None, Step::Write)]),
        ("it was given up", vec![(0, held_by("", 5), Step::Write)]),
        ("it is renewed", (0..20).map(|n| (2 * n, held_by("b", n), Step::Wait)).collect()),
        (
            "its holder is silent, and waits the whole time since that was seen",
            vec![
                (0, held_by("b", 1), Step::Wait),
                (2, held_by("b", 2), Step::Wait),
                (16, held_by("b", 2), Step::Wait),
                (17, held_by("b", 2), Step::Write),
            ],
        ),
        ("our own from before: renew", vec![(0, held_by("a", 7), Step::Write)]),
        (
            "silent, then another one takes it first",
            vec![
                (0, held_by("b", 1), Step::Wait),
                (15, held_by("b", 1), Step::Write),
                (17, held_by("c", 2), Step::Wait),
                (31, held_by("c", 2), Step::Wait),
                (32, held_by("c", 2), Step::Write),
            ],
        ),
    ];
    let start = Instant::now();
    for (case, looks) in cases {
        let mut election = Election::new("a".into(), TIMES);
        for (at, record, expected) in looks {
            assert_eq!(election.seen(record, start + secs(at)), expected, "{case}, at {at} s");
            assert!(!election.holds(start + secs(at)), "{case}: nothing was written");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_ends_at_the_deadline_or_when_another_is_seen() {
    let start = Instant::now();
    let mut election = Election::new("a".into(), TIMES);
    election.seen(None, start);
    election.wrote(start);
    assert!(election.holds(start + secs(9)));
    assert!(
        !election.holds(start + secs(10)),
        "earlier than another one may take it, 15 s after it saw the write"
    );
    election.wrote(start + secs(8));
    assert!(election.holds(start + secs(17)));
    assert_eq!(election.seen(held_by("b", 3), start + secs(9)), Step::Wait);
    assert!(!election.holds(start + secs(9)));
    assert_eq!(election.other_holder(), Some("b"));
}

/// A lease with a longer time of its own is respected.
#[tokio::test(start_paused = true)]
async fn the_longer_duration_counts() {
    let start = Instant::now();
    let mut election = Election::new("a".into(), TIMES);
    let slow = Record { holder: Some("b".into()), version: "1".into(), duration: Some(secs(60)) };
    assert_eq!(election.seen(Some(slow.clone()), start), Step::Wait);
    assert_eq!(election.seen(Some(slow.clone()), start + secs(59)), Step::Wait);
    assert_eq!(election.seen(Some(slow), start + secs(60)), Step::Write);
}

mod with_an_api_server {
    use std::sync::{Arc, Mutex};

    use clap::Parser;
    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use kube::client::Body;

    use super::*;

    /// What an API server does with one Lease, and what happens to it.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        /// So many writes are refused.
        forbid: u32,
        lease: Option<Lease>,
        version: u64,
        away: bool,
        writes: u32,
    }

    impl Server {
        fn client(&self) -> Client {
            let server = self.clone();
            Client::new(
                tower::service_fn(move |request: Request<Body>| {
                    let server = server.clone();
                    async move { server.answer(request).await }
                }),
                "sluice-system",
            )
        }

        fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
            f(&mut self.0.lock().expect("no panic"))
        }

        async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
            let method = request.method().clone();
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            if self.with(|state| state.away) {
                // As when the machine is gone: no answer at all.
                std::future::pending::<()>().await;
            }
            let (status, body) = self.with(|state| {
                let gone = |code: u16, reason: &str| {
                    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
                    (code, serde_json::to_vec(&status).expect("json"))
                };
                if method == Method::GET {
                    return match &state.lease {
                        Some(lease) => (200, serde_json::to_vec(lease).expect("json")),
                        None => gone(404, "NotFound"),
                    };
                }
                if state.forbid > 0 {
                    state.forbid -= 1;
                    return gone(403, "Forbidden");
                }
                let mut lease: Lease = serde_json::from_slice(&body).expect("a lease");
                let found = state.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                if lease.metadata.resource_version != found {
                    return gone(409, "Conflict");
                }
                state.version += 1;
                state.writes += 1;
                lease.metadata.resource_version = Some(state.version.to_string());
                state.lease = Some(lease.clone());
                (200, serde_json::to_vec(&lease).expect("json"))
            });
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            Ok(response)
        }

        fn holder(&self) -> Option<String> {
            self.with(|state| state.lease.as_ref()?.spec.as_ref()?.holder_identity.clone())
        }
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn leader(server: &Server, pod: &str) -> Leader {
        let settings = Cli::parse_from(["test", "--pod-name", pod]).settings;
        Leader::new(server.client(), &settings, Beat::new("leader"), &Metrics::new())
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_the_next_at_once_after_a_clean_end() {
        let server = Server::default();
        let (mut a, mut b) = (leader(&server, "a"), leader(&server, "b"));
        a.acquire().await;
        assert_eq!(server.holder().as_deref(), Some(a.identity()));
        tokio::select! {
            () = b.acquire() => panic!("two at once"),
            lost = a.keep() => panic!("{lost}"),
            () = sleep(secs(120)) => {}
        }
        // Its rights are changed while it ends.
        server.with(|state| state.forbid = 3);
        a.release().await;
        let given_up = Instant::now();
        b.acquire().await;
        assert!(given_up.elapsed() <= secs(4), "{:?}", given_up.elapsed());
        let transitions = server.with(|state| state.lease.as_ref()?.spec.as_ref()?.lease_transitions);
        assert_eq!(transitions, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_ends_before_another_begins_when_it_is_cut_off() {
        let (here, there) = (Server::default(), Server::default());
        let mut a = leader(&here, "a");
        a.acquire().await;
        let cut = Instant::now();
        here.with(|state| {
            state.away = true;
            let (lease, version) = (state.lease.clone(), state.version);
            there.with(|other| (other.lease, other.version) = (lease, version));
        });
        let mut b = leader(&there, "b");
        let ended = async {
            let lost = a.keep().await;
            (lost, cut.elapsed())
        };
        let began = async {
            b.acquire().await;
            cut.elapsed()
        };
        let ((lost, ended), began) = tokio::join!(ended, began);
        assert!(matches!(&lost, Lost::Silence { error, .. } if error == "no answer"), "{lost}");
        assert!(ended <= secs(11) && began >= secs(15) && began <= secs(22), "{ended:?} {began:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_another_took_is_lost_and_a_short_outage_is_not() {
        let server = Server::default();
        let mut a = leader(&server, "a");
        a.acquire().await;
        server.with(|state| state.away = true);
        let back = async {
            sleep(secs(5)).await;
            server.with(|state| state.away = false);
            sleep(secs(60)).await;
            server.with(|state| {
                state.version += 1;
                let version = state.version.to_string();
                let lease = state.lease.as_mut().expect("a lease");
                lease.metadata.resource_version = Some(version);
                lease.spec.as_mut().expect("a spec").holder_identity = Some("b".into());
            });
            Instant::now()
        };
        let (lost, taken) = tokio::join!(a.keep(), back);
        assert_eq!(lost, Lost::Taken { lease: "sluice-system/sluice-operator".into(), holder: "b".into() });
        assert!(taken.elapsed() <= secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn renews_every_two_seconds_and_not_more_often() {
        let server = Server::default();
        let mut a = leader(&server, "a");
        a.acquire().await;
        let before = server.with(|state| state.writes);
        tokio::select! {
            lost = a.keep() => panic!("{lost}"),
            () = sleep(secs(60)) => {}
        }
        let writes = server.with(|state| state.writes) - before;
        assert!((28..=31).contains(&writes), "{writes}");
    }
}
