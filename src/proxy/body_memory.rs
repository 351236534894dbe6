//! Memory for a body that is held.

use bytes::{Bytes, BytesMut};
use memmap2::{Advice, MmapMut};

use super::buffered;

/// From this capacity on, in bytes, the memory comes from the system and not from the allocator, if it may have to grow.
///
/// The allocator keeps what was freed for some seconds, in each thread's arena, and buffers that grow leave their smaller ones behind: measured
/// at 1.5 times what was in use. A mapping that is dropped is gone at once, and takes no memory where nothing was written to it.
pub(super) const MAPPED_FROM: usize = 64 << 10;

/// From this length on, in bytes, the memory comes from the system even if the length is known.
///
/// Below, the allocator gives the same memory again and again. To map, clear and unmap a quarter of a mebibyte takes as long as everything else that is done
/// for such a request.
const KNOWN_MAPPED_FROM: usize = 1 << 20;

/// What the system gives and counts memory by, in bytes.
const PAGE: usize = 4 << 10;

/// What is written at once is given memory at once from this length on, in bytes: a page fault for each page costs more than the copy.
const POPULATED_FROM: usize = 4 * PAGE;

/// From this capacity on the system might use huge pages, which would take memory where nothing was written.
const HUGE_PAGE: usize = 2 << 20;

/// Memory for a body, or for a part of one: a fixed capacity that is filled from its beginning.
#[derive(Debug)]
pub(super) enum BodyMemory {
    /// From the allocator.
    Heap(BytesMut),
    /// From the system.
    Mapped {
        /// All of it.
        map: MmapMut,
        /// How much of it has been written.
        length: usize,
    },
}

impl BodyMemory {
    /// Memory for `capacity` bytes, all of which will be used.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self::mapped_from(KNOWN_MAPPED_FROM, capacity)
    }

    /// Memory for `capacity` bytes of something that may become longer, or shorter.
    pub(super) fn for_growth(capacity: usize) -> Self {
        Self::mapped_from(MAPPED_FROM, capacity)
    }

    fn mapped_from(least: usize, capacity: usize) -> Self {
        if capacity < least {
            return Self::Heap(BytesMut::with_capacity(capacity));
        }
        // A process may have only so many mappings (`vm.max_map_count`).
        let Ok(map) = MmapMut::map_anon(capacity) else {
            return Self::Heap(BytesMut::with_capacity(capacity));
        };
        if capacity >= HUGE_PAGE
            && let Err(error) = map.advise(Advice::NoHugePage)
        {
            // A kernel without huge pages.
            tracing::trace!(%error, "huge pages could not be switched off");
        }
        Self::Mapped { map, length: 0 }
    }

    /// The number of bytes written.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Mapped { length, .. } => *length,
        }
    }

    /// The number of bytes that fit in.
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Mapped { map, .. } => map.len(),
        }
    }

    /// The memory that is taken once `length` bytes are written, in bytes.
    pub(super) fn taken_by(&self, length: usize) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Mapped { map, .. } => length.next_multiple_of(PAGE).min(map.len()),
        }
    }

    /// Writes as much of `bytes` as there is room for; the rest is returned.
    pub(super) fn put<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.capacity() - self.len();
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        match self {
            Self::Heap(buffer) => buffer.extend_from_slice(now),
            Self::Mapped { map, length } => {
                if now.len() >= POPULATED_FROM
                    && let Err(error) = map.advise_range(Advice::PopulateWrite, *length, now.len())
                {
                    // Linux before 5.14.
                    tracing::trace!(%error, "memory could not be had at once");
                }
                map[*length..*length + now.len()].copy_from_slice(now);
                *length += now.len();
            }
        }
        later
    }

    /// Empties it, so that it can be filled again.
    pub(super) fn clear(&mut self) {
        match self {
            Self::Heap(bytes) => bytes.clear(),
            Self::Mapped { length, .. } => *length = 0,
        }
    }

    /// The bytes, which `counted` belongs to: it is dropped with the last clone of them.
    pub(super) fn freeze(self, counted: impl Send + 'static) -> Bytes {
        match self {
            Self::Heap(bytes) => buffered::own(bytes.freeze(), counted),
            Self::Mapped { length, .. } => {
                let mut bytes = Bytes::from_owner(Counted { memory: self, _counted: counted });
                bytes.truncate(length);
                bytes
            }
        }
    }
}

impl AsRef<[u8]> for BodyMemory {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped { map, length } => &map[..*length],
        }
    }
}

/// Memory and its count.
struct Counted<C> {
    memory: BodyMemory,
    _counted: C,
}

impl<C> AsRef<[u8]> for Counted<C> {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_fits_and_gives_it_back() {
        let near = |capacity| [capacity - 1, capacity, capacity + 1];
        for capacity in [[1, 4096, 3 << 20], near(MAPPED_FROM), near(KNOWN_MAPPED_FROM)].concat() {
            for mut memory in [BodyMemory::with_capacity(capacity), BodyMemory::for_growth(capacity)] {
                let room = memory.capacity();
                let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(room + 10).collect();
                assert_eq!(memory.put(&bytes[..1]).len(), 0);
                assert_eq!(memory.put(&bytes[1..]).len(), 10);
                assert_eq!((memory.len(), memory.taken_by(room)), (room, room));
                assert_eq!(memory.freeze(()), bytes[..room]);
            }
        }
    }

    #[test]
    fn what_was_not_written_takes_nothing() {
        let mut memory = BodyMemory::for_growth(1 << 20);
        memory.put(b"x");
        assert_eq!(memory.taken_by(1), PAGE);
        assert_eq!(memory.freeze(()), "x");
    }
}
