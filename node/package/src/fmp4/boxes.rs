//! Writing of ISO base media boxes into a byte vector.

/// A growing buffer of boxes.
#[derive(Debug, Default)]
pub(super) struct Boxes(pub(super) Vec<u8>);

impl Boxes {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Boxes(Vec::with_capacity(bytes))
    }

    /// Writes one box; its size is filled in after `body` has run.
    pub(super) fn boxed(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.u32(0);
        self.0.extend_from_slice(kind);
        body(self);
        let size = u32::try_from(self.0.len() - at).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }

    /// Writes one full box, which has a version and flags.
    pub(super) fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, body: impl FnOnce(&mut Self)) {
        self.boxed(kind, |b| {
            b.u32(u32::from(version) << 24 | (flags & 0x00ff_ffff));
            body(b);
        });
    }

    pub(super) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    pub(super) fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    pub(super) fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    pub(super) fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    pub(super) fn zeros(&mut self, n: usize) {
        self.0.resize(self.0.len() + n, 0);
    }

    pub(super) fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }

    /// The identity matrix of `mvhd` and `tkhd`.
    pub(super) fn matrix(&mut self) {
        for v in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
            self.u32(v);
        }
    }
}
