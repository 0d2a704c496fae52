use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::*;

struct No;

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no")
    }
}

impl Failure for No {
    fn reason(&self) -> &'static str {
        "no"
    }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[tokio::test(start_paused = true)]
async fn coalesces_and_never_runs_a_key_twice_at_once() {
    let (queue, metrics, beat) = (Queue::<&'static str>::new(), Metrics::new(), Beat::new("test"));
    let (runs, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..10 {
        queue.trigger("a");
    }
    let worker = queue.run("Test", 4, &metrics, &beat, sleep(secs(10)), |_key| {
        let (runs, at_once) = (runs.clone(), at_once.clone());
        async move {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
            runs.fetch_add(1, Ordering::SeqCst);
            sleep(secs(2)).await;
            at_once.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, No>(Next::Change)
        }
    });
    let more = async {
        sleep(secs(1)).await;
        // While it runs: once more afterwards, however often.
        queue.trigger("a");
        queue.trigger("a");
    };
    tokio::join!(worker, more);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn waits_longer_with_each_failure_and_not_after_a_success() {
    let (queue, metrics, beat) = (Queue::<u8>::new(), Metrics::new(), Beat::new("test"));
    let started = Instant::now();
    let times = Arc::new(Mutex::new(Vec::new()));
    queue.trigger(7);
    queue
        .run("Test", 1, &metrics, &beat, sleep(secs(60)), |_| {
            let times = times.clone();
            async move {
                let mut times = times.lock().expect("no panic");
                times.push(started.elapsed().as_secs_f64());
                if times.len() <= 4 { Err(No) } else { Ok(Next::After(secs(20))) }
            }
        })
        .await;
    let times = times.lock().expect("no panic").clone();
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, most) in gaps.iter().zip([0.5, 1.0, 2.0, 4.0]) {
        assert!(*gap <= most + 0.01 && *gap >= most * 0.75 - 0.01, "{gap} of {most}: {gaps:?}");
    }
    assert!(gaps[4..].iter().all(|gap| (gap - 20.0).abs() < 0.01), "{gaps:?}");
    assert_eq!(metrics.reconcile_failures.with_label_values(&["Test", "no"]).get(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_hang_are_failures_of_their_key_alone() {
    let (queue, metrics, beat) = (Queue::<&'static str>::new(), Metrics::new(), Beat::new("test"));
    let good = Arc::new(AtomicUsize::new(0));
    for key in ["hangs", "panics", "good"] {
        queue.trigger(key);
    }
    queue
        .run("Test", 3, &metrics, &beat, sleep(secs(130)), |key| {
            let good = good.clone();
            async move {
                match key {
                    "hangs" => std::future::pending().await,
                    "panics" => panic!("on purpose"),
                    _ => good.fetch_add(1, Ordering::SeqCst),
                };
                Ok::<_, No>(Next::Change)
            }
        })
        .await;
    assert_eq!(good.load(Ordering::SeqCst), 1);
    assert_eq!(metrics.reconcile_failures.with_label_values(&["Test", "stuck"]).get(), 1);
    assert!(metrics.reconcile_failures.with_label_values(&["Test", "panic"]).get() > 3);
}

#[tokio::test(start_paused = true)]
async fn keeps_to_its_concurrency_without_spinning() {
    let (queue, metrics, beat) = (Queue::<u32>::new(), Metrics::new(), Beat::new("test"));
    let (now, most, done) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for key in 0..100 {
        queue.trigger(key);
    }
    let started = Instant::now();
    queue
        .run("Test", 10, &metrics, &beat, sleep(secs(30)), |_| {
            let (now, most, done) = (now.clone(), most.clone(), done.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(secs(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
                Ok::<_, No>(Next::Change)
            }
        })
        .await;
    assert_eq!(most.load(Ordering::SeqCst), 10);
    assert_eq!(done.load(Ordering::SeqCst), 100);
    assert!(started.elapsed() >= secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_change_brings_a_failed_key_forward_but_not_at_once() {
    let now = Instant::now();
    let mut state = State::default();
    state.trigger('a', now, Duration::ZERO);
    assert_eq!(state.take(now), Some('a'));
    for _ in 0..10 {
        state.failed('a', now, 0.0);
        let due = state.next().expect("it is tried again");
        assert_eq!(state.take(due), Some('a'));
    }
    // 512 s would be the wait, 300 s is the limit.
    assert_eq!(state.failed('a', now, 0.0), secs(300));
    assert!(state.trigger('a', now, DEBOUNCE));
    assert_eq!(state.next(), Some(now + secs(1)));
    advance(secs(1)).await;
    assert_eq!(state.take(Instant::now()), Some('a'));
}

#[tokio::test(start_paused = true)]
async fn a_later_wish_does_not_delay_an_earlier_one() {
    let now = Instant::now();
    let mut state = State::default();
    assert!(state.trigger('a', now, secs(1)));
    assert!(!state.trigger('a', now, secs(5)));
    assert!(state.trigger('a', now, Duration::ZERO));
    assert_eq!(state.take(now), Some('a'));
    assert_eq!(state.waiting(), 0);
}

proptest! {
    /// Whatever happens in whatever order: a key waits at most once, none is lost, none runs twice at once.
    #[test]
    fn no_key_is_lost_or_doubled(steps in prop::collection::vec((0u8..4, 0u8..5, 0u64..2000), 1..200)) {
        let start = Instant::now();
        let mut now = start;
        let mut state = State::default();
        let mut running = std::collections::HashSet::new();
        let mut wanted = std::collections::HashSet::new();
        for (what, key, ms) in steps {
            now += Duration::from_millis(ms);
            match what {
                0 => { state.trigger(key, now, DEBOUNCE); wanted.insert(key); }
                1 => if let Some(key) = state.take(now) {
                    prop_assert!(running.insert(key));
                    wanted.remove(&key);
                },
                2 => if running.remove(&key) { state.succeeded(key, Next::Change, now); },
                _ => if running.remove(&key) { state.failed(key, now, 0.5); wanted.insert(key); },
            }
        }
        for key in running { state.succeeded(key, Next::Change, now); }
        let end = now + secs(1000);
        while let Some(key) = state.take(end) {
            wanted.remove(&key);
            state.succeeded(key, Next::Change, end);
        }
        prop_assert!(wanted.is_empty(), "{wanted:?}");
    }
}
