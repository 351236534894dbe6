//! Runs each stream of hyper's HTTP/2 in its own task on the worker's thread, and keeps the task's abort handle in the
//! [`ConnectionState`].

use std::rc::Rc;

use hyper::rt::Executor;

use crate::body::ConnectionState;

/// The executor of one connection.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    state: Rc<ConnectionState>,
}

/// Removes the task's handle from the connection state when the task's future is dropped; tokio knows the task's id there too.
struct Started(Rc<ConnectionState>);

impl StreamExecutor {
    pub(super) fn new(state: Rc<ConnectionState>) -> Self {
        Self { state }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let started = Started(self.state.clone());
        let task = tokio::task::spawn_local(async move {
            let _started = started;
            stream.await;
        });
        self.state.task_started(task.abort_handle());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.0.own_task_ended();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    #[test]
    fn a_stream_finds_its_own_task_and_leaves_no_trace_of_it() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let state = ConnectionState::new(Instant::now());
            let streams = StreamExecutor::new(state.clone());
            let (ended, aborted) = (state.clone(), state.clone());
            streams.execute(async move { assert!(ended.own_task().is_some()) });
            streams.execute(async move {
                aborted.own_task().unwrap().abort();
                std::future::pending::<()>().await;
            });
            assert_eq!(state.tasks(), 2);
            assert!(state.own_task().is_none());
            while state.tasks() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}
