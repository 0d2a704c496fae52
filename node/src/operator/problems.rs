//! What is wrong with a node, in sentences for people. They name no number that changes by itself: the operator is woken
//! when they change. Pure.

use sluice_control::{MAX_PROBLEMS, PROBLEM_CHARS};

/// Nodes that are named in a sentence.
const NAMED: usize = 3;

/// What may be wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Problems {
    /// The shared store does not answer.
    pub(super) store_away: bool,
    /// As many streams are published as may be: how many that is.
    pub(super) at_streams: Option<u32>,
    /// As many viewers are there as may be: how many that is.
    pub(super) at_viewers: Option<u32>,
    /// Members that are alive, but not for this node.
    pub(super) unreachable: Vec<String>,
    /// Another node has the same id.
    pub(super) twin: bool,
}

impl Problems {
    pub(super) fn sentences(mut self) -> Vec<String> {
        let mut all = Vec::new();
        if self.twin {
            all.push(
                "another node of the cluster has the same id: give each its own (node_id, POD_NAME)"
                    .to_owned(),
            );
        }
        if self.store_away {
            all.push("the database does not answer; what is live goes on".to_owned());
        }
        if let Some(most) = self.at_streams {
            all.push(format!("full: as many streams are published as it takes (max_streams = {most})"));
        }
        if let Some(most) = self.at_viewers {
            all.push(format!("full: as many viewers are there as it takes (max_viewers = {most})"));
        }
        if !self.unreachable.is_empty() {
            self.unreachable.sort();
            let more = match self.unreachable.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.unreachable.truncate(NAMED);
            let names = self.unreachable.join(", ");
            all.push(format!(
                "it cannot reach {names}{more} over the cluster port (a NetworkPolicy, a firewall?)"
            ));
        }
        all.truncate(MAX_PROBLEMS);
        all.iter().map(|sentence| sentence.chars().take(PROBLEM_CHARS).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_said_and_bounded() {
        assert!(Problems::default().sentences().is_empty());
        let all = Problems {
            store_away: true,
            at_streams: Some(2),
            at_viewers: Some(3),
            unreachable: (0..9).rev().map(|n| format!("edge-{n}")).collect(),
            twin: true,
        };
        let all = all.sentences();
        assert_eq!(all.len(), 5);
        assert!(all[4].starts_with("it cannot reach edge-0, edge-1, edge-2 and 6 more over"), "{all:?}");
        let long = Problems { unreachable: vec!["n".repeat(1000)], ..Problems::default() };
        assert_eq!(long.sentences()[0].chars().count(), PROBLEM_CHARS);
    }
}
