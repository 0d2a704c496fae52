//! AV1 (RTP Payload Format For AV1, v1.0): OBUs without sizes, cut wherever a payload is full.

use super::Out;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
const HAS_SIZE: u8 = 0x02;

/// The most elements in a payload whose number the aggregation header can tell, so that the last needs no length.
const COUNTED: usize = 3;

/// An OBU, its size field left out.
struct Obu<'a> {
    kind: u8,
    head: [u8; 2],
    head_len: usize,
    body: &'a [u8],
}

impl Obu<'_> {
    fn len(&self) -> usize {
        self.head_len + self.body.len()
    }

    fn put(&self, from: usize, to: usize, out: &mut Out) {
        let head = &self.head[..self.head_len];
        out.put(&head[from.min(head.len())..to.min(head.len())]);
        out.put(&self.body[from.saturating_sub(head.len())..to.saturating_sub(head.len())]);
    }
}

/// A stretch of an OBU in a payload.
struct Element {
    obu: usize,
    from: usize,
    to: usize,
}

/// Writes a temporal unit. A keyframe without a sequence header gets the one of the record.
pub(super) fn write(unit: &[u8], sequence: &[u8], keyframe: bool, max: usize, out: &mut Out) {
    let mut obus = Vec::new();
    read(unit, &mut obus);
    if keyframe && !obus.iter().any(|o| o.kind == SEQUENCE_HEADER) {
        let mut first = Vec::new();
        read(sequence, &mut first);
        first.retain(|o| o.kind == SEQUENCE_HEADER);
        obus.splice(0..0, first);
    }
    let mut elements: Vec<Element> = Vec::with_capacity(COUNTED);
    let mut used = 1;
    let mut new_sequence = keyframe;
    let mut flush = |elements: &mut Vec<Element>, used: &mut usize, out: &mut Out| {
        if payload(&obus, elements, new_sequence, out) {
            new_sequence = false;
        }
        elements.clear();
        *used = 1;
    };
    for (i, obu) in obus.iter().enumerate() {
        let mut from = 0;
        while from < obu.len() {
            // What stood last so far needs its length now.
            let before = elements.last().map_or(0, |e| leb128_len(e.to - e.from));
            if elements.len() == COUNTED || used + before >= max {
                flush(&mut elements, &mut used, out);
                continue;
            }
            let to = obu.len().min(from + max - used - before);
            used += before + to - from;
            elements.push(Element { obu: i, from, to });
            from = to;
            if used >= max {
                flush(&mut elements, &mut used, out);
            }
        }
    }
    flush(&mut elements, &mut used, out);
}

fn payload(obus: &[Obu<'_>], elements: &[Element], new_sequence: bool, out: &mut Out) -> bool {
    let (Some(first), Some(last)) = (elements.first(), elements.last()) else { return false };
    let continues = u8::from(first.from > 0) << 7;
    let goes_on = u8::from(last.to < obus[last.obu].len()) << 6;
    out.put(&[continues | goes_on | (elements.len() as u8) << 4 | u8::from(new_sequence) << 3]);
    for (i, e) in elements.iter().enumerate() {
        if i + 1 < elements.len() {
            put_leb128(e.to - e.from, out);
        }
        obus[e.obu].put(e.from, e.to, out);
    }
    out.end();
    true
}

/// The OBUs that are sent; it stops where a size does not fit.
fn read<'a>(mut rest: &'a [u8], obus: &mut Vec<Obu<'a>>) {
    while let Some((&first, tail)) = rest.split_first() {
        let (extension, mut tail) = match (first & 0x04 != 0, tail.split_first()) {
            (false, _) => (None, tail),
            (true, Some((&e, tail))) => (Some(e), tail),
            (true, None) => return,
        };
        let body = if first & HAS_SIZE != 0 {
            let Some(size) = take_leb128(&mut tail) else { return };
            let Some((body, after)) = tail.split_at_checked(size) else { return };
            rest = after;
            body
        } else {
            rest = &[];
            tail
        };
        let kind = first >> 3 & 0x0f;
        if !matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            let head = [first & !HAS_SIZE, extension.unwrap_or(0)];
            obus.push(Obu { kind, head, head_len: 1 + usize::from(extension.is_some()), body });
        }
    }
}

fn take_leb128(data: &mut &[u8]) -> Option<usize> {
    let mut value = 0usize;
    for i in 0..4 {
        let (byte, tail) = data.split_first()?;
        *data = tail;
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn leb128_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

fn put_leb128(mut value: usize, out: &mut Out) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        out.put(&[if value == 0 { low } else { low | 0x80 }]);
        if value == 0 {
            return;
        }
    }
}
