//! Numbers, names and times as they stand in messages.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes};
use sluice_media::{Stamp, Timestamp};

use super::{WireError, limits};
use crate::member::NodeId;

/// The most bytes that a varint takes.
pub(super) const VARINT: usize = 10;

pub(super) fn put_uint(out: &mut impl BufMut, mut n: u64) {
    while n >= 0x80 {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

pub(super) fn put_int(out: &mut impl BufMut, n: i64) {
    put_uint(out, ((n << 1) ^ (n >> 63)) as u64);
}

pub(super) fn put_bytes(
    out: &mut Vec<u8>,
    what: &'static str,
    bytes: &[u8],
    most: usize,
) -> Result<(), WireError> {
    bound(what, bytes.len() as u64, most as u64)?;
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    Ok(())
}

pub(super) fn put_path(out: &mut Vec<u8>, path: &[NodeId]) -> Result<(), WireError> {
    bound("path", path.len() as u64, limits::PATH as u64)?;
    put_uint(out, path.len() as u64);
    path.iter().try_for_each(|node| put_bytes(out, "node id", node.as_str().as_bytes(), limits::NAME))
}

pub(super) fn put_wall(out: &mut Vec<u8>, t: SystemTime) {
    // Whole seconds before the moment, and nanoseconds from there on.
    let (seconds, nanos) = match t.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(d) => (d.as_secs() as i64, d.subsec_nanos()),
        Err(e) => {
            let d = e.duration();
            match d.subsec_nanos() {
                0 => (-(d.as_secs() as i64), 0),
                n => (-(d.as_secs() as i64) - 1, 1_000_000_000 - n),
            }
        }
    };
    put_int(out, seconds);
    put_uint(out, u64::from(nanos));
}

pub(super) fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    put_uint(out, stamp.epoch);
    put_uint(out, stamp.group);
    put_uint(out, stamp.media_sequence);
    put_uint(out, stamp.discontinuity_sequence);
    put_int(out, stamp.start.0);
    put_int(out, stamp.segment_start.0.wrapping_sub(stamp.start.0));
    put_wall(out, stamp.wall_clock);
}

pub(super) fn bound(what: &'static str, size: u64, most: u64) -> Result<(), WireError> {
    if size > most { Err(WireError::TooLarge { what, size, most }) } else { Ok(()) }
}

/// A time on the media timeline that arithmetic cannot overflow with.
pub(super) fn time(what: &'static str, micros: i64) -> Result<Timestamp, WireError> {
    bound(what, micros.unsigned_abs(), limits::TIME as u64)?;
    Ok(Timestamp(micros))
}

/// A count that can be counted on from.
pub(super) fn number(what: &'static str, n: u64) -> Result<u64, WireError> {
    bound(what, n, limits::NUMBER)?;
    Ok(n)
}

/// What is left to read of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(what: &'static str, rest: &'a [u8]) -> Self {
        Fields { what, rest }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn short<T>(&self, found: Option<T>) -> Result<T, WireError> {
        found.ok_or(WireError::Truncated { what: self.what })
    }

    /// Nothing is left.
    pub(super) fn done(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(WireError::Trailing { what: self.what, bytes }),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        let (first, rest) = self.short(self.rest.split_first())?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::Invalid { what, value: u64::from(value) }),
        }
    }

    pub(super) fn uint(&mut self) -> Result<u64, WireError> {
        let mut n = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(WireError::TooLarge { what: "number", size: u64::MAX, most: u64::MAX })
    }

    pub(super) fn int(&mut self) -> Result<i64, WireError> {
        let n = self.uint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, WireError> {
        number(what, self.uint()?)
    }

    pub(super) fn epoch(&mut self) -> Result<u64, WireError> {
        let epoch = self.uint()?;
        bound("epoch", epoch, limits::EPOCH)?;
        Ok(epoch)
    }

    pub(super) fn time(&mut self, what: &'static str) -> Result<Timestamp, WireError> {
        time(what, self.int()?)
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.short(self.rest.split_at_checked(n))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self, what: &'static str, most: usize) -> Result<&'a [u8], WireError> {
        let n = self.uint()?;
        bound(what, n, most as u64)?;
        self.take(n as usize)
    }

    /// A copy of its own.
    pub(super) fn own_bytes(&mut self, what: &'static str, most: usize) -> Result<Bytes, WireError> {
        self.bytes(what, most).map(Bytes::copy_from_slice)
    }

    pub(super) fn text(&mut self, what: &'static str, most: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(what, most)?).map_err(|_| WireError::Text { what })
    }

    pub(super) fn name(&mut self, what: &'static str) -> Result<Arc<str>, WireError> {
        Ok(Arc::from(self.text(what, limits::NAME)?))
    }

    /// How many there are of something.
    pub(super) fn count(&mut self, what: &'static str, most: usize) -> Result<usize, WireError> {
        let n = self.uint()?;
        bound(what, n, most as u64)?;
        Ok(n as usize)
    }

    pub(super) fn path(&mut self) -> Result<Vec<NodeId>, WireError> {
        let n = self.count("path", limits::PATH)?;
        (0..n).map(|_| Ok(NodeId(self.name("node id")?))).collect()
    }

    pub(super) fn wall(&mut self) -> Result<SystemTime, WireError> {
        let (seconds, nanos) = (self.int()?, self.uint()?);
        bound("wall clock", seconds.unsigned_abs(), limits::WALL_SECONDS as u64)?;
        bound("nanoseconds", nanos, 999_999_999)?;
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let at = match seconds {
            0.. => SystemTime::UNIX_EPOCH.checked_add(whole),
            _ => SystemTime::UNIX_EPOCH.checked_sub(whole),
        };
        at.and_then(|t| t.checked_add(Duration::from_nanos(nanos)))
            .ok_or(WireError::Invalid { what: "wall clock", value: seconds.unsigned_abs() })
    }

    pub(super) fn stamp(&mut self) -> Result<Stamp, WireError> {
        let epoch = self.epoch()?;
        let group = self.number("group number")?;
        let media_sequence = self.number("media sequence")?;
        let discontinuity_sequence = self.number("discontinuity sequence")?;
        let start = self.time("start of a group")?;
        let segment_start = time("start of a segment", start.0.wrapping_add(self.int()?))?;
        let wall_clock = self.wall()?;
        Ok(Stamp { epoch, group, media_sequence, discontinuity_sequence, segment_start, start, wall_clock })
    }
}
