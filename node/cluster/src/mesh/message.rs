//! What is said on a link: JSON messages behind their length. See docs/cluster-protocol.md.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Changes;
use crate::identity::valid_node_id;
use crate::member::{BootId, Carried, Member, NodeId, Owned};

/// A message has at most as many bytes.
pub const MAX_BYTES: usize = 8 << 20;

/// Messages are split so that they stay below this, by an estimate that is never too low.
const SPLIT_BYTES: usize = 4 << 20;

/// A stream takes no more than this, but for its names.
const STREAM_BYTES: usize = 512;

/// A name in a message has at most as many bytes.
const NAME_BYTES: usize = 255;

/// A stream comes through at most as many nodes.
const PATH: usize = 16;

const LENGTH: usize = 4;

/// A message. Fields that are missing are empty; what is not known is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// The first one: who dials, and what it owns and carries.
    Hello {
        /// The node that dials.
        member: Member,
        /// Its streams.
        #[serde(default)]
        owned: Vec<Owned>,
        /// The streams that it fetches from others.
        #[serde(default)]
        carried: Vec<Carried>,
        /// A `more` follows.
        #[serde(default)]
        more: bool,
    },
    /// What did not fit into the hello.
    More {
        /// Further streams.
        #[serde(default)]
        owned: Vec<Owned>,
        /// Further streams.
        #[serde(default)]
        carried: Vec<Carried>,
        /// Another `more` follows.
        #[serde(default)]
        more: bool,
    },
    /// What has changed.
    Update {
        /// Of its streams.
        #[serde(default)]
        owned: Changes<Owned>,
        /// Of those that it fetches.
        #[serde(default)]
        carried: Changes<Carried>,
    },
    /// Each second.
    Tick {
        /// Grows.
        counter: u64,
        /// The node that dialled.
        member: Member,
    },
    /// The answer to a complete hello: who was dialled.
    Welcome {
        /// Its name.
        id: NodeId,
        /// This run of it.
        boot: BootId,
    },
    /// The other answer; the link ends.
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// The answer to a tick.
    Ack {
        /// The tick's.
        counter: u64,
    },
    /// Of a later release.
    #[serde(other)]
    Unknown,
}

/// Why a link is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The node has dialled itself.
    Itself,
    /// The node that was dialled has the same name, but it is another.
    Namesake,
    /// The member's id is not the one in its certificate.
    Name,
    /// There are too many members.
    Full,
    /// Of a later release.
    #[serde(other)]
    Other,
}

/// A peer said something that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Longer than any message may be.
    #[error("a message of {0} bytes: at most {MAX_BYTES} are allowed")]
    Long(u64),
    /// No message.
    #[error("a message that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A value is out of bounds.
    #[error("a message with {0}")]
    Bounds(&'static str),
    /// It has no place there.
    #[error("a message out of turn")]
    Turn,
}

impl Message {
    /// With its length before it.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![0; LENGTH];
        serde_json::to_writer(&mut out, self).expect("what nodes say of themselves can be written as JSON");
        let length = u32::try_from(out.len() - LENGTH).expect("messages are split below this");
        out[..LENGTH].copy_from_slice(&length.to_be_bytes());
        out.into()
    }

    /// From its bytes, without the length.
    ///
    /// # Errors
    /// What is no message, or has names or lists beyond all bounds.
    pub fn parse(bytes: &[u8]) -> Result<Message, MessageError> {
        let message: Message = serde_json::from_slice(bytes)?;
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Message::Hello { member, owned, carried, .. } => {
                check_member(member)?;
                check_streams(owned, carried)
            }
            Message::More { owned, carried, .. } => check_streams(owned, carried),
            Message::Update { owned, carried } => {
                check_streams(&owned.put, &carried.put)?;
                owned.gone.iter().chain(&carried.gone).try_for_each(|(app, id)| check_key(app, id))
            }
            Message::Tick { member, .. } => check_member(member),
            Message::Welcome { .. } | Message::Refused { .. } | Message::Ack { .. } | Message::Unknown => {
                Ok(())
            }
        }
    }
}

fn check_member(member: &Member) -> Result<(), MessageError> {
    if !valid_node_id(member.id.as_str()) {
        return Err(MessageError::Bounds("a node id that is none"));
    }
    if [&member.host, &member.group, &member.version].iter().any(|text| text.len() > NAME_BYTES) {
        return Err(MessageError::Bounds("a member whose names are too long"));
    }
    Ok(())
}

fn check_streams(owned: &[Owned], carried: &[Carried]) -> Result<(), MessageError> {
    owned.iter().try_for_each(|stream| check_key(&stream.app, &stream.id))?;
    carried.iter().try_for_each(|stream| {
        let path = &stream.path;
        if path.len() > PATH || path.iter().any(|node| !valid_node_id(node.as_str())) {
            return Err(MessageError::Bounds("a path that is none"));
        }
        check_key(&stream.app, &stream.id)
    })
}

fn check_key(app: &str, id: &str) -> Result<(), MessageError> {
    if [app, id].iter().any(|name| !(1..=NAME_BYTES).contains(&name.len())) {
        return Err(MessageError::Bounds("a stream without a name, or with a name that is too long"));
    }
    Ok(())
}

/// Finds messages in bytes as they come.
#[derive(Default)]
pub struct Decoder {
    /// What has come; read into it.
    pub buffer: BytesMut,
}

impl Decoder {
    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// As [`Message::parse`], and a length that is too large.
    #[expect(clippy::should_implement_trait, reason = "none now does not mean none later")]
    pub fn next(&mut self) -> Result<Option<Message>, MessageError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let size = length as usize;
        if size > MAX_BYTES {
            return Err(MessageError::Long(u64::from(length)));
        }
        if self.buffer.len() - LENGTH < size {
            return Ok(None);
        }
        self.buffer.advance(LENGTH);
        let message = Message::parse(&self.buffer.split_to(size))?;
        if self.buffer.is_empty() {
            // The memory of a large hello is not kept.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

/// The messages that say all of this, the first a hello.
pub(super) fn hello(member: &Member, owned: Vec<Owned>, carried: Vec<Carried>) -> Vec<Bytes> {
    let owned = Changes { put: owned, gone: Vec::new() };
    let carried = Changes { put: carried, gone: Vec::new() };
    let parts = split(owned, carried);
    let last = parts.len().saturating_sub(1);
    let messages = parts.into_iter().enumerate().map(|(at, part)| {
        let (owned, carried, more) = (part.owned.put, part.carried.put, at < last);
        match at {
            0 => Message::Hello { member: member.clone(), owned, carried, more },
            _ => Message::More { owned, carried, more },
        }
    });
    messages.map(|message| message.encode()).collect()
}

/// The messages that tell these changes; none when there are none.
pub(super) fn update(owned: Changes<Owned>, carried: Changes<Carried>) -> Vec<Bytes> {
    if owned.is_empty() && carried.is_empty() {
        return Vec::new();
    }
    let parts = split(owned, carried).into_iter();
    parts.map(|part| Message::Update { owned: part.owned, carried: part.carried }.encode()).collect()
}

#[derive(Default)]
struct Part {
    owned: Changes<Owned>,
    carried: Changes<Carried>,
}

/// Parts that are small enough for a message each, in order; at least one.
fn split(owned: Changes<Owned>, carried: Changes<Carried>) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    let mut room = SPLIT_BYTES;
    let mut part_for = |cost: usize, add: &mut dyn FnMut(&mut Part)| {
        if cost > room {
            parts.push(Part::default());
            room = SPLIT_BYTES;
        }
        room = room.saturating_sub(cost);
        if let Some(part) = parts.last_mut() {
            add(part);
        }
    };
    let key = |(app, id): &(Arc<str>, Arc<str>)| cost(app) + cost(id);
    for gone in owned.gone {
        part_for(key(&gone), &mut |part| part.owned.gone.push(gone.clone()));
    }
    for gone in carried.gone {
        part_for(key(&gone), &mut |part| part.carried.gone.push(gone.clone()));
    }
    for stream in owned.put {
        let size = cost(&stream.app) + cost(&stream.id) + STREAM_BYTES;
        part_for(size, &mut |part| part.owned.put.push(stream.clone()));
    }
    for stream in carried.put {
        let path: usize = stream.path.iter().map(|node| cost(node.as_str())).sum();
        let size = cost(&stream.app) + cost(&stream.id) + path + STREAM_BYTES;
        part_for(size, &mut |part| part.carried.put.push(stream.clone()));
    }
    parts
}

/// The most that a text takes in JSON.
fn cost(text: &str) -> usize {
    text.len() * 6 + 4
}

#[cfg(test)]
mod tests;
