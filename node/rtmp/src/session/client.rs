//! The client's end of a connection: it publishes to or plays from a server.

use bytes::{Bytes, BytesMut};

use super::{CAN_RECONNECT, RECONNECT_REQUEST, WINDOW, Window};
use crate::amf0::Value;
use crate::chunk::{self, Limits, OUR_CHUNK_SIZE, Outgoing};
use crate::message::{Body, Command, UserControl, Writer, kind};
use crate::{Error, handshake};

/// An RTMP URL in the parts that the protocol needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `rtmps://`.
    pub tls: bool,
    /// The host, an IPv6 address without its brackets.
    pub host: String,
    /// The port; 1935 for `rtmp`, 443 for `rtmps` when the URL has none.
    pub port: u16,
    /// The app.
    pub app: String,
    /// The stream name with its query.
    pub name: String,
}

impl Url {
    /// Takes a URL such as `rtmp://host:1935/LiveApp/cam1?token=abc` apart: the first segment is the app, all
    /// behind it is the name.
    pub fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "rtmp" => false,
            "rtmps" => true,
            _ => return None,
        };
        let (authority, path) = rest.split_once('/')?;
        let (app, name) = path.split_once('/')?;
        let default = if tls { 443 } else { 1935 };
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']')?;
                (host, rest.strip_prefix(':').map_or(Some(default), |p| p.parse().ok())?)
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (authority, default),
            },
        };
        let owned = str::to_owned;
        let url = Url { tls, host: owned(host), port, app: owned(app), name: owned(name) };
        (!url.host.is_empty() && !url.app.is_empty() && !url.name.is_empty()).then_some(url)
    }

    fn tc_url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        if self.host.contains(':') {
            format!("{scheme}://[{}]:{}/{}", self.host, self.port, self.app)
        } else {
            format!("{scheme}://{}:{}/{}", self.host, self.port, self.app)
        }
    }
}

/// What the client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To send a stream.
    Publish,
    /// To receive one.
    Play,
}

/// What a client learns.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The server lets us publish or play.
    Started,
    /// Metadata of the stream that is played.
    Metadata(Vec<(String, Value)>),
    /// An audio message.
    Audio {
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// See [`parse_audio`](crate::flv::parse_audio).
        payload: Bytes,
    },
    /// A video message.
    Video {
        /// Milliseconds, modulo 2^32.
        timestamp: u32,
        /// See [`parse_video`](crate::flv::parse_video).
        payload: Bytes,
    },
    /// The server wants us to connect again, and to leave this connection once we have. Only a client that
    /// [can](Client::can_reconnect) is asked.
    ReconnectRequest {
        /// Where to; without it, where we connected before.
        tc_url: Option<String>,
        /// The text that came with it.
        description: String,
    },
    /// The server ends the stream.
    Ended {
        /// The status code.
        code: String,
        /// The text that came with it.
        description: String,
    },
}

const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;

/// The client's end of a connection, see the [module](super).
#[derive(Debug)]
pub struct Client {
    url: Url,
    purpose: Purpose,
    handshake: Option<handshake::Client>,
    reader: chunk::Reader,
    writer: Writer,
    output: BytesMut,
    window: Window,
    stream_id: u32,
    started: bool,
    can_reconnect: bool,
}

impl Client {
    /// A connection that has just been made; [`output`](Self::output) holds what is to be sent first.
    pub fn new(url: Url, purpose: Purpose, seed: u64) -> Self {
        let mut client = Client {
            url,
            purpose,
            handshake: Some(handshake::Client::new(seed)),
            reader: chunk::Reader::new(Limits::default()),
            writer: Writer::default(),
            output: BytesMut::new(),
            window: Window::new(),
            stream_id: 0,
            started: false,
            can_reconnect: false,
        };
        if let Some(handshake) = &mut client.handshake {
            // With no input it only writes C0 and C1, which cannot fail.
            let _ = handshake.advance(&mut BytesMut::new(), &mut client.output);
        }
        client
    }

    /// Tells the server that it may ask us to connect again: [`ClientEvent::ReconnectRequest`].
    #[must_use]
    pub fn can_reconnect(self) -> Self {
        Client { can_reconnect: true, ..self }
    }

    /// What there is to be sent. The caller takes it out.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Takes received bytes: the next event, or nothing when more bytes are needed. Call it until then.
    ///
    /// # Errors
    /// When the server breaks the protocol or a limit, or refuses us.
    pub fn input(&mut self, input: &mut BytesMut) -> Result<Option<ClientEvent>, Error> {
        if let Some(handshake) = &mut self.handshake {
            if !handshake.advance(input, &mut self.output)? {
                return Ok(None);
            }
            self.handshake = None;
            self.connect();
        }
        loop {
            let before = input.len();
            let message = self.reader.read(input)?;
            if let Some(total) = self.window.received(before - input.len()) {
                self.writer.acknowledgement(&mut self.output, total);
            }
            let Some(message) = message else { return Ok(None) };
            let timestamp = message.timestamp;
            let event = match message.parse()? {
                Body::Audio(payload) => Some(ClientEvent::Audio { timestamp, payload }),
                Body::Video(payload) => Some(ClientEvent::Video { timestamp, payload }),
                Body::Data(values) => metadata(values),
                Body::Command(command) => self.command(command)?,
                Body::WindowAckSize(size) => {
                    self.window.resize(size);
                    None
                }
                Body::User(UserControl::PingRequest(time)) => {
                    self.writer.user(&mut self.output, UserControl::PingResponse(time));
                    None
                }
                _ => None,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Whether the server let us publish or play.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Sends the description of the stream.
    pub fn send_metadata(&mut self, properties: Vec<(String, Value)>) {
        let values = ["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(properties)];
        self.writer.data(&mut self.output, self.stream_id, 0, &values);
    }

    /// Sends a video message: `parts` one after the other are its body, see [`flv`](crate::flv).
    pub fn send_video(&mut self, timestamp: u32, parts: &[&[u8]]) {
        self.send(6, kind::VIDEO, timestamp, parts);
    }

    /// Sends an audio message.
    pub fn send_audio(&mut self, timestamp: u32, parts: &[&[u8]]) {
        self.send(4, kind::AUDIO, timestamp, parts);
    }

    /// Says that we are done; close the connection when it was sent.
    pub fn finish(&mut self) {
        if self.purpose == Purpose::Publish {
            let name = self.url.name.as_str().into();
            self.writer.command(&mut self.output, 0, &Command::new("FCUnpublish", 6.0, vec![name]));
        }
        let id = f64::from(self.stream_id).into();
        self.writer.command(&mut self.output, 0, &Command::new("deleteStream", 7.0, vec![id]));
        self.started = false;
    }

    fn send(&mut self, csid: u8, type_id: u8, timestamp: u32, parts: &[&[u8]]) {
        let header = Outgoing { timestamp, type_id, stream_id: self.stream_id };
        chunk::write(&mut self.output, csid, self.writer.chunk_size(), header, parts);
    }

    fn connect(&mut self) {
        let publish = self.purpose == Purpose::Publish;
        let mut object = vec![
            ("app", self.url.app.as_str().into()),
            ("type", "nonprivate".into()),
            ("flashVer", concat!("Sluice/", env!("CARGO_PKG_VERSION")).into()),
            ("tcUrl", self.url.tc_url().as_str().into()),
        ];
        if !publish {
            object.push(("fpad", Value::Boolean(false)));
            object.push(("videoFunction", 1.0.into()));
        }
        let list = crate::flv::FOURCC_LIST.into_iter().map(Value::from).collect();
        object.push(("fourCcList", Value::StrictArray(list)));
        if self.can_reconnect {
            object.push(("capsEx", f64::from(CAN_RECONNECT).into()));
        }
        let command = Command {
            name: "connect".into(),
            transaction: CONNECT,
            object: Value::object(object),
            arguments: vec![],
        };
        self.writer.set_chunk_size(&mut self.output, OUR_CHUNK_SIZE);
        self.writer.window_ack_size(&mut self.output, WINDOW);
        self.writer.command(&mut self.output, 0, &command);
    }

    fn command(&mut self, command: Command) -> Result<Option<ClientEvent>, Error> {
        let name = Value::from(self.url.name.as_str());
        match (command.name.as_str(), command.transaction) {
            ("_result", CONNECT) => {
                if self.purpose == Purpose::Publish {
                    for (method, transaction) in [("releaseStream", 2.0), ("FCPublish", 3.0)] {
                        let command = Command::new(method, transaction, vec![name.clone()]);
                        self.writer.command(&mut self.output, 0, &command);
                    }
                }
                let create = Command::new("createStream", CREATE_STREAM, vec![]);
                self.writer.command(&mut self.output, 0, &create);
            }
            ("_result", CREATE_STREAM) => {
                let id = command.arguments.first().and_then(Value::as_number).unwrap_or(1.0);
                self.stream_id = id as u32;
                let command = match self.purpose {
                    Purpose::Publish => Command::new("publish", 5.0, vec![name, "live".into()]),
                    Purpose::Play => Command::new("play", 5.0, vec![name, (-2000.0).into()]),
                };
                self.writer.command(&mut self.output, self.stream_id, &command);
                if self.purpose == Purpose::Play {
                    let event = UserControl::SetBufferLength { stream_id: self.stream_id, millis: 3000 };
                    self.writer.user(&mut self.output, event);
                }
            }
            ("_error", CONNECT | CREATE_STREAM) => return Err(refused(&command)),
            ("onStatus", _) => {
                let info = command.arguments.first().cloned().unwrap_or(Value::Null);
                let code = info.get("code").and_then(Value::as_str).unwrap_or_default();
                if info.get("level").and_then(Value::as_str) == Some("error") {
                    return Err(refused(&command));
                }
                return Ok(match code {
                    RECONNECT_REQUEST => {
                        let text = |key| info.get(key).and_then(Value::as_str).map(str::to_owned);
                        let description = text("description").unwrap_or_default();
                        Some(ClientEvent::ReconnectRequest { tc_url: text("tcUrl"), description })
                    }
                    "NetStream.Publish.Start" | "NetStream.Play.Start" => {
                        self.started = true;
                        Some(ClientEvent::Started)
                    }
                    "NetStream.Unpublish.Success"
                    | "NetStream.Play.UnpublishNotify"
                    | "NetStream.Play.Stop"
                    | "NetStream.Play.Complete" => {
                        let Error::Refused { code, description } = refused(&command) else { return Ok(None) };
                        Some(ClientEvent::Ended { code, description })
                    }
                    _ => None,
                });
            }
            _ => {}
        }
        Ok(None)
    }
}

fn refused(command: &Command) -> Error {
    let info = command.arguments.first().cloned().unwrap_or(Value::Null);
    let text = |key| info.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Error::Refused { code: text("code"), description: text("description") }
}

fn metadata(values: Vec<Value>) -> Option<ClientEvent> {
    let mut values = values.into_iter();
    match (values.next()?.as_str()?, values.next()?) {
        ("onMetaData", Value::Object(p) | Value::EcmaArray(p)) => Some(ClientEvent::Metadata(p)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = Url::parse("rtmp://host/LiveApp/cam1?token=a/b").unwrap();
        assert_eq!((url.port, url.app.as_str(), url.name.as_str()), (1935, "LiveApp", "cam1?token=a/b"));
        let url = Url::parse("rtmps://[::1]:8443/a/b/c").unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port, url.name.as_str()), (true, "::1", 8443, "b/c"));
        assert_eq!(url.tc_url(), "rtmps://[::1]:8443/a");
        for bad in ["http://h/a/b", "rtmp://h/a", "rtmp:///a/b", "rtmp://h:x/a/b", "rtmp://h/a/"] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }
}
