//! What may reach the DTLS library.
//!
//! It puts messages together from pieces by recursion, keeps pieces of messages that may never be asked for, and queues records
//! that it cannot decrypt yet, all without a bound of its own. So pieces are checked and counted here, over the life
//! of the association.

use crate::agreed::DtlsRole;

pub(super) const RECORD_HEADER: usize = 13;
pub(super) const MESSAGE_HEADER: usize = 12;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// The longest handshake message, in bytes: certificates are the largest.
const MAX_MESSAGE: usize = 16 << 10;
/// The most messages of one side in a handshake.
const MAX_SEQUENCE: u16 = 32;
/// Pieces of messages that are looked at in a handshake.
const MAX_PIECES: usize = 256;
/// Records behind the change of keys that are taken before the handshake is done.
const MAX_EARLY: usize = 32;
/// Records of the handshake that are taken after it: the other side repeats its last flight when it misses ours.
const MAX_LATE: usize = 64;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The library gets it.
    Pass,
    /// Nobody does: it is broken, too much, or nothing but a repetition.
    Drop,
}

/// What has been let through.
pub(super) struct Screen {
    role: DtlsRole,
    pieces: Vec<Piece>,
    early: usize,
    late: usize,
}

/// A piece of a handshake message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The message's number.
    pub(super) seq: u16,
    /// The message's length.
    pub(super) len: usize,
    /// Where the piece begins in it.
    pub(super) at: usize,
    /// The piece's length.
    pub(super) part: usize,
}

impl Screen {
    pub(super) fn new(role: DtlsRole) -> Self {
        Screen { role, pieces: Vec::new(), early: 0, late: 0 }
    }

    pub(super) fn judge(&mut self, datagram: &[u8], connected: bool) -> Verdict {
        if connected && self.pieces.capacity() > 0 {
            self.pieces = Vec::new();
        }
        let mut fresh = Vec::new();
        let (mut early, mut late, mut repeats) = (0, 0, false);
        let mut other = false;
        for record in records(datagram) {
            let Some(record) = record else { return Verdict::Drop };
            match (record.kind, record.epoch, connected) {
                // The library believes it without proof, and then no other record any more.
                (CHANGE_CIPHER_SPEC, 1.., _) => return Verdict::Drop,
                (HANDSHAKE, _, true) => late += 1,
                (HANDSHAKE, 0, false) => {
                    for piece in pieces(record.body) {
                        let Some((piece, _)) = piece else { return Verdict::Drop };
                        match self.pieces.contains(&piece) || fresh.contains(&piece) {
                            true => repeats |= self.wants_again(piece),
                            false => fresh.push(piece),
                        }
                    }
                }
                (_, 1.., false) | (CHANGE_CIPHER_SPEC, 0, false) => early += 1,
                _ => other = true,
            }
        }
        if self.pieces.len() + fresh.len() > MAX_PIECES || self.early + early > MAX_EARLY {
            return Verdict::Drop;
        }
        // The server's last flight is the last of all: a client that has it answers no repetition.
        let late_counts = late > 0 && self.role == DtlsRole::Server && self.late + late <= MAX_LATE;
        if fresh.is_empty() && early == 0 && !late_counts && !repeats && !other {
            return Verdict::Drop;
        }
        if late > 0 && !late_counts {
            return Verdict::Drop;
        }
        if repeats {
            // What is let through again is kept again.
            self.early += 1;
        }
        self.pieces.extend(fresh);
        self.early += early;
        self.late += late;
        Verdict::Pass
    }

    /// Whether a repeated piece is what makes the library repeat its own flight: only the very first of a client, as
    /// what a server answers to that is not repeated by time.
    fn wants_again(&self, piece: Piece) -> bool {
        self.role == DtlsRole::Server && piece.seq == 0 && self.pieces.iter().all(|p| p.seq == 0)
    }
}

/// A record of a datagram.
pub(super) struct Record<'a> {
    pub(super) kind: u8,
    pub(super) epoch: u16,
    pub(super) body: &'a [u8],
}

/// The records of a datagram; `None` where they stop making sense.
pub(super) fn records(mut rest: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = split_record(rest);
        rest = record.as_ref().map_or(&[], |(_, rest)| rest);
        Some(record.map(|(record, _)| record))
    })
}

fn split_record(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let head: &[u8; RECORD_HEADER] = datagram.first_chunk()?;
    let (kind, epoch) = (head[0], u16::from_be_bytes([head[3], head[4]]));
    let len = usize::from(u16::from_be_bytes([head[11], head[12]]));
    let body = datagram.get(RECORD_HEADER..RECORD_HEADER + len)?;
    let known = match kind {
        CHANGE_CIPHER_SPEC => len == 1,
        ALERT..=APPLICATION_DATA => len > 0,
        _ => false,
    };
    let known = known && head[1] == 0xfe;
    known.then(|| (Record { kind, epoch, body }, &datagram[RECORD_HEADER + len..]))
}

/// The pieces of messages in a handshake record in clear, and their bytes; `None` where they stop making sense.
pub(super) fn pieces(mut rest: &[u8]) -> impl Iterator<Item = Option<(Piece, &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let piece = split_piece(rest);
        rest = piece.map_or(&[], |(_, _, rest)| rest);
        Some(piece.map(|(piece, body, _)| (piece, body)))
    })
}

fn split_piece(record: &[u8]) -> Option<(Piece, &[u8], &[u8])> {
    let head: &[u8; MESSAGE_HEADER] = record.first_chunk()?;
    let three =
        |at: usize| usize::from(head[at]) << 16 | usize::from(head[at + 1]) << 8 | usize::from(head[at + 2]);
    let seq = u16::from_be_bytes([head[4], head[5]]);
    let piece = Piece { seq, len: three(1), at: three(6), part: three(9) };
    let body = record.get(MESSAGE_HEADER..MESSAGE_HEADER + piece.part)?;
    let rest = &record[MESSAGE_HEADER + piece.part..];
    // An empty piece of a message that is not empty would be kept for nothing.
    let whole = piece.part == piece.len;
    let sane = piece.len <= MAX_MESSAGE && piece.at + piece.part <= piece.len && (whole || piece.part > 0);
    // The library takes what follows a piece for more of it.
    let alone = whole || rest.is_empty();
    (sane && alone && seq < MAX_SEQUENCE).then_some((piece, body, rest))
}
