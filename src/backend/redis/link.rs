//! The one connection to the server: made on first use, shared by everybody, and made anew when it broke.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, Pipeline, PushInfo, PushKind, RedisResult,
    Value,
    aio::{MultiplexedConnection, SendError},
};
use tokio::sync::watch;

use super::{errors, reply, space::Spaces};
use crate::{Error, ErrorKind, Result, Timestamp};

/// A connection on which nothing was answered for so long is given up. The cache waits less for a single answer; this
/// is for a server whose machine is gone without a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a failed attempt to connect the next one is made no sooner than this, and twice that after each further one,
/// up to the limit. Verbs in between fail at once.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Many requests wait in the connection's queue before those that make more of them have to.
const QUEUE: usize = 1024;

/// A connection that works, as far as is known.
pub(super) struct Live {
    connection: MultiplexedConnection,
    /// Which of this process's connections it is.
    number: u64,
    broken: Arc<AtomicBool>,
    silence: Silence,
}

impl Live {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value> {
        self.silence.begin(Timestamp::now());
        let answer = self.connection.clone().send_packed_command(command).await;
        self.answered(answer)
    }

    /// The answers to all commands of a pipeline, errors of the server among them.
    pub(super) async fn ask_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.silence.begin(Timestamp::now());
        let count = pipeline.len();
        let mut connection = self.connection.clone();
        let answers = connection.send_packed_commands(pipeline, 0, count).await;
        self.answered(answers)
    }

    fn answered<T>(&self, answer: RedisResult<T>) -> Result<T> {
        match answer {
            Ok(answer) => {
                self.silence.end();
                Ok(answer)
            }
            Err(error) => {
                if error.is_unrecoverable_error() {
                    self.broken.store(true, Ordering::Release);
                }
                Err(errors::asking(&error))
            }
        }
    }

    fn is_usable(&self) -> bool {
        !self.broken.load(Ordering::Acquire) && !self.silence.is_too_long()
    }
}

/// Since when a request waits and nothing was answered, in milliseconds; 0 where none waits.
#[derive(Default)]
struct Silence(AtomicU64);

impl Silence {
    fn begin(&self, now: Timestamp) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(now.as_millis(), Ordering::Relaxed);
        }
    }

    fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn is_too_long(&self) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            since => self.lasted(Timestamp::from_millis(since), Timestamp::now()),
        }
    }

    fn lasted(&self, since: Timestamp, now: Timestamp) -> bool {
        if now < since {
            // Somebody set the clock back; the silence is counted from now on.
            self.0.store(now.as_millis(), Ordering::Relaxed);
        }
        now.since(since) >= PATIENCE
    }
}

type Outcome = Result<Arc<Live>>;

enum State {
    /// Not connected; the next attempt is made after the pause, which the failure that caused it began.
    Apart(Option<Pause>),
    /// Somebody's attempt is under way, and everybody waits for it.
    Connecting(watch::Receiver<Option<Outcome>>),
    Live(Arc<Live>),
    Closed,
}

struct Pause {
    error: Error,
    until: Timestamp,
    length: Duration,
}

impl Pause {
    /// An end that is further away than the pause is long is of a clock that somebody has set back since.
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until || self.until.since(now) > self.length + Duration::from_millis(1)
    }
}

/// The way to the server.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    /// Whether the connection is to have TLS, for the words of an error.
    tls: bool,
    connect_timeout: Duration,
    spaces: Arc<Spaces>,
    state: Mutex<State>,
    attempts: AtomicU64,
}

impl Link {
    pub(super) fn new(client: Client, connect_timeout: Duration, spaces: Arc<Spaces>) -> Self {
        let address = client.get_connection_info().addr();
        Self(Arc::new(Inner {
            tls: matches!(address, ConnectionAddr::TcpTls { .. }),
            client,
            connect_timeout,
            spaces,
            state: Mutex::new(State::Apart(None)),
            attempts: AtomicU64::new(0),
        }))
    }

    /// The number of the latest attempt to connect. An answer that came by an earlier connection may be one that the
    /// audit of the later one did not know of.
    pub(super) fn latest(&self) -> u64 {
        self.0.attempts.load(Ordering::SeqCst)
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        match *self.0.state() {
            State::Closed => Err(closed()),
            _ => Ok(()),
        }
    }

    /// Gives the connection back, and makes no other.
    pub(super) fn close(&self) {
        *self.0.state() = State::Closed;
    }

    /// The connection, made now if there is none that works.
    pub(super) async fn live(&self) -> Outcome {
        loop {
            let mut attempt = match self.0.step() {
                Step::Done(outcome) => return outcome,
                Step::Wait(attempt) => attempt,
            };
            let outcome = attempt.wait_for(Option::is_some).await;
            if let Some(outcome) = outcome.ok().and_then(|outcome| outcome.clone()) {
                return outcome;
            }
            // Its task ended with the runtime it ran on, which is not ours.
            self.0.abandon(&attempt);
        }
    }
}

enum Step {
    Done(Outcome),
    Wait(watch::Receiver<Option<Outcome>>),
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(self: &Arc<Self>) -> Step {
        let mut state = self.state();
        let pause = match &mut *state {
            State::Closed => return Step::Done(Err(closed())),
            State::Live(live) if live.is_usable() => return Step::Done(Ok(live.clone())),
            State::Live(_) => None,
            State::Connecting(attempt) => return Step::Wait(attempt.clone()),
            State::Apart(Some(pause)) if !pause.is_over(Timestamp::now()) => {
                return Step::Done(Err(pause.error.clone()));
            }
            State::Apart(pause) => pause.take(),
        };
        let (sender, receiver) = watch::channel(None);
        *state = State::Connecting(receiver.clone());
        // In a task of its own, because whoever asked may wait for less long than connecting takes.
        let (inner, before) = (self.clone(), pause.map(|pause| pause.length));
        tokio::spawn(async move {
            let outcome = inner.connect().await;
            inner.settle(&outcome, before);
            sender.send_replace(Some(outcome));
        });
        Step::Wait(receiver)
    }

    fn settle(&self, outcome: &Outcome, pause_before: Option<Duration>) {
        let mut state = self.state();
        if matches!(*state, State::Closed) {
            return;
        }
        *state = match outcome {
            Ok(live) => State::Live(live.clone()),
            Err(error) => {
                let length = pause_before.map_or(FIRST_PAUSE, |before| before * 2);
                let length = length.min(LONGEST_PAUSE);
                State::Apart(Some(Pause {
                    error: error.clone(),
                    until: Timestamp::now() + length,
                    length,
                }))
            }
        };
    }

    fn abandon(&self, attempt: &watch::Receiver<Option<Outcome>>) {
        let mut state = self.state();
        if matches!(&*state, State::Connecting(current) if current.same_channel(attempt)) {
            *state = State::Apart(None);
        }
    }

    async fn connect(&self) -> Outcome {
        // Before the audit is drawn up: whoever is told of a deletion after that sees the number, and looks again.
        let number = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        let broken = Arc::new(AtomicBool::new(false));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(PATIENCE))
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(notice(broken.clone()));
        let client = &self.client;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connection = connecting.await;
        let live = Live {
            connection: connection.map_err(|error| errors::connecting(&error, self.tls))?,
            number,
            broken,
            silence: Silence::default(),
        };
        let audited = tokio::time::timeout(self.connect_timeout, self.audit(&live)).await;
        audited.map_err(|_| errors::slow_to_connect(self.tls))??;
        Ok(Arc::new(live))
    }

    /// Asks whether the server still knows of the last deletions that it acknowledged, before anybody reads from it.
    async fn audit(&self, live: &Live) -> Result<()> {
        let audit = self.spaces.audit();
        let mut pipeline = Pipeline::new();
        // For whoever looks at the server's list of clients. A user who may not say it is no worse off.
        pipeline.cmd("CLIENT").arg("SETNAME").arg("larder");
        if audit.counters().len() > 0 {
            pipeline.cmd("MGET");
            audit.counters().for_each(|counter| {
                pipeline.arg(counter);
            });
        }
        let mut answers = live.ask_all(&pipeline).await?.into_iter().skip(1);
        if let Some(answer) = answers.next() {
            let values = reply::array(answer)?;
            audit.judge(values.into_iter().map(|value| reply::number(&value)));
        }
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the cache was closed")
}

/// Learns of a lost connection when it happens, so that it is replaced before the next request fails by it.
fn notice(
    broken: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection {
            broken.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// Shows the state, and nothing of how to get to the server: the URL may hold a password.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0.state() {
            State::Apart(None) => "Link(not connected)",
            State::Apart(Some(_)) => "Link(unreachable)",
            State::Connecting(_) => "Link(connecting)",
            State::Live(_) => "Link(connected)",
            State::Closed => "Link(closed)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_pause_ends_though_the_clock_was_set_back() {
        let begun = Timestamp::from_secs(10_000);
        let pause = Pause {
            error: closed(),
            until: begun + LONGEST_PAUSE,
            length: LONGEST_PAUSE,
        };
        assert!(!pause.is_over(begun));
        assert!(!pause.is_over(begun + LONGEST_PAUSE / 2));
        assert!(pause.is_over(begun + LONGEST_PAUSE));
        assert!(pause.is_over(Timestamp::from_secs(10_000 - HOUR.as_secs())));
    }

    #[test]
    fn a_silence_is_noticed_though_the_clock_was_set_back() {
        let silence = Silence::default();
        let begun = Timestamp::from_secs(10_000);
        silence.begin(begun);
        assert!(!silence.lasted(begun, begun + PATIENCE / 2));
        assert!(silence.lasted(begun, begun + PATIENCE));
        let back = Timestamp::from_secs(10_000 - HOUR.as_secs());
        assert!(!silence.lasted(begun, back));
        let since = Timestamp::from_millis(silence.0.load(Ordering::Relaxed));
        assert!(silence.lasted(since, back + PATIENCE));
    }
}
