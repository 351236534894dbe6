//! Where hyper's HTTP/2 puts its streams: each in a task of its own on the worker's thread, with its abort handle in the [`Link`].

use std::rc::Rc;

use hyper::rt::Executor;

use crate::body::Link;

/// One connection's executor.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    link: Rc<Link>,
}

/// Takes the task's handle out of the link when its future is dropped; tokio tells the task's id there too.
struct Started(Rc<Link>);

impl Streams {
    pub(super) fn new(link: Rc<Link>) -> Self {
        Self { link }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let started = Started(self.link.clone());
        let task = tokio::task::spawn_local(async move {
            let _started = started;
            stream.await;
        });
        self.link.task_started(task.abort_handle());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.0.own_task_ended();
    }
}
