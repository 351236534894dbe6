//! Scripts, and calls of them.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use tokio::{runtime::Handle, time::timeout};

use super::{CallError, Trouble, breaker::Session, connection::Connection};

/// How long the result of a call is waited for that nobody needs in time any more.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// Digits of a number of keys.
const MOST_DIGITS: usize = 20;

/// A script in Lua, which the server knows by its digest once it has seen it.
#[derive(Debug)]
pub struct Script {
    body: String,
    digest: String,
}

impl Script {
    /// Creates the script of these parts, one after the other.
    pub fn new(parts: &[&str]) -> Self {
        let body = parts.concat();
        let digest = redis::Script::new(&body).get_hash().to_owned();
        Self { body, digest }
    }

    /// The text.
    pub fn body(&self) -> &str {
        &self.body
    }
}

/// One run of a script.
#[derive(Debug, Clone)]
pub struct ScriptCall {
    /// What is run.
    pub script: &'static Script,
    /// The keys, which are all in one slot of a cluster.
    pub keys: Vec<Arc<str>>,
    /// Further arguments.
    pub arguments: Vec<Vec<u8>>,
}

impl ScriptCall {
    fn command(&self, name: &str, script: &str) -> Cmd {
        let arguments = self.arguments.iter().map(Vec::len).sum::<usize>();
        let keys = self.keys.iter().map(|key| key.len()).sum::<usize>();
        // A buffer that grows is copied several times.
        let bytes = name.len() + script.len() + MOST_DIGITS + keys + arguments;
        let mut command = Cmd::with_capacity(3 + self.keys.len() + self.arguments.len(), bytes);
        command.arg(name).arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(&**key);
        }
        for argument in &self.arguments {
            command.arg(argument.as_slice());
        }
        command
    }

    /// Runs the script by its digest, or by its text if the server has forgotten it.
    pub(super) async fn run(&self, connection: &mut Connection) -> Result<Vec<u8>, RedisError> {
        match self.command("EVALSHA", &self.script.digest).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", &self.script.body).query_async(connection).await
            }
            result => result,
        }
    }
}

/// A call until its result.
type Execution = dyn Future<Output = Result<Vec<u8>, CallError>> + Send;

/// A call that has been sent, or will be as soon as it is polled.
pub struct Running {
    future: Option<Pin<Box<Execution>>>,
    session: Arc<Session>,
    runtime: Handle,
    begun: Instant,
}

impl Running {
    pub(super) fn new(session: Arc<Session>, call: ScriptCall, runtime: Handle) -> Self {
        let begun = Instant::now();
        let future = Box::pin(execute(session.clone(), call, begun));
        Self { future: Some(future), session, runtime, begun }
    }

    /// The number of the connection that the call is sent over.
    pub fn session(&self) -> u32 {
        self.session.number
    }

    /// Notes that the caller has waited for as long as it may. A call that had less than the whole timeout, because another call of the same
    /// request took the rest, says nothing about the server yet.
    pub fn is_late(&self) {
        if self.begun.elapsed() >= self.session.timeout {
            self.session.failed(Trouble::Slow);
        }
    }

    /// Waits for the result on the store's thread, and gives it to `then`.
    pub fn finish_with(mut self, then: impl FnOnce(Result<Vec<u8>, CallError>) + Send + 'static) {
        if let Some(mut future) = self.future.take() {
            let session = self.session.clone();
            let in_time = session.timeout.saturating_sub(self.begun.elapsed());
            self.runtime.spawn(async move {
                let mut result = timeout(in_time, &mut future).await;
                if result.is_err() {
                    // A caller that had the whole timeout has counted the failure itself.
                    if !in_time.is_zero() {
                        session.failed(Trouble::Slow);
                    }
                    result = timeout(LATE, future).await;
                }
                let result = result.unwrap_or(Err(CallError::Late));
                // Nobody knows whether it was executed: with the next connection, the server gets the true state.
                match &result {
                    Err(CallError::Failed(trouble @ Trouble::Connection(_))) => session.end(trouble.clone()),
                    Err(CallError::Late) => session.end(Trouble::Slow),
                    _ => {}
                }
                then(result);
            });
        }
    }
}

impl Future for Running {
    type Output = Result<Vec<u8>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.future.as_mut() else { return Poll::Ready(Err(CallError::Away)) };
        let result = ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("session", &self.session.number).finish_non_exhaustive()
    }
}

async fn execute(session: Arc<Session>, call: ScriptCall, begun: Instant) -> Result<Vec<u8>, CallError> {
    let mut connection = session.connection.clone();
    match call.run(&mut connection).await {
        Ok(reply) => {
            session.executed(begun.elapsed());
            Ok(reply)
        }
        Err(error) => {
            let trouble = Trouble::of(&error);
            if Trouble::is_of_server(&error) {
                session.end(trouble.clone());
            } else {
                session.failed(trouble.clone());
            }
            Err(CallError::Failed(trouble))
        }
    }
}
