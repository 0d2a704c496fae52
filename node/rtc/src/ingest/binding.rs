//! Which source belongs to which media section and simulcast layer.

use std::collections::HashMap;

use crate::agreed::{Codec, Payload, Receiving};
use crate::rtp::Packet;

/// SSRCs that are known at most; browsers use two for each layer.
const MOST: usize = 32;
/// Layers at most: as many as a stream has tracks.
const LAYERS: usize = 16;
/// Sources of a section that count as layers when they are only listed.
const LISTED: usize = 4;

/// What a packet's SSRC belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Index of the layer.
    pub(super) layer: usize,
    /// Whether it carries retransmissions (RFC 4588).
    pub(super) rtx: bool,
}

/// One thing that is sent: a section, or a simulcast layer of it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The section's name.
    pub(super) mid: String,
    /// Its restriction identifier, where there is simulcast.
    pub(super) rid: Option<String>,
    /// Its number among those of the section that were announced without one.
    pub(super) index: usize,
    /// Index of its section; `None` when that is gone.
    pub(super) section: Option<usize>,
    /// Its source, once known.
    pub(super) ssrc: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Bindings {
    sections: Vec<Receiving>,
    pub(super) layers: Vec<Layer>,
    ssrcs: HashMap<u32, Bound>,
}

impl Bindings {
    /// Takes new sections; layers that were there keep their index.
    pub(super) fn set_sections(&mut self, sections: &[Receiving]) {
        for layer in &mut self.layers {
            layer.section = None;
        }
        self.sections = sections.to_vec();
        for (s, section) in sections.iter().enumerate() {
            let announced = section.ssrcs.len().clamp(1, LISTED);
            let rids: Vec<Option<String>> = match section.rids.as_slice() {
                [] => vec![None; if section.video { announced } else { 1 }],
                rids => rids.iter().cloned().map(Some).collect(),
            };
            let by_order = section.rids.is_empty() || section.rids.len() == section.ssrcs.len();
            for (index, rid) in rids.into_iter().enumerate() {
                let index = if rid.is_some() { 0 } else { index };
                let same = |l: &Layer| (&l.mid, &l.rid, l.index) == (&section.mid, &rid, index);
                let at = match self.layers.iter().position(same) {
                    Some(at) => at,
                    None if self.layers.len() < LAYERS => {
                        let mid = section.mid.clone();
                        self.layers.push(Layer { mid, rid, index, section: None, ssrc: None });
                        self.layers.len() - 1
                    }
                    None => continue,
                };
                self.layers[at].section = Some(s);
            }
            let of_section: Vec<usize> = self.of_section(s).collect();
            for (&layer, &(ssrc, rtx)) in of_section.iter().zip(&section.ssrcs).filter(|_| by_order) {
                self.bind(ssrc, Bound { layer, rtx: false });
                if let Some(rtx) = rtx {
                    self.bind(rtx, Bound { layer, rtx: true });
                }
            }
        }
        let layers = &self.layers;
        self.ssrcs.retain(|_, b| layers[b.layer].section.is_some());
    }

    fn of_section(&self, section: usize) -> impl Iterator<Item = usize> {
        self.layers.iter().enumerate().filter(move |(_, l)| l.section == Some(section)).map(|(i, _)| i)
    }

    /// The section of a layer, if it still has one.
    pub(super) fn section(&self, layer: usize) -> Option<&Receiving> {
        self.sections.get(self.layers.get(layer)?.section?)
    }

    /// The format of a payload type in the section of a layer, and whether it is that of retransmissions.
    pub(super) fn payload(&self, layer: usize, pt: u8) -> Option<(&Payload, bool)> {
        let payloads = &self.section(layer)?.payloads;
        let plain = payloads.iter().find(|p| p.pt == pt).map(|p| (p, false));
        plain.or_else(|| payloads.iter().find(|p| p.rtx == Some(pt)).map(|p| (p, true)))
    }

    /// The id of the transport-wide number, which is the same in all sections.
    pub(super) fn transport_cc(&self) -> Option<u8> {
        self.sections.iter().find_map(|s| s.extensions.transport_cc)
    }

    /// What an SSRC belongs to, if that is known.
    pub(super) fn known(&self, ssrc: u32) -> Option<Bound> {
        self.ssrcs.get(&ssrc).copied()
    }

    /// Finds out what a packet's source belongs to (RFC 8843, 9.2), and keeps it.
    pub(super) fn find(&mut self, packet: &Packet) -> Option<Bound> {
        if let Some(bound) = self.known(packet.ssrc) {
            return Some(bound);
        }
        let bound = self.by_extension(packet).or_else(|| self.by_payload_type(packet))?;
        self.bind(packet.ssrc, bound).then_some(bound)
    }

    fn by_extension(&self, packet: &Packet) -> Option<Bound> {
        let value = |id: Option<u8>| id.and_then(|id| packet.extension(id));
        for (s, section) in self.sections.iter().enumerate() {
            let ids = section.extensions;
            let (rid, repaired) = (value(ids.rid), value(ids.repaired_rid));
            match value(ids.mid) {
                Some(mid) if mid != section.mid.as_bytes() => continue,
                None if rid.or(repaired).is_none() => continue,
                _ => {}
            }
            let mut layers = self.of_section(s);
            let rtx = section.payloads.iter().any(|p| p.rtx == Some(packet.pt));
            let found = match rid.or(repaired) {
                Some(name) if !section.rids.is_empty() => {
                    layers.find(|i| self.layers[*i].rid.as_ref().is_some_and(|r| r.as_bytes() == name))
                }
                // A layer that is not named cannot be told from others.
                _ if !section.rids.is_empty() => None,
                _ => layers.next(),
            };
            if let Some(layer) = found {
                return Some(Bound { layer, rtx: rtx || (rid.is_none() && repaired.is_some()) });
            }
        }
        None
    }

    /// Where only one section has the payload type, and it has one layer.
    fn by_payload_type(&self, packet: &Packet) -> Option<Bound> {
        let has = |s: &Receiving| s.payloads.iter().any(|p| p.pt == packet.pt || p.rtx == Some(packet.pt));
        let mut sections = self.sections.iter().enumerate().filter(|(_, s)| has(s));
        let ((s, section), None) = (sections.next()?, sections.next()) else { return None };
        let mut layers = self.of_section(s);
        let (layer, None) = (layers.next()?, layers.next()) else { return None };
        // Without a name a second source of the section could be anything.
        let taken = self.layers[layer].rid.is_some();
        let rtx = section.payloads.iter().all(|p| p.pt != packet.pt);
        (!taken).then_some(Bound { layer, rtx })
    }

    /// Binds a source; the one that had its place before is forgotten. False when there are too many.
    fn bind(&mut self, ssrc: u32, bound: Bound) -> bool {
        self.ssrcs.retain(|s, b| *b != bound || *s == ssrc);
        if self.ssrcs.len() >= MOST && !self.ssrcs.contains_key(&ssrc) {
            return false;
        }
        self.ssrcs.insert(ssrc, bound);
        if !bound.rtx {
            self.layers[bound.layer].ssrc = Some(ssrc);
        }
        true
    }

    /// A source is over.
    pub(super) fn unbind(&mut self, ssrc: u32) {
        if let Some(bound) = self.ssrcs.remove(&ssrc)
            && !bound.rtx
        {
            self.layers[bound.layer].ssrc = None;
        }
    }
}

/// The RTP clock of a section's sources.
pub(super) fn clock_rate(section: &Receiving) -> u32 {
    let first = section.payloads.first().map(|p| p.clock);
    first.unwrap_or(if section.video { 90_000 } else { 48_000 })
}

/// Whether a format's codec fits its section.
pub(super) fn fits(section: &Receiving, payload: &Payload) -> bool {
    matches!(payload.codec, Codec::Video(_)) == section.video
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreed::Extensions;

    #[test]
    fn listed_sources_are_layers_up_to_a_limit() {
        let mut bindings = Bindings::default();
        bindings.set_sections(&[Receiving {
            mid: "v".into(),
            video: true,
            payloads: Vec::new(),
            extensions: Extensions::default(),
            ssrcs: (1..=12).map(|ssrc| (ssrc, None)).collect(),
            rids: Vec::new(),
        }]);
        assert_eq!(bindings.layers.len(), LISTED);
        assert_eq!((bindings.known(4).map(|b| b.layer), bindings.known(5)), (Some(3), None));
    }
}
