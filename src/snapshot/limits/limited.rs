//! What the index of limits keeps under a name: of a client, a group, a route, or the table of a model.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use crate::limit::Counter;

/// Limits by their positions in the index.
pub(super) type LimitList = Arc<[usize]>;

/// Where the counter of one subject under one limit is remembered once it was needed: most of many clients are idle.
pub(super) type Cell = OnceLock<Arc<Counter>>;

/// The cells of one subject, by the positions of the limits; or none, where no limit counts such subjects.
pub(super) type Cells = Arc<[Cell]>;

/// What is kept under a name.
#[derive(Debug, Clone)]
pub(super) struct Limited {
    /// The limits that its table refers to.
    pub(super) list: LimitList,
    pub(super) cells: Cells,
}

/// What is kept under the names that a request has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found<'l> {
    pub(super) group: Option<&'l Limited>,
    pub(super) client: Option<&'l Limited>,
    pub(super) route: Option<&'l Limited>,
    /// The table of its model.
    pub(super) model: Option<&'l Limited>,
}

/// What is kept under the names of one kind, where they are few.
pub(super) type ByName = BTreeMap<Arc<str>, Limited>;

impl Limited {
    /// What is kept under a name whose table refers to the limits in `list`, with this number of cells. `None`: nothing has to be.
    pub(super) fn new(list: LimitList, count: usize) -> Option<Self> {
        (count > 0 || !list.is_empty()).then(|| Self { list, cells: cells(count) })
    }
}

impl<'l> Found<'l> {
    /// The limits of all tables, in the order in which they apply; those of the whole configuration come before them.
    pub(super) fn lists(self) -> impl Iterator<Item = &'l LimitList> {
        [self.group, self.client, self.route, self.model].into_iter().flatten().map(|limited| &limited.list)
    }
}

/// So many cells, none of which has been needed.
pub(super) fn cells(count: usize) -> Cells {
    (0..count).map(|_| Cell::new()).collect()
}
