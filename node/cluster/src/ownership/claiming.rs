//! The way of a stream to a new owner, step by step: who has it is asked to let it go, who carries it for the numbers in
//! use, the store for an epoch. The machine says what to ask next and is told the answers; it never waits and knows no
//! clock. Losing is found out afterwards: the directory tells an owner when a higher epoch has its stream.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::epoch::{HIGHEST, granted_after, local_after, signed};
use super::numbers::{self, Numbers, Segmented, Tail};
use crate::member::{BootId, NodeId};

/// How long an owner may take to say whether it lets a stream go.
pub const YIELD_WITHIN: Duration = Duration::from_millis(500);

/// How long carriers may take to say how far a stream was.
pub const TAILS_WITHIN: Duration = Duration::from_millis(200);

/// How often the store is asked again because somebody else was faster.
const ROUNDS: u32 = 3;

/// How claims are made on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// This node.
    pub node: NodeId,
    /// This run of it.
    pub boot: BootId,
    /// Whether a publisher is let in while the store is away. Without a shared store this is not looked at.
    pub local_leases: bool,
}

/// Whether there is a store that all nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// There is, and it answers as far as is known.
    Shared,
    /// There is, and it is known to be away: it is not asked.
    Away,
    /// There is none: the members agree among themselves.
    Nowhere,
}

/// What is known of a stream when a publisher comes; [`Directory::view`](crate::directory::Directory::view) gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Who owns it, other than this node.
    pub owner: Option<NodeId>,
    /// Who carries it, other than this node, reachable or not.
    pub carriers: Vec<NodeId>,
    /// The highest epoch known.
    pub known: u64,
    /// The numbers that the owner in that epoch told last.
    pub told: Option<Numbers>,
    /// When no epoch of it is remembered here: all members that can be reached, for they may remember one. This node may
    /// have just started, and the store may have lost what it had.
    pub others: Vec<NodeId>,
}

/// What a node answers when it is asked how far a stream was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailAnswer {
    /// The highest epoch of the stream that it knows.
    pub known: u64,
    /// The newest numbers that it has; none when it has nothing of the stream.
    pub tail: Option<Tail>,
}

/// What to do next. Each but the last two is answered with [`Claiming::on`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Who does the store say owns the stream? Answer: [`Answer::Owner`], [`Answer::Away`].
    AskOwner,
    /// Would this node let the stream go? At most [`YIELD_WITHIN`]. Answers: [`Answer::Yielded`], [`Answer::Kept`],
    /// [`Answer::NotThere`], and [`Answer::Unreachable`] when none came.
    AskYield {
        /// Whom to ask.
        node: NodeId,
    },
    /// How far was the stream? All of them at once, at most [`TAILS_WITHIN`]. Answer: [`Answer::Tails`].
    AskTails {
        /// Whom to ask.
        nodes: Vec<NodeId>,
    },
    /// Claim the stream in the store. Answers: [`Answer::Claimed`], [`Answer::Away`].
    Claim {
        /// The highest epoch known, for the store to go above.
        known: u64,
    },
    /// Have the store adopt this epoch. Answers: [`Answer::Adopted`], [`Answer::Fenced`], [`Answer::Away`].
    Adopt {
        /// The epoch, signed by this run of the node.
        epoch: u64,
        /// The numbers to go on with. Those that the store is told are some way ahead of them, for it must never hold
        /// one that is in use.
        numbers: Numbers,
    },
    /// The stream is this node's. Before it is written, the directory is told
    /// ([`Directory::take`](crate::directory::Directory::take)), which says at once if another epoch came meanwhile.
    Granted(Lease),
    /// The publisher is refused.
    Refused(Why),
}

/// An answer to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The store says: this node, in this epoch; or nobody.
    Owner(Option<(NodeId, u64)>),
    /// The owner has told its publisher to leave, writes no more, and was that far.
    Yielded(TailAnswer),
    /// The owner's publisher is sending; it stays.
    Kept,
    /// It does not own the stream; what it has of it.
    NotThere(TailAnswer),
    /// It did not answer in time.
    Unreachable,
    /// Those that answered in time.
    Tails(Vec<(NodeId, TailAnswer)>),
    /// The store has granted this epoch: a step, not signed yet.
    Claimed {
        /// The step.
        epoch: u64,
        /// The first numbers that it has not reserved for an owner before.
        reserve: Numbers,
    },
    /// The store has this epoch as the owner's now.
    Adopted,
    /// The store has a later epoch.
    Fenced {
        /// That one.
        current: u64,
    },
    /// The store could not be asked, or did not answer: whether it did what it was asked for is not known.
    Away,
}

/// The right to write a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Unique, and above all that was known.
    pub epoch: u64,
    /// The highest epoch that was known when it was made. If a higher one has come up since, the claim was too slow.
    pub known: u64,
    /// The first numbers to use.
    pub numbers: Numbers,
    /// How the stream was cut before.
    pub segmented: Option<Segmented>,
    /// Whether the shared store knows. If not, it is to adopt the epoch when it is back; without one it is true.
    pub settled: bool,
}

/// Why a publisher is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// Another node has its publisher, and that one is sending.
    #[error("it is being published on node {0} already: stop the other publisher or choose another id")]
    InUse(NodeId),
    /// The store cannot be asked, and local leases are off.
    #[error("the store does not answer, so nothing new can be published: try again, or allow local leases")]
    StoreAway,
    /// Other nodes claimed it again and again at the same time.
    #[error("other nodes claimed it at the same time: publish again")]
    Raced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Owner,
    Yield,
    Tails,
    Claim,
    Adopt { epoch: u64, numbers: Numbers },
    Done,
}

/// One claim of one stream, for one publisher.
#[derive(Clone, Debug)]
pub struct Claiming {
    rules: Rules,
    stored: Stored,
    at: At,
    rounds: u32,
    known: u64,
    tails: Vec<Tail>,
    // In which epoch, which numbers.
    told: Option<(u64, Numbers)>,
    // Whoever may have used a number has said so.
    complete: bool,
    carriers: Vec<NodeId>,
    others: Vec<NodeId>,
    asked: Option<NodeId>,
}

impl Claiming {
    /// A publisher has come, and this node does not own the stream. `own` is what this node itself has of it: as a
    /// carrier, or from when it was its owner.
    pub fn start(rules: Rules, stored: Stored, view: View, own: Option<Tail>) -> (Claiming, Step) {
        let mut claiming = Claiming {
            at: At::Done,
            rounds: 0,
            known: view.known.max(own.map_or(0, |t| t.epoch)).min(HIGHEST),
            tails: own.into_iter().collect(),
            told: view.told.map(|numbers| (view.known, numbers)),
            complete: false,
            carriers: view.carriers,
            others: view.others,
            asked: None,
            stored,
            rules,
        };
        claiming.carriers.retain(|n| *n != claiming.rules.node);
        let step = match view.owner.filter(|n| *n != claiming.rules.node) {
            Some(owner) => claiming.ask_yield(owner),
            None if stored == Stored::Shared => {
                claiming.at = At::Owner;
                Step::AskOwner
            }
            None => claiming.ask_tails(),
        };
        (claiming, step)
    }

    /// An answer has come. One that does not belong to the step is ignored: the step is given again.
    pub fn on(&mut self, answer: Answer) -> Step {
        match (self.at, answer) {
            (At::Owner, Answer::Owner(owner)) => {
                self.learn(owner.as_ref().map_or(0, |(_, epoch)| *epoch));
                match owner.map(|(node, _)| node).filter(|n| *n != self.rules.node) {
                    Some(owner) => self.ask_yield(owner),
                    None => self.ask_tails(),
                }
            }
            (At::Owner, Answer::Away) => {
                self.stored = Stored::Away;
                self.ask_tails()
            }
            (At::Yield, Answer::Kept) => {
                self.at = At::Done;
                Step::Refused(Why::InUse(self.asked.clone().unwrap_or_else(|| self.rules.node.clone())))
            }
            (At::Yield, Answer::Yielded(answer)) => {
                self.told(answer);
                // The newest owner itself: nobody can have a higher number.
                if answer.tail.is_some_and(|t| t.epoch >= self.known) {
                    self.complete = true;
                    return self.claim();
                }
                self.ask_tails()
            }
            (At::Yield, Answer::NotThere(answer)) => {
                self.told(answer);
                self.ask_tails()
            }
            (At::Yield, Answer::Unreachable) => self.ask_tails(),
            (At::Tails, Answer::Tails(answers)) => {
                let all = self.carriers.iter().all(|n| answers.iter().any(|(from, _)| from == n));
                for (_, answer) in answers {
                    self.told(answer);
                }
                self.complete = all && self.newest_is_known();
                self.claim()
            }
            (At::Claim, Answer::Claimed { epoch, reserve }) => {
                // A store that forgot what is known here.
                let granted = epoch.min(HIGHEST).max(granted_after(self.known));
                let epoch = signed(granted, self.rules.boot);
                let numbers = self.numbers(Some(reserve));
                self.at = At::Adopt { epoch, numbers };
                Step::Adopt { epoch, numbers }
            }
            (At::Claim, Answer::Away) => {
                self.stored = Stored::Away;
                self.local()
            }
            (At::Adopt { epoch, numbers }, Answer::Adopted) => self.granted(epoch, numbers, true),
            (At::Adopt { epoch, numbers }, Answer::Away) => {
                self.stored = Stored::Away;
                if self.rules.local_leases {
                    self.granted(epoch, numbers, false)
                } else {
                    self.refused(Why::StoreAway)
                }
            }
            (At::Adopt { .. }, Answer::Fenced { current }) => {
                self.learn(current);
                self.rounds += 1;
                if self.rounds >= ROUNDS { self.refused(Why::Raced) } else { self.claim() }
            }
            _ => self.again(),
        }
    }

    /// The longest that the answer to a step may take; none where the store has limits of its own.
    pub fn limit(step: &Step) -> Option<Duration> {
        match step {
            Step::AskYield { .. } => Some(YIELD_WITHIN),
            Step::AskTails { .. } => Some(TAILS_WITHIN),
            _ => None,
        }
    }

    fn learn(&mut self, epoch: u64) {
        self.known = self.known.max(epoch).min(HIGHEST);
    }

    fn told(&mut self, answer: TailAnswer) {
        self.learn(answer.known);
        if let Some(tail) = answer.tail {
            self.learn(tail.epoch);
            self.tails.push(tail);
        }
    }

    fn numbers(&self, reserve: Option<Numbers>) -> Numbers {
        numbers::after(&self.tails, self.told, self.complete, reserve, self.known)
    }

    fn newest_is_known(&self) -> bool {
        self.tails.iter().any(|t| t.epoch >= self.known)
    }

    fn ask_yield(&mut self, owner: NodeId) -> Step {
        self.at = At::Yield;
        self.carriers.retain(|n| *n != owner);
        self.asked = Some(owner.clone());
        Step::AskYield { node: owner }
    }

    fn ask_tails(&mut self) -> Step {
        if self.carriers.is_empty() {
            self.carriers = std::mem::take(&mut self.others);
            self.carriers.retain(|n| Some(n) != self.asked.as_ref());
        }
        if self.carriers.is_empty() {
            self.complete = self.newest_is_known();
            return self.claim();
        }
        self.at = At::Tails;
        Step::AskTails { nodes: self.carriers.clone() }
    }

    fn claim(&mut self) -> Step {
        if self.stored != Stored::Shared {
            return self.local();
        }
        self.at = At::Claim;
        self.again()
    }

    fn local(&mut self) -> Step {
        if self.stored == Stored::Away && !self.rules.local_leases {
            return self.refused(Why::StoreAway);
        }
        let epoch = local_after(self.known, self.rules.boot);
        let numbers = self.numbers(None);
        self.granted(epoch, numbers, self.stored == Stored::Nowhere)
    }

    fn granted(&mut self, epoch: u64, numbers: Numbers, settled: bool) -> Step {
        self.at = At::Done;
        Step::Granted(Lease {
            epoch,
            known: self.known,
            numbers,
            segmented: numbers::segmented(&self.tails),
            settled,
        })
    }

    fn refused(&mut self, why: Why) -> Step {
        self.at = At::Done;
        Step::Refused(why)
    }

    fn again(&self) -> Step {
        match self.at {
            At::Owner => Step::AskOwner,
            At::Yield => match &self.asked {
                Some(node) => Step::AskYield { node: node.clone() },
                None => Step::Refused(Why::Raced),
            },
            At::Tails => Step::AskTails { nodes: self.carriers.clone() },
            At::Claim => Step::Claim { known: self.known },
            At::Adopt { epoch, numbers } => Step::Adopt { epoch, numbers },
            At::Done => Step::Refused(Why::Raced),
        }
    }
}

#[cfg(test)]
mod tests;
