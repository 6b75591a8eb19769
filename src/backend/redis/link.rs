//! A connection to a server: made on first use, shared by everybody, and made anew when it broke.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value,
    aio::{MultiplexedConnection, SendError},
};
use tokio::sync::watch;

use super::{
    dial::{self, Way},
    errors,
    progress::Progress,
    replicas,
};
use crate::{Error, ErrorKind, Result, Timestamp};

/// A connection on which nothing was answered for so long is given up. The cache waits less for a single answer; this
/// is for a server whose machine is gone without a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same where another server may have taken over, as sentinels would know.
const PATIENCE_WITH_SENTINELS: Duration = Duration::from_secs(1);

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
    since: Timestamp,
    broken: Arc<AtomicBool>,
    silence: Silence,
    patience: Duration,
    /// Which scripts the server has learnt by this connection, a bit for each.
    scripts: AtomicU8,
    /// Of a primary, how far it has come.
    progress: Progress,
    /// Of a replica, which primary's history it was seen to follow, by the number of the connection there.
    follows: AtomicU64,
    /// Of a replica, until when it is left alone, in milliseconds.
    rests_until: AtomicU64,
}

impl Live {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The scripts that the server has learnt, as far as is known.
    pub(super) fn scripts(&self) -> &AtomicU8 {
        &self.scripts
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn follows(&self, primary: u64) -> bool {
        self.follows.load(Ordering::Acquire) == primary
    }

    pub(super) fn follow(&self, primary: u64) {
        self.follows.store(primary, Ordering::Release);
    }

    /// Leaves the server alone for a while.
    pub(super) fn rest(&self, time: Duration) {
        let until = Timestamp::now() + time;
        self.rests_until.store(until.as_millis(), Ordering::Release);
    }

    pub(super) fn is_resting(&self, now: Timestamp) -> bool {
        let until = Timestamp::from_millis(self.rests_until.load(Ordering::Acquire));
        // No rest is as long as a clock may be set back.
        now < until && until.since(now) <= LONGEST_PAUSE
    }

    /// Has another connection made in place of this one, which may lead to another server; not again and again.
    pub(super) fn leave(&self) {
        if Timestamp::now().since(self.since) > LONGEST_PAUSE {
            self.broken.store(true, Ordering::Release);
        }
    }

    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value> {
        self.silence.begin(Timestamp::now());
        let answer = self.connection.clone().send_packed_command(command).await;
        self.answered(answer).inspect(|answer| self.notice(answer))
    }

    /// The answers to all commands of a pipeline, errors of the server among them.
    pub(super) async fn ask_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.silence.begin(Timestamp::now());
        let count = pipeline.len();
        let mut connection = self.connection.clone();
        let answers = connection.send_packed_commands(pipeline, 0, count).await;
        let answers = self.answered(answers)?;
        answers.iter().for_each(|answer| self.notice(answer));
        Ok(answers)
    }

    /// A server that became a replica is left for the one that took over, which another connection may lead to. One that
    /// was a replica from the beginning is not left again and again.
    fn notice(&self, answer: &Value) {
        if let Value::ServerError(error) = answer
            && matches!(error.code(), "READONLY" | "MASTERDOWN")
        {
            self.leave();
        }
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
        !self.broken.load(Ordering::Acquire) && !self.silence.is(self.patience)
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

    fn is(&self, time: Duration) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            since => self.lasted(time, Timestamp::from_millis(since), Timestamp::now()),
        }
    }

    fn lasted(&self, time: Duration, since: Timestamp, now: Timestamp) -> bool {
        if now < since {
            // Somebody set the clock back; the silence is counted from now on.
            self.0.store(now.as_millis(), Ordering::Relaxed);
        }
        now.since(since) >= time
    }
}

pub(super) type Outcome = Result<Arc<Live>>;

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
    way: Way,
    connect_timeout: Duration,
    state: Mutex<State>,
    /// Where the numbers of connections come from.
    numbers: Arc<AtomicU64>,
}

impl Link {
    /// `numbers` is shared by all links of a backend, so that no two of its connections have one number.
    pub(super) fn new(way: Way, connect_timeout: Duration, numbers: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Inner {
            way,
            connect_timeout,
            state: Mutex::new(State::Apart(None)),
            numbers,
        }))
    }

    /// The connection, if there is one that works.
    pub(super) fn usable(&self) -> Option<Arc<Live>> {
        match &*self.0.state() {
            State::Live(live) if live.is_usable() => Some(live.clone()),
            _ => None,
        }
    }

    /// The same; one that does not work is made anew meanwhile, and nobody waits for it.
    pub(super) fn at_once(&self) -> Option<Arc<Live>> {
        match self.0.step() {
            Step::Done(outcome) => outcome.ok(),
            Step::Wait(attempt) => {
                if attempt.has_changed().is_err() && attempt.borrow().is_none() {
                    self.0.abandon(&attempt);
                }
                None
            }
        }
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        match *self.0.state() {
            State::Closed => Err(closed()),
            _ => Ok(()),
        }
    }

    /// Whether a question to the server has been waiting for its answer for so long.
    pub(super) fn is_silent_for(&self, time: Duration) -> bool {
        matches!(&*self.0.state(), State::Live(live) if live.silence.is(time))
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
        let connected = tokio::time::timeout(self.connect_timeout, self.greet()).await;
        connected.map_err(|_| errors::slow_to_connect(self.way.has_tls()))?
    }

    async fn greet(&self) -> Outcome {
        let client = self.way.client().await?;
        let broken = Arc::new(AtomicBool::new(false));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(PATIENCE))
            .set_pipeline_buffer_size(QUEUE);
        let by_resp3 = config.clone().set_push_sender(notice(broken.clone()));
        let connection = client.get_multiplexed_async_connection_with_config(&by_resp3);
        let connection = match connection.await {
            Err(error) if errors::has_no_resp3(&error, &client) => {
                let client = dial::by_resp2(&client)?;
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await
            }
            connection => connection,
        };
        let live = Live {
            connection: connection
                .map_err(|error| errors::connecting(&error, self.way.has_tls()))?,
            number: self.numbers.fetch_add(1, Ordering::SeqCst) + 1,
            since: Timestamp::now(),
            broken,
            silence: Silence::default(),
            patience: match &self.way {
                Way::Server(_) => PATIENCE,
                Way::Sentinels(sentinels) if !sentinels.of_replicas => PATIENCE_WITH_SENTINELS,
                Way::Sentinels(_) | Way::Replica { .. } => replicas::PATIENCE,
            },
            scripts: AtomicU8::new(0),
            progress: Progress::default(),
            follows: AtomicU64::new(0),
            rests_until: AtomicU64::new(0),
        };
        // For whoever looks at the server's list of clients. A user who may not say it is no worse off.
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg("larder");
        live.ask(&name).await?;
        if let Way::Replica {
            of_cluster: true, ..
        } = self.way
            && let Value::ServerError(error) = live.ask(&redis::cmd("READONLY")).await?
        {
            return Err(errors::refused(&error));
        }
        Ok(Arc::new(live))
    }
}

pub(super) fn closed() -> Error {
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
        assert!(!silence.lasted(PATIENCE, begun, begun + PATIENCE / 2));
        assert!(silence.lasted(PATIENCE, begun, begun + PATIENCE));
        let back = Timestamp::from_secs(10_000 - HOUR.as_secs());
        assert!(!silence.lasted(PATIENCE, begun, back));
        let since = Timestamp::from_millis(silence.0.load(Ordering::Relaxed));
        assert!(silence.lasted(PATIENCE, since, back + PATIENCE));
    }
}
