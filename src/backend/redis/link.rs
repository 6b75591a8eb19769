//! A connection to a server: made on first use, shared by everybody, and made anew when it broke.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisResult, Value,
    aio::{MultiplexedConnection, SendError},
};

use super::{
    ability,
    dial::{self, Way},
    errors,
    progress::Progress,
    replicas,
};
use crate::{
    Result, Timestamp,
    backend::single::{Connection, LONGEST_PAUSE, Single},
};

/// A connection on which nothing was answered for so long is given up. The cache waits less for a single answer; this
/// is for a server whose machine is gone without a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same where another server may have taken over, as sentinels would know.
const PATIENCE_WITH_SENTINELS: Duration = Duration::from_secs(1);

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
    has_hashes: bool,
}

impl Live {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether the server can keep buckets in hashes.
    pub(super) fn has_hashes(&self) -> bool {
        self.has_hashes
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
}

impl Connection for Live {
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

/// The way to the server.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    way: Way,
    connect_timeout: Duration,
    single: Arc<Single<Live>>,
    /// Where the numbers of connections come from.
    numbers: Arc<AtomicU64>,
    /// What the last connection found out of the server.
    has_hashes: AtomicBool,
}

impl Link {
    /// `numbers` is shared by all links of a backend, so that no two of its connections have one number.
    pub(super) fn new(way: Way, connect_timeout: Duration, numbers: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Inner {
            way,
            connect_timeout,
            single: Single::new(),
            numbers,
            has_hashes: AtomicBool::new(false),
        }))
    }

    /// The connection, if there is one that works.
    pub(super) fn usable(&self) -> Option<Arc<Live>> {
        self.0.single.current().filter(|live| live.is_usable())
    }

    /// The same; one that does not work is made anew meanwhile, and nobody waits for it.
    pub(super) fn at_once(&self) -> Option<Arc<Live>> {
        self.0.single.at_once(|| self.connect())
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        self.0.single.open()
    }

    /// Whether the server, as it was when it was last connected to, can keep buckets in hashes.
    pub(super) fn has_hashes(&self) -> bool {
        self.0.has_hashes.load(Ordering::Acquire)
    }

    /// Whether a question to the server has been waiting for its answer for so long.
    pub(super) fn is_silent_for(&self, time: Duration) -> bool {
        let current = self.0.single.current();
        current.is_some_and(|live| live.silence.is(time))
    }

    /// Gives the connection back, and makes no other.
    pub(super) fn close(&self) {
        self.0.single.close();
    }

    /// The connection, made now if there is none that works.
    pub(super) async fn live(&self) -> Result<Arc<Live>> {
        self.0.single.live(|| self.connect()).await
    }

    fn connect(&self) -> impl Future<Output = Result<Arc<Live>>> + Send + 'static {
        let inner = self.0.clone();
        async move { inner.connect().await }
    }
}

impl Inner {
    async fn connect(&self) -> Result<Arc<Live>> {
        let connected = tokio::time::timeout(self.connect_timeout, self.greet()).await;
        connected.map_err(|_| errors::slow_to_connect(self.way.has_tls()))?
    }

    async fn greet(&self) -> Result<Arc<Live>> {
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
        let mut live = Live {
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
            has_hashes: false,
        };
        let mut greeting = Pipeline::new();
        // For whoever looks at the server's list of clients. A user who may not say it is no worse off.
        greeting.cmd("CLIENT").arg("SETNAME").arg("larder");
        ability::ask(&mut greeting);
        let answers = live.ask_all(&greeting).await?;
        live.has_hashes = ability::told(answers.get(1..).unwrap_or_default());
        let has_hashes = &self.has_hashes;
        has_hashes.store(live.has_hashes, Ordering::Release);
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
        write!(f, "Link({})", self.0.single.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

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
