//! One rendition that is being packaged: its window, the playlists rendered from it, and those who wait for more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::playlist::{self, Media};
use crate::respond::Text;
use crate::route::RenditionName;
use crate::segmenter::Output;
use crate::window::{Place, Verdict, Window};

/// The outcome of looking for something that may still come.
#[derive(Debug)]
pub(crate) enum Look<T> {
    Here(T),
    /// It may come; after waiting: it did not come in time.
    NotYet,
    /// It is not there and will not come.
    Missing,
    /// It is asked for too early.
    TooFar,
    /// This packager has stopped: another one may know.
    Closed,
}

/// What all playlists of a rendition have in common.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) folder: String,
    pub(crate) extension: &'static str,
    pub(crate) target: Duration,
    /// The part target when there are parts.
    pub(crate) parts: Option<Duration>,
}

/// A rendition.
#[derive(Debug)]
pub(crate) struct Rendition {
    pub(crate) name: RenditionName,
    text_name: String,
    layout: Layout,
    state: RwLock<State>,
    changed: Notify,
    // The newest part's place + 1 as one number, for the rendition reports of others; 0 when there is none.
    newest: AtomicU64,
}

#[derive(Debug)]
struct State {
    window: Window,
    // The full playlist and the delta update; rendered when first asked for, and shared by all who ask.
    texts: [OnceLock<Arc<Text>>; 2],
    closed: bool,
}

impl Rendition {
    pub(crate) fn new(name: RenditionName, layout: Layout, window: Window) -> Self {
        Rendition {
            name,
            text_name: name.to_string(),
            layout,
            state: RwLock::new(State { window, texts: Default::default(), closed: false }),
            changed: Notify::new(),
            newest: AtomicU64::new(0),
        }
    }

    /// Takes what a segmenter made, and wakes everybody who waits, once.
    pub(crate) fn apply(&self, outputs: impl Iterator<Item = Output>) {
        self.change(|s| outputs.for_each(|o| s.window.apply(o)));
    }

    /// The stream is over.
    pub(crate) fn end(&self) {
        self.change(|s| s.window.end());
    }

    /// Nothing more comes from here.
    pub(crate) fn close(&self) {
        self.change(|s| s.closed = true);
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            f(&mut state);
            state.texts = Default::default();
            let newest = state.window.newest();
            self.newest.store(
                newest.map_or(0, |p| (p.media_sequence << 10 | u64::from(p.part)) + 1),
                Ordering::Release,
            );
        }
        self.changed.notify_waiters();
    }

    /// The place of the newest part.
    pub(crate) fn newest(&self) -> Option<Place> {
        let n = self.newest.load(Ordering::Acquire).checked_sub(1)?;
        Some(Place { media_sequence: n >> 10, part: (n & 1023) as u32 })
    }

    /// Looks at the window.
    pub(crate) fn window<T>(&self, f: impl FnOnce(&Window) -> T) -> T {
        f(&self.read().window)
    }

    /// The playlist, as soon as it holds what `at` asks for.
    pub(crate) async fn playlist(
        &self,
        at: Option<(u64, Option<u32>)>,
        skip: bool,
        all: &[Arc<Rendition>],
        limit: Duration,
    ) -> Look<Arc<Text>> {
        self.wait_for(limit, |s| {
            let verdict = match at {
                Some((msn, part)) => {
                    s.window.reload(msn, part, self.layout.parts.unwrap_or(self.layout.target))
                }
                None if s.window.newest().is_some() || s.window.is_ended() => Verdict::Ready,
                None => Verdict::Wait,
            };
            match verdict {
                Verdict::Ready => Look::Here(
                    s.texts[usize::from(skip)]
                        .get_or_init(|| Arc::new(Text::new(self.render(&s.window, skip, all))))
                        .clone(),
                ),
                Verdict::Wait => Look::NotYet,
                Verdict::TooFar => Look::TooFar,
            }
        })
        .await
    }

    /// A part; the one that comes next is waited for.
    pub(crate) async fn part(&self, place: Place, limit: Duration) -> Look<Bytes> {
        self.wait_for(limit, |s| match s.window.part(place) {
            Some(p) => Look::Here(p.bytes.clone()),
            None if s.window.next() == Some(place) && !s.window.is_ended() => Look::NotYet,
            None => Look::Missing,
        })
        .await
    }

    fn render(&self, window: &Window, skip: bool, all: &[Arc<Rendition>]) -> String {
        let others = all.iter().filter(|r| r.name != self.name);
        let reports: Vec<_> = others.filter_map(|r| Some((r.text_name.clone(), r.newest()?))).collect();
        let l = &self.layout;
        let media = Media {
            window,
            name: &self.text_name,
            folder: &l.folder,
            extension: l.extension,
            target: l.target,
            parts: l.parts,
            reports: &reports,
        };
        playlist::media(&media, skip)
    }

    async fn wait_for<T>(&self, limit: Duration, look: impl Fn(&State) -> Look<T>) -> Look<T> {
        let look = || {
            let state = self.read();
            match look(&state) {
                Look::NotYet | Look::Missing | Look::TooFar if state.closed => Look::Closed,
                other => other,
            }
        };
        match look() {
            Look::NotYet => {}
            done => return done,
        }
        let deadline = Instant::now() + limit;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed, so look again before waiting.
            changed.as_mut().enable();
            match look() {
                Look::NotYet => {}
                done => return done,
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Look::NotYet;
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}
