//! What a client wants to know: of streams, of those who watch them, of rooms.

use serde_json::{Value, json};

use super::{Connection, Publishing};
use crate::signal::ask;
use crate::signal::directory::Subtrack;
use crate::signal::message::Command;
use crate::signal::outlet;
use crate::signal::reply::{self, Refusing};
use crate::signal::session::Handle;

/// The largest page of a list.
const PAGE: usize = 50;
/// The most streams of a main track that are listed.
const LISTED: usize = 100;
/// From this many bytes on, a list has only what is needed to ask for the rest.
const LIST: usize = outlet::LONGEST / 2;
/// What of a stream is in a list in any case.
const ESSENTIAL: [&str; 4] = ["streamId", "status", "mainTrackStreamId", "role"];

impl Connection {
    /// Commands that only want to know something.
    pub(super) async fn inform(&self, command: Command) -> Result<(), Refusing> {
        let (directory, app) = (&self.shared.directory, &*self.client.app);
        let missing = |stream: &str| Refusing::not_live(stream);
        match command {
            Command::StreamInfo(stream) => {
                let renditions =
                    ask(directory.renditions(app, &stream)).await?.ok_or_else(|| missing(&stream))?;
                self.say(reply::stream_information(&stream, &renditions));
            }
            Command::Tracks(stream) => {
                let subtracks = ask(directory.subtracks(app, &stream)).await?;
                let is_live = ask(directory.renditions(app, &stream)).await?.is_some();
                if subtracks.is_none() && !is_live {
                    return Err(missing(&stream));
                }
                let own = is_live.then(|| stream.clone()).into_iter();
                let others = subtracks.unwrap_or_default().into_iter().map(|subtrack| subtrack.id);
                let tracks: Vec<String> = own.chain(others).take(LISTED).collect();
                self.answer(reply::track_list(&stream, &tracks))?;
            }
            Command::Broadcast(stream) => {
                let broadcast =
                    ask(directory.broadcast(app, &stream)).await?.ok_or_else(|| missing(&stream))?;
                let fields = json!({"streamId": stream, "broadcast": broadcast.to_string()});
                self.answer(reply::notification("broadcastObject", fields))?;
            }
            Command::Subtracks { stream, role, offset, size } => {
                let size = if size == 0 { PAGE } else { size.min(PAGE) };
                let (mut list, mut bytes) = (Vec::new(), 0);
                for subtrack in self.with_role(&stream, &role).await?.into_iter().skip(offset).take(size) {
                    // One that ended just now is left out.
                    let Some(broadcast) = ask(directory.broadcast(app, &subtrack.id)).await? else {
                        continue;
                    };
                    let mut text = Value::from(broadcast.to_string());
                    let size = text.to_string().len();
                    match bytes + size <= LIST {
                        true => bytes += size,
                        false => text = Value::from(essential(broadcast).to_string()),
                    }
                    list.push(text);
                }
                let fields = json!({"streamId": stream, "subtrackList": list});
                self.answer(reply::notification("subtrackList", fields))?;
            }
            Command::SubtrackCount { stream, role } => {
                let count = self.with_role(&stream, &role).await?.len();
                self.say(reply::notification("subtrackCount", json!({"streamId": stream, "count": count})));
            }
            Command::SubscriberCount(stream) => {
                let count = ask(directory.viewers(app, &stream)).await?.ok_or_else(|| missing(&stream))?;
                self.say(reply::notification("subscriberCount", json!({"streamId": stream, "count": count})));
            }
            Command::Subscribers { stream, offset, size } => {
                let size = if size == 0 { PAGE } else { size.min(PAGE) };
                let list = ask(directory.subscribers(app, &stream, offset, size)).await?;
                let list: Vec<String> = list.iter().take(size).map(Value::to_string).collect();
                let fields = json!({"streamId": stream, "subscriberList": list});
                self.answer(reply::notification("subscriberList", fields))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says something that may be too long.
    pub(super) fn answer(&self, text: String) -> Result<(), Refusing> {
        if text.len() > outlet::LONGEST {
            let information = format!(
                "the answer has {} bytes, and may have {}: ask REST, or for a smaller page",
                text.len(),
                outlet::LONGEST
            );
            return Err(Refusing::new("answer_too_long", information));
        }
        self.say(text);
        Ok(())
    }

    async fn with_role(&self, stream: &str, role: &str) -> Result<Vec<Subtrack>, Refusing> {
        let subtracks = ask(self.shared.directory.subtracks(&self.client.app, stream)).await?;
        let mut subtracks = subtracks.unwrap_or_default();
        subtracks.retain(|subtrack| role.is_empty() || subtrack.role == role);
        Ok(subtracks)
    }

    /// Who else is in a room.
    pub(super) async fn others(&self, room: &str, stream: &str) -> Result<Vec<Subtrack>, Refusing> {
        let mut others = self.with_role(room, "").await?;
        others.retain(|other| other.id != stream);
        others.truncate(LISTED);
        let mut bytes = 0;
        for other in &mut others {
            let size = json!([other.name, other.meta_data]).to_string().len();
            match bytes + size <= LIST {
                true => bytes += size,
                // `getBroadcastObject` tells them.
                false => (other.name, other.meta_data) = Default::default(),
            }
        }
        Ok(others)
    }

    pub(super) fn debug_info(&self, stream: &str) {
        let alive = |handle: Option<&Handle>| handle.is_some_and(Handle::is_alive);
        let publishes = self.publishing.get(stream).is_some_and(Publishing::is_alive);
        let info = json!({
            "streamId": stream,
            "app": *self.client.app,
            "publishes": publishes,
            "plays": alive(self.playing.get(stream)),
            "meets": self.shared.meetings.has(&self.key(stream), self.place.id()),
            "sessions": self.publishing.len() + self.playing.len(),
        });
        self.say(reply::notification(
            "debugInfo",
            json!({"streamId": stream, "debugInfo": info.to_string()}),
        ));
    }
}

/// What of a record is in a list that has no room for all.
fn essential(broadcast: Value) -> Value {
    match broadcast {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().filter(|(name, _)| ESSENTIAL.contains(&name.as_str())).collect())
        }
        other => other,
    }
}
