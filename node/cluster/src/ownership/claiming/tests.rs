use super::*;

const BOOT: BootId = BootId(0x00ab_cdef);

fn node(name: &str) -> NodeId {
    NodeId::new(name)
}

fn rules() -> Rules {
    Rules { node: node("me"), boot: BOOT, local_leases: true }
}

fn view(owner: Option<&str>, carriers: &[&str], known: u64) -> View {
    View {
        owner: owner.map(node),
        carriers: carriers.iter().map(|c| node(c)).collect(),
        known,
        ..View::default()
    }
}

fn tail(epoch: u64, media_sequence: u64) -> Tail {
    Tail { epoch, media_sequence, discontinuity_sequence: 1, timeline: 1_000, segmented: None }
}

fn has(epoch: u64, media_sequence: u64) -> TailAnswer {
    TailAnswer { known: epoch, tail: Some(tail(epoch, media_sequence)) }
}

fn reserve(media_sequence: u64) -> Numbers {
    Numbers { media_sequence, discontinuity_sequence: 300, timeline: 9_000 }
}

fn epoch_of(grants: u64) -> u64 {
    (grants << 32) | 1
}

fn lease(step: Step) -> Lease {
    match step {
        Step::Granted(lease) => lease,
        other => panic!("not granted: {other:?}"),
    }
}

#[test]
fn a_new_stream_asks_the_store_alone() {
    let (mut claim, step) = Claiming::start(rules(), Stored::Shared, view(None, &[], 0), None);
    assert_eq!(step, Step::AskOwner);
    assert_eq!(claim.on(Answer::Owner(None)), Step::Claim { known: 0 });
    let epoch = signed(1 << 32, BOOT);
    let step = claim.on(Answer::Claimed { epoch: 1 << 32, reserve: Numbers::default() });
    assert_eq!(step, Step::Adopt { epoch, numbers: Numbers::default() });
    let lease = lease(claim.on(Answer::Adopted));
    assert_eq!((lease.epoch, lease.numbers, lease.settled), (epoch, Numbers::default(), true));
    assert!(matches!(claim.on(Answer::Adopted), Step::Refused(_)), "it is over");
}

#[test]
fn an_owner_that_yields_gives_its_numbers() {
    let view = view(Some("a"), &["e1", "e2"], epoch_of(3));
    let (mut claim, step) = Claiming::start(rules(), Stored::Shared, view, None);
    assert_eq!(step, Step::AskYield { node: node("a") });
    let step = claim.on(Answer::Yielded(has(epoch_of(3), 41)));
    assert_eq!(step, Step::Claim { known: epoch_of(3) });
    claim.on(Answer::Claimed { epoch: 4 << 32, reserve: reserve(340) });
    assert_eq!(lease(claim.on(Answer::Adopted)).numbers.media_sequence, 42);
}

#[test]
fn an_owner_whose_publisher_sends_keeps_the_stream() {
    let (mut claim, _) = Claiming::start(rules(), Stored::Shared, view(Some("a"), &[], 9), None);
    assert_eq!(claim.on(Answer::Kept), Step::Refused(Why::InUse(node("a"))));
    // Also one that only the store knows.
    let (mut claim, _) = Claiming::start(rules(), Stored::Shared, view(None, &[], 0), None);
    assert_eq!(claim.on(Answer::Owner(Some((node("b"), 5)))), Step::AskYield { node: node("b") });
    assert_eq!(claim.on(Answer::Kept), Step::Refused(Why::InUse(node("b"))));
}

#[test]
fn after_a_dead_owner_it_goes_on_where_the_edges_were_when_all_answer() {
    let known = epoch_of(3);
    let start = || {
        let (mut claim, _) =
            Claiming::start(rules(), Stored::Shared, view(Some("a"), &["e1", "e2", "me"], known), None);
        let step = claim.on(Answer::Unreachable);
        assert_eq!(step, Step::AskTails { nodes: vec![node("e1"), node("e2")] });
        claim
    };
    let numbers = |answers| {
        let mut claim = start();
        claim.on(Answer::Tails(answers));
        claim.on(Answer::Claimed { epoch: 4 << 32, reserve: reserve(340) });
        lease(claim.on(Answer::Adopted)).numbers.media_sequence
    };
    assert_eq!(numbers(vec![(node("e1"), has(known, 40)), (node("e2"), has(known, 41))]), 42);
    assert_eq!(numbers(vec![(node("e1"), has(known, 40))]), 340, "one did not answer");
    let older = has(epoch_of(2), 20);
    assert_eq!(numbers(vec![(node("e1"), older), (node("e2"), older)]), 340, "nobody has the newest owner's");
}

#[test]
fn what_this_node_carries_counts() {
    let known = epoch_of(3);
    let own = Some(tail(known, 50));
    let (mut claim, _) = Claiming::start(rules(), Stored::Nowhere, view(Some("a"), &["me"], known), own);
    let lease = lease(claim.on(Answer::Unreachable));
    assert_eq!(lease.numbers.media_sequence, 51);
    assert_eq!(lease.epoch, local_after(known, BOOT));
    assert!(lease.settled, "there is no store that would have to know");
}

#[test]
fn a_carrier_that_saw_a_higher_epoch_raises_ours() {
    let (mut claim, _) = Claiming::start(rules(), Stored::Nowhere, view(None, &["e1"], 0), None);
    let later = local_after(77 << 24, BootId(5));
    assert_eq!(
        lease(claim.on(Answer::Tails(vec![(node("e1"), has(later, 8))]))).epoch,
        local_after(later, BOOT)
    );
}

#[test]
fn who_knows_nothing_asks_all_that_can_be_reached() {
    let others = vec![node("b"), node("c")];
    let view = View { others: others.clone(), ..View::default() };
    let (mut claim, step) = Claiming::start(rules(), Stored::Nowhere, view.clone(), None);
    assert_eq!(step, Step::AskTails { nodes: others });
    let known = local_after(0, BootId(5));
    let remembers = TailAnswer { known, tail: None };
    let lease = lease(claim.on(Answer::Tails(vec![(node("c"), remembers)])));
    assert_eq!(lease.epoch, local_after(known, BOOT));
    assert_eq!(lease.numbers.media_sequence, 1 << 20, "after all that may have been used");
    // An owner that only the store knew was asked already.
    let (mut claim, _) = Claiming::start(rules(), Stored::Shared, view, None);
    claim.on(Answer::Owner(Some((node("b"), 7))));
    assert_eq!(claim.on(Answer::NotThere(TailAnswer::default())), Step::AskTails { nodes: vec![node("c")] });
}

#[test]
fn without_the_store_a_local_lease_is_made_or_the_publisher_refused() {
    for away_at in 0..4 {
        for local_leases in [true, false] {
            let stored = if away_at == 0 { Stored::Away } else { Stored::Shared };
            let rules = Rules { local_leases, ..rules() };
            let (mut claim, mut step) = Claiming::start(rules, stored, view(None, &[], 0), None);
            let mut answers = [
                Answer::Owner(None),
                Answer::Claimed { epoch: 1 << 32, reserve: Numbers::default() },
                Answer::Adopted,
            ]
            .into_iter();
            for _ in 1..away_at {
                step = claim.on(answers.next().expect("three"));
            }
            if away_at > 0 {
                step = claim.on(Answer::Away);
            }
            if local_leases {
                let lease = lease(step);
                assert!(!lease.settled);
                // What the store may have granted after all is used, so that it can be settled.
                let expected = if away_at == 3 { signed(1 << 32, BOOT) } else { local_after(0, BOOT) };
                assert_eq!(lease.epoch, expected);
            } else {
                assert_eq!(step, Step::Refused(Why::StoreAway));
            }
        }
    }
}

#[test]
fn a_store_that_forgot_does_not_take_the_epoch_back() {
    let (mut claim, _) = Claiming::start(rules(), Stored::Shared, view(None, &[], epoch_of(9)), None);
    claim.on(Answer::Owner(None));
    let step = claim.on(Answer::Claimed { epoch: 1 << 32, reserve: Numbers::default() });
    assert!(matches!(step, Step::Adopt { epoch, .. } if epoch == signed(10 << 32, BOOT)), "{step:?}");
}

#[test]
fn who_is_overtaken_in_the_store_tries_again_a_few_times() {
    let (mut claim, _) = Claiming::start(rules(), Stored::Shared, view(None, &[], 0), None);
    let mut step = claim.on(Answer::Owner(None));
    for round in 1.. {
        let Step::Claim { known } = step else {
            assert_eq!((round, step), (4, Step::Refused(Why::Raced)));
            return;
        };
        claim.on(Answer::Claimed { epoch: granted_after(known), reserve: Numbers::default() });
        step = claim.on(Answer::Fenced { current: epoch_of(round * 2) });
    }
}

#[test]
fn an_answer_to_nothing_changes_nothing() {
    let (mut claim, step) = Claiming::start(rules(), Stored::Shared, view(None, &[], 0), None);
    for answer in [Answer::Adopted, Answer::Kept, Answer::Tails(Vec::new()), Answer::Unreachable] {
        assert_eq!(claim.on(answer), step);
    }
}
