//! The last finished requests of one worker, for the operator's live page.
//!
//! A request that went well is kept only while somebody looks. One that failed, or needed more than one attempt, is always kept, so that
//! an operator who comes later finds it; it costs a line, as the log does. Each kind has its own bound, so that neither replaces the other.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Limit in bytes of a line; a longer one is not kept.
const LONGEST: usize = 16 << 10;

/// The last finished requests of one worker, as JSON objects with the fields of the access line.
#[derive(Debug, Default)]
pub struct History {
    /// Whether anything is kept.
    is_on: AtomicBool,
    /// Whether requests that went well are kept too.
    keeps_all: AtomicBool,
    kept: Mutex<Kept>,
    /// Lines that were not kept because the operator's thread was reading.
    missed: AtomicU64,
}

/// The lines, each with its number.
#[derive(Debug, Default)]
struct Kept {
    /// Limit of the lines of each kind.
    most: usize,
    /// Number of the lines so far.
    count: u64,
    failed: VecDeque<(u64, Arc<[u8]>)>,
    other: VecDeque<(u64, Arc<[u8]>)>,
}

/// Lines that were read.
#[derive(Debug, Default)]
pub struct HistoryPart {
    /// The lines, oldest first.
    pub lines: Vec<Arc<[u8]>>,
    /// The number to read on from.
    pub next: u64,
}

/// Finished requests that were read, the newest first.
#[derive(Debug, Default)]
pub struct NewestPart {
    /// Those that failed, or needed more than one attempt.
    pub failed: Vec<Arc<[u8]>>,
    /// The others.
    pub other: Vec<Arc<[u8]>>,
    /// The number to read on from.
    pub next: u64,
}

impl NewestPart {
    /// At most `most` lines of the parts of several workers: those that failed first, and each worker has its share.
    pub fn share(parts: &[Self], most: usize) -> Vec<Arc<[u8]>> {
        let failed: Vec<_> = parts.iter().map(|part| &*part.failed).collect();
        let other: Vec<_> = parts.iter().map(|part| &*part.other).collect();
        let mut lines = take_turns(&failed, most);
        lines.extend(take_turns(&other, most - lines.len()));
        lines
    }
}

impl History {
    /// A history of at most `most` requests that failed, and of as many that did not.
    pub fn of(most: usize) -> Self {
        let history = Self::default();
        history.bound(most);
        history
    }

    /// Whether anything is kept. False until [`History::bound`] is called: without an admin listener, nobody could look.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether requests that went well are kept.
    pub fn keeps_all(&self) -> bool {
        self.keeps_all.load(Ordering::Relaxed)
    }

    /// Sets whether requests that went well are kept, and forgets them if not.
    pub fn keep_all(&self, keep: bool) {
        self.keeps_all.store(keep, Ordering::Relaxed);
        if !keep {
            self.lock().other = VecDeque::new();
        }
    }

    /// Sets how many requests of each kind are kept.
    pub fn bound(&self, most: usize) {
        self.lock().most = most;
        self.is_on.store(most > 0, Ordering::Relaxed);
    }

    /// Keeps the line of a finished request. Never waits: a line that comes while another thread reads is counted as missed.
    pub fn push(&self, line: &[u8], failed: bool) {
        if line.len() > LONGEST || !self.is_on() {
            return;
        }
        let Ok(mut kept) = self.kept.try_lock() else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let number = kept.count;
        kept.count += 1;
        let most = kept.most.max(1);
        let ring = if failed { &mut kept.failed } else { &mut kept.other };
        while ring.len() >= most {
            ring.pop_front();
        }
        ring.push_back((number, line.into()));
    }

    /// The newest lines from number `from` on, at most `most` of them.
    pub fn read(&self, from: u64, most: usize) -> HistoryPart {
        let kept = self.lock();
        let newer = |ring: &VecDeque<(u64, Arc<[u8]>)>| -> Vec<(u64, Arc<[u8]>)> {
            ring.iter().rev().take_while(|(number, _)| *number >= from).take(most).cloned().collect()
        };
        let (mut lines, next) = (newer(&kept.failed), kept.count);
        lines.extend(newer(&kept.other));
        drop(kept);
        lines.sort_unstable_by_key(|(number, _)| *number);
        let excess = lines.len().saturating_sub(most);
        HistoryPart { lines: lines.into_iter().skip(excess).map(|(_, line)| line).collect(), next }
    }

    /// The newest requests that ended from number `from` on, at most `most` of each kind.
    pub fn newest(&self, from: u64, most: usize) -> NewestPart {
        let kept = self.lock();
        let newer = |ring: &VecDeque<(u64, Arc<[u8]>)>| -> Vec<Arc<[u8]>> {
            let newer = ring.iter().rev().take_while(|(number, _)| *number >= from).take(most);
            newer.map(|(_, line)| line.clone()).collect()
        };
        NewestPart { failed: newer(&kept.failed), other: newer(&kept.other), next: kept.count }
    }

    /// Number of lines that were not kept because another thread was reading.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line of each list after the other, until there are `most`.
fn take_turns(lists: &[&[Arc<[u8]>]], most: usize) -> Vec<Arc<[u8]>> {
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or_default();
    let turns = (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn)));
    turns.take(most).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(part: &HistoryPart) -> Vec<String> {
        part.lines.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    #[test]
    fn each_kind_has_its_own_bound_and_the_order_is_that_of_their_ends() {
        let history = History::of(2);
        for number in 0..6 {
            history.push(format!("{number}").as_bytes(), number < 3);
        }
        let all = history.read(0, 100);
        assert_eq!((texts(&all), all.next), (["1", "2", "4", "5"].map(String::from).to_vec(), 6));
        assert_eq!(texts(&history.read(0, 3)), ["2", "4", "5"]);
        assert_eq!(texts(&history.read(all.next, 100)), [""; 0]);
        history.push(b"6", true);
        assert_eq!(texts(&history.read(all.next, 100)), ["6"]);
        history.keep_all(false);
        assert_eq!(texts(&history.read(0, 100)), ["2", "6"]);
    }

    #[test]
    fn no_failed_request_gives_way_to_others_and_workers_share_the_rest() {
        let (busy, idle) = (History::of(100), History::of(100));
        busy.push(b"failed", true);
        for number in 0..50 {
            busy.push(format!("busy {number}").as_bytes(), false);
        }
        idle.push(b"idle 0", false);
        idle.push(b"idle failed", true);
        let parts = [busy.newest(0, 4), idle.newest(0, 4)];
        let lines = NewestPart::share(&parts, 5);
        let shared = texts(&HistoryPart { lines, next: 0 });
        assert_eq!(shared, ["failed", "idle failed", "busy 49", "idle 0", "busy 48"]);
        assert_eq!((parts[0].next, parts[1].next), (51, 2));
        assert_eq!(NewestPart::share(&parts, 1).len(), 1);
    }

    #[test]
    fn nothing_is_kept_where_nobody_can_look() {
        let history = History::default();
        history.push(b"1", true);
        assert!(!history.is_on() && history.read(0, 9).lines.is_empty());
    }

    #[test]
    fn who_writes_never_waits() {
        let history = History::of(2);
        let reading = history.lock();
        history.push(b"late", true);
        drop(reading);
        history.push(&[b'x'; LONGEST + 1], true);
        assert_eq!((history.missed(), history.read(0, 9).lines.len()), (1, 0));
    }
}
