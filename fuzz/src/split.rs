//! Cutting of an input into the pieces in which a socket might deliver it.

use crate::Random;

/// Cuts `data` into pieces whose lengths follow from `data` itself, so that inputs are plain recordings, with no
/// control bytes, and an input always does the same.
pub(crate) fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = Random::of(data);
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let most = [1, 8, 200, 5000][random.below(4)];
        let (piece, tail) = rest.split_at((1 + random.below(most)).min(rest.len()));
        rest = tail;
        Some(piece)
    })
}
