//! The server's end of a connection.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use super::{CAN_RECONNECT, RECONNECT_REQUEST, WINDOW, Window};
use crate::amf0::Value;
use crate::chunk::{self, Limits, Message, OUR_CHUNK_SIZE};
use crate::message::{Body, Command, UserControl, Writer, aggregate};
use crate::path::Target;
use crate::{Error, flv, handshake};

/// The message stream that every client gets: what players are sent is made once for all of them.
pub(crate) const STREAM_ID: u32 = 1;
/// Answers that a client may leave unread.
const MAX_OUTPUT: usize = 64 * 1024;

/// What a client wants or sends. [`Connect`](Event::Connect), [`Publish`](Event::Publish) and
/// [`Play`](Event::Play) must be answered before more input is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The client connects to an app: [`Server::accept_connect`] or [`Server::reject_connect`].
    Connect {
        /// The app's name.
        app: String,
    },
    /// The client wants to publish: [`Server::accept_publish`] or [`Server::reject_publish`].
    Publish(Target),
    /// The client wants to play: [`Server::accept_play`] or [`Server::reject_play`].
    Play(Target),
    /// The publisher describes its stream (`onMetaData`).
    Metadata(Vec<(String, Value)>),
    /// An audio message of the publisher.
    Audio {
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// See [`flv::parse_audio`].
        payload: Bytes,
    },
    /// A video message of the publisher.
    Video {
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// See [`flv::parse_video`].
        payload: Bytes,
    },
    /// The publisher is done; it may publish again.
    Unpublish,
    /// The player is done; it may play again.
    Stop,
    /// The player pauses or goes on.
    Pause(bool),
    /// Whether the player wants audio.
    ReceiveAudio(bool),
    /// Whether the player wants video.
    ReceiveVideo(bool),
}

/// What the client does; a publish or play that waits for its answer counts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    None,
    Publisher { stream_id: u32, name: String },
    Player { stream_id: u32, name: String },
}

/// What `connect` told.
#[derive(Debug, Default)]
struct Hello {
    transaction: f64,
    app: String,
    tc_url: String,
    flash_ver: String,
    lists_fourcc: bool,
    maps_fourcc: bool,
    can_reconnect: bool,
}

/// The server's end of a connection, see the [module](super).
#[derive(Debug)]
pub struct Server {
    handshake: Option<handshake::Server>,
    /// Those of a publisher; until it is one, and afterwards, only commands are taken.
    limits: Limits,
    reader: chunk::Reader,
    writer: Writer,
    output: BytesMut,
    window: Window,
    hello: Option<Hello>,
    role: Role,
    waiting: VecDeque<Message>,
}

impl Server {
    /// A connection that has just been made. `seed` feeds the handshake's random bytes.
    pub fn new(seed: u64, limits: Limits) -> Self {
        Server {
            handshake: Some(handshake::Server::new(seed)),
            limits,
            reader: chunk::Reader::new(limits.commands_only()),
            writer: Writer::default(),
            output: BytesMut::new(),
            window: Window::new(),
            hello: None,
            role: Role::None,
            waiting: VecDeque::new(),
        }
    }

    /// What there is to be sent. The caller takes it out.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Whether the handshake is done.
    pub fn is_open(&self) -> bool {
        self.handshake.is_none()
    }

    /// What the client says it is (`flashVer`), empty before `connect`.
    pub fn user_agent(&self) -> &str {
        self.hello.as_ref().map_or("", |h| &h.flash_ver)
    }

    /// Takes what there is of the handshake from `input`, and nothing behind it.
    ///
    /// # Errors
    /// When the client's version is not 3.
    pub fn advance_handshake(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        if let Some(handshake) = &mut self.handshake
            && handshake.advance(input, &mut self.output)?
        {
            self.handshake = None;
        }
        Ok(())
    }

    /// Takes received bytes: the next event, or nothing when more bytes are needed. Call it until then.
    ///
    /// # Errors
    /// When the client breaks the protocol or a limit; the connection is to be closed.
    pub fn input(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Error> {
        self.advance_handshake(input)?;
        if !self.is_open() {
            return Ok(None);
        }
        loop {
            let message = match self.waiting.pop_front() {
                Some(message) => message,
                None => {
                    let before = input.len();
                    let message = self.reader.read(input)?;
                    if let Some(total) = self.window.received(before - input.len()) {
                        self.writer.acknowledgement(&mut self.output, total);
                    }
                    match message {
                        Some(message) => message,
                        None => return Ok(None),
                    }
                }
            };
            if let Some(event) = self.message(message)? {
                return Ok(Some(event));
            }
            if self.output.len() > MAX_OUTPUT {
                return Err(Error::Deaf);
            }
        }
    }

    fn message(&mut self, message: Message) -> Result<Option<Event>, Error> {
        let (timestamp, stream_id) = (message.timestamp, message.stream_id);
        let publishing = matches!(&self.role, Role::Publisher { .. });
        Ok(match message.clone().parse()? {
            Body::Audio(payload) if publishing => Some(Event::Audio { timestamp, payload }),
            Body::Video(payload) if publishing => Some(Event::Video { timestamp, payload }),
            Body::Data(values) if publishing => metadata(values),
            Body::Aggregate(_) if publishing => {
                self.waiting.extend(aggregate(&message)?);
                None
            }
            Body::Command(command) => self.command(command, stream_id)?,
            Body::WindowAckSize(size) => {
                self.window.resize(size);
                None
            }
            Body::User(UserControl::PingRequest(time)) => {
                self.writer.user(&mut self.output, UserControl::PingResponse(time));
                None
            }
            _ => None,
        })
    }

    fn command(&mut self, command: Command, stream_id: u32) -> Result<Option<Event>, Error> {
        let transaction = command.transaction;
        if command.name == "connect" {
            return self.connect(command).map(Some);
        }
        let Some(hello) = &self.hello else {
            return Err(Error::Sequence("a command came before connect"));
        };
        match command.name.as_str() {
            "createStream" => {
                self.answer(transaction, Value::Null, vec![f64::from(STREAM_ID).into()]);
            }
            "releaseStream" | "_checkbw" => {
                self.answer(transaction, Value::Null, vec![Value::Undefined]);
            }
            "getStreamLength" => self.answer(transaction, Value::Null, vec![0.0.into()]),
            "FCPublish" => {
                self.answer(transaction, Value::Null, vec![Value::Undefined]);
                let name = command.text(0).unwrap_or_default().to_owned();
                self.fc("onFCPublish", "NetStream.Publish.Start", &name);
            }
            "FCSubscribe" => {
                let name = command.text(0).unwrap_or_default().to_owned();
                self.fc("onFCSubscribe", "NetStream.Play.Start", &name);
            }
            "publish" | "play" => {
                if self.role != Role::None {
                    let code = if command.name == "play" {
                        "NetStream.Play.Failed"
                    } else {
                        "NetStream.Publish.BadName"
                    };
                    let text = "this connection publishes or plays already: use another connection";
                    self.status(stream_id, "error", code, text, "");
                    return Ok(None);
                }
                let name = command.text(0).unwrap_or_default().to_owned();
                let target = Target::new(&hello.app, &hello.tc_url, &name);
                if command.name == "publish" {
                    self.role = Role::Publisher { stream_id, name };
                    return Ok(Some(Event::Publish(target)));
                }
                self.role = Role::Player { stream_id, name };
                return Ok(Some(Event::Play(target)));
            }
            "play2" => {
                let text = "play2 is not supported: use play";
                self.status(stream_id, "error", "NetStream.Play.Failed", text, "");
            }
            "pause" | "pauseRaw" if matches!(self.role, Role::Player { .. }) => {
                let pause = command.arguments.first().and_then(Value::as_bool).unwrap_or(true);
                let (code, text) = if pause {
                    ("NetStream.Pause.Notify", "Paused.")
                } else {
                    ("NetStream.Unpause.Notify", "Unpaused.")
                };
                self.status(stream_id, "status", code, text, "");
                return Ok(Some(Event::Pause(pause)));
            }
            "seek" => {
                let text = "a live stream cannot be seeked in";
                self.status(stream_id, "error", "NetStream.Seek.Failed", text, "");
            }
            "receiveAudio" => {
                return Ok(command.arguments.first().and_then(Value::as_bool).map(Event::ReceiveAudio));
            }
            "receiveVideo" => {
                return Ok(command.arguments.first().and_then(Value::as_bool).map(Event::ReceiveVideo));
            }
            "FCUnpublish" => {
                self.answer(transaction, Value::Null, vec![Value::Undefined]);
                let name = command.text(0).unwrap_or_default().to_owned();
                self.fc("onFCUnpublish", "NetStream.Unpublish.Success", &name);
                if matches!(self.role, Role::Publisher { .. }) {
                    return Ok(self.leave(false));
                }
            }
            "closeStream" => return Ok(self.leave(true)),
            // The client says goodbye to the stream: an answer would find nobody.
            "deleteStream" => return Ok(self.leave(false)),
            // Whoever asks for something else gets an answer, so that it does not wait for one.
            _ if transaction > 0.0 && !command.name.starts_with('_') => {
                let info = status_info("error", "NetConnection.Call.Failed", "the method is not known");
                self.reply("_error", transaction, Value::Null, vec![info]);
            }
            _ => {}
        }
        Ok(None)
    }

    fn connect(&mut self, command: Command) -> Result<Event, Error> {
        if self.hello.is_some() {
            return Err(Error::Sequence("connect came twice"));
        }
        let text = |key| command.object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let caps = command.object.get("capsEx").and_then(Value::as_number).unwrap_or_default();
        let hello = Hello {
            transaction: command.transaction,
            app: text("app"),
            tc_url: text("tcUrl"),
            flash_ver: text("flashVer"),
            lists_fourcc: command.object.get("fourCcList").is_some(),
            maps_fourcc: ["videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"]
                .iter()
                .any(|k| command.object.get(k).is_some()),
            can_reconnect: caps as u32 & CAN_RECONNECT != 0,
        };
        let app = Target::app(&hello.app);
        self.hello = Some(hello);
        Ok(Event::Connect { app })
    }

    /// The app exists.
    pub fn accept_connect(&mut self) {
        let Some(hello) = &self.hello else { return };
        let mut info = vec![
            ("level", "status".into()),
            ("code", "NetConnection.Connect.Success".into()),
            ("description", "Connection succeeded.".into()),
            ("objectEncoding", 0.0.into()),
        ];
        // Enhanced RTMP: only clients that speak of it are answered about it.
        if hello.lists_fourcc || hello.maps_fourcc {
            let list = flv::FOURCC_LIST.into_iter().map(Value::from).collect();
            info.push(("fourCcList", Value::StrictArray(list)));
        }
        if hello.maps_fourcc {
            const CAN_FORWARD: f64 = 4.0;
            const RECONNECT_MOD_EX_AND_NANOSECONDS: f64 = 13.0;
            let map = |list: &[&'static str]| Value::object(list.iter().map(|c| (*c, CAN_FORWARD.into())));
            let (video, audio) = flv::FOURCC_LIST.split_at(5);
            info.push(("videoFourCcInfoMap", map(video)));
            info.push(("audioFourCcInfoMap", map(audio)));
            info.push(("capsEx", RECONNECT_MOD_EX_AND_NANOSECONDS.into()));
        }
        let properties = Value::object([
            ("fmsVer", "FMS/3,5,7,7009".into()),
            ("capabilities", 31.0.into()),
            ("mode", 1.0.into()),
        ]);
        let transaction = hello.transaction;
        self.writer.window_ack_size(&mut self.output, WINDOW);
        self.writer.peer_bandwidth(&mut self.output, WINDOW);
        self.writer.set_chunk_size(&mut self.output, OUR_CHUNK_SIZE);
        self.writer.user(&mut self.output, UserControl::StreamBegin(0));
        self.answer(transaction, properties, vec![Value::object(info)]);
    }

    /// There is no such app; close the connection when this was sent.
    pub fn reject_connect(&mut self, description: &str) {
        let transaction = self.hello.as_ref().map_or(1.0, |h| h.transaction);
        let info = status_info("error", "NetConnection.Connect.Rejected", description);
        self.reply("_error", transaction, Value::Null, vec![info]);
        self.writer.command(&mut self.output, 0, &Command::new("close", 0.0, vec![]));
    }

    /// The publisher may send.
    pub fn accept_publish(&mut self) {
        let Role::Publisher { stream_id, name } = self.role.clone() else { return };
        self.reader.set_limits(self.limits);
        self.writer.user(&mut self.output, UserControl::StreamBegin(stream_id));
        let text = format!("{name} is now published.");
        self.status(stream_id, "status", "NetStream.Publish.Start", &text, &name);
    }

    /// The publisher may not send, or no more; close the connection when this was sent. `code` is
    /// `NetStream.Publish.BadName` or another code of that kind.
    pub fn reject_publish(&mut self, code: &str, description: &str) {
        if let Role::Publisher { stream_id, name } = self.take_role() {
            self.status(stream_id, "error", code, description, &name);
        }
    }

    /// The player gets the stream; what comes on the stream follows.
    pub fn accept_play(&mut self) {
        let Role::Player { stream_id, name } = self.role.clone() else { return };
        self.writer.user(&mut self.output, UserControl::StreamBegin(STREAM_ID));
        let reset = format!("Playing and resetting {name}.");
        self.status(stream_id, "status", "NetStream.Play.Reset", &reset, &name);
        let start = format!("Started playing {name}.");
        self.status(stream_id, "status", "NetStream.Play.Start", &start, &name);
    }

    /// The player does not get the stream. `code` is `NetStream.Play.StreamNotFound` or
    /// `NetStream.Play.Failed`.
    pub fn reject_play(&mut self, code: &str, description: &str) {
        if let Role::Player { stream_id, name } = self.take_role() {
            self.status(stream_id, "error", code, description, &name);
        }
    }

    /// Ends a publish or a play from our side, and says why.
    pub fn end(&mut self, reason: &str) {
        match self.take_role() {
            Role::Publisher { stream_id, name } => {
                self.status(stream_id, "status", "NetStream.Unpublish.Success", reason, &name);
                self.writer.user(&mut self.output, UserControl::StreamEof(stream_id));
            }
            Role::Player { stream_id, name } => {
                self.status(stream_id, "status", "NetStream.Play.UnpublishNotify", reason, &name);
                self.writer.user(&mut self.output, UserControl::StreamEof(STREAM_ID));
                self.status(stream_id, "status", "NetStream.Play.Stop", reason, &name);
            }
            Role::None => {}
        }
    }

    /// Asks the client to connect again to the address that it used, and to leave this connection once it has; until then
    /// all goes on. False when the client does not know of such requests: then nothing is said.
    pub fn ask_to_reconnect(&mut self, description: &str) -> bool {
        let knows = self.hello.as_ref().is_some_and(|hello| hello.can_reconnect);
        if knows {
            let info = status_info("status", RECONNECT_REQUEST, description);
            self.writer.command(&mut self.output, 0, &Command::new("onStatus", 0.0, vec![info]));
        }
        knows
    }

    /// Asks the client for a sign of life. `now` is in milliseconds, of any clock.
    pub fn ping(&mut self, now: u32) {
        self.writer.user(&mut self.output, UserControl::PingRequest(now));
    }

    fn take_role(&mut self) -> Role {
        self.reader.set_limits(self.limits.commands_only());
        mem::replace(&mut self.role, Role::None)
    }

    /// The client ends what it does.
    fn leave(&mut self, answer: bool) -> Option<Event> {
        match self.take_role() {
            Role::Publisher { stream_id, name } => {
                if answer {
                    let text = format!("{name} is now unpublished.");
                    self.status(stream_id, "status", "NetStream.Unpublish.Success", &text, &name);
                }
                Some(Event::Unpublish)
            }
            Role::Player { stream_id, name } => {
                if answer {
                    let text = format!("Stopped playing {name}.");
                    self.status(stream_id, "status", "NetStream.Play.Stop", &text, &name);
                }
                Some(Event::Stop)
            }
            Role::None => None,
        }
    }

    fn answer(&mut self, transaction: f64, object: Value, arguments: Vec<Value>) {
        self.reply("_result", transaction, object, arguments);
    }

    fn reply(&mut self, name: &str, transaction: f64, object: Value, arguments: Vec<Value>) {
        let command = Command { name: name.to_owned(), transaction, object, arguments };
        self.writer.command(&mut self.output, 0, &command);
    }

    fn fc(&mut self, name: &str, code: &str, stream: &str) {
        let info = status_info("status", code, stream);
        self.writer.command(&mut self.output, 0, &Command::new(name, 0.0, vec![info]));
    }

    fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str, details: &str) {
        let mut info =
            vec![("level", level.into()), ("code", code.into()), ("description", description.into())];
        if !details.is_empty() {
            info.push(("details", details.into()));
        }
        let command = Command::new("onStatus", 0.0, vec![Value::object(info)]);
        self.writer.command(&mut self.output, stream_id, &command);
    }
}

fn status_info(level: &str, code: &str, description: &str) -> Value {
    Value::object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

/// `@setDataFrame("onMetaData", {…})`, or `onMetaData({…})` as some encoders send it.
fn metadata(values: Vec<Value>) -> Option<Event> {
    let mut values = values.into_iter().skip_while(|v| v.as_str() == Some("@setDataFrame"));
    if values.next()?.as_str()? != "onMetaData" {
        return None;
    }
    match values.next()? {
        Value::Object(properties) | Value::EcmaArray(properties) => Some(Event::Metadata(properties)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
