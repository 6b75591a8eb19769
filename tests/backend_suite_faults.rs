//! The behaviour suite on backends that have one fault each: it finds every one of them.

use std::{collections::VecDeque, future::pending, sync::Mutex, time::Duration};

use async_trait::async_trait;
use larder::{
    Backend, Capabilities, CodecId, Entry, Error, ErrorKind, Key, KeyRef, Memory, Peek, PutMode,
    Result, Timestamp, Usage,
    testing::{self, Outcome, behaviours},
};
use tokio::sync::Semaphore;

/// A memory backend that does one thing wrong.
struct Faulty {
    memory: Memory,
    fault: Fault,
    permits: Semaphore,
    answers: Mutex<VecDeque<Option<Entry>>>,
    late: Mutex<Option<Entry>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ForgetsTheCodec,
    ForgetsTheEnd,
    TakesThePastForForever,
    CutsKeys,
    IgnoresCase,
    LeavesOutWhatIsAbsent,
    LooksBeforeItPuts,
    LooksBeforeItCounts,
    ClearsEverything,
    ClearsNothing,
    TakesAPrefixForAKey,
    AnswersWhenClosed,
    CountsValues,
    TouchesNothing,
    TakesTheAnswerOfAnother,
    KeepsAPermitWhenDropped,
    DeletesBeforeItPuts,
    WritesBeforeItAnswers,
    TakesEmptyForAbsent,
    TakesOneModeForAll,
    StopsShortOfItsLimit,
    EndsNeighboursCounters,
    ReadsLate,
    LeavesBuckets,
    EndsNeighbouringBuckets,
    SaysThatItEndedBuckets,
    IsUnavailable,
    Hangs,
    Panics,
}

use Fault::*;

/// What a backend says it takes that stops a little short of that.
const LIMIT: usize = 100_000;

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self {
            memory: Memory::new(),
            fault,
            permits: Semaphore::new(100),
            answers: Mutex::default(),
            late: Mutex::default(),
        }
    }

    fn key(&self, key: &Key) -> Key {
        let mut name = key.name().to_vec();
        match self.fault {
            CutsKeys => name.truncate(250),
            IgnoresCase => name.make_ascii_lowercase(),
            _ => return key.clone(),
        }
        Key::new(&key.namespace(), key.bucket().as_deref(), name)
    }

    fn entry(&self, entry: Entry) -> Entry {
        match self.fault {
            ForgetsTheCodec => {
                let end = entry.expires_at();
                Entry::new(CodecId::RAW, entry.payload().clone(), entry.created_at())
                    .with_expires_at(end)
            }
            ForgetsTheEnd => entry.with_expires_at(None),
            TakesThePastForForever if entry.is_expired(Timestamp::now()) => {
                entry.with_expires_at(None)
            }
            _ => entry,
        }
    }
}

#[async_trait]
impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.memory.capabilities();
        if self.fault == StopsShortOfItsLimit {
            can.max_value_len = Some(LIMIT);
        }
        can.field_expiry &= self.fault != SaysThatItEndedBuckets;
        can
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        match self.fault {
            IsUnavailable => Err(Error::new(ErrorKind::Unavailable, "no answer")),
            Hangs => pending().await,
            Panics => panic!("a fault of the backend"),
            TakesTheAnswerOfAnother => {
                let answer = self.memory.get(key).await?;
                self.answers.lock().unwrap().push_back(answer);
                tokio::task::yield_now().await;
                Ok(self.answers.lock().unwrap().pop_front().unwrap())
            }
            KeepsAPermitWhenDropped => {
                self.permits.acquire().await.unwrap().forget();
                tokio::task::yield_now().await;
                self.permits.add_permits(1);
                self.memory.get(key).await
            }
            _ => self.memory.get(&self.key(key)).await,
        }
    }

    async fn get_relaxed(&self, key: &Key) -> Result<Option<Entry>> {
        let found = self.get(key).await?;
        match self.fault {
            // What was there at the last question.
            ReadsLate => Ok(std::mem::replace(&mut *self.late.lock().unwrap(), found)),
            _ => Ok(found),
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut read = self.memory.get_many(&keys).await?;
        if self.fault == LeavesOutWhatIsAbsent {
            read.retain(Option::is_some);
        }
        if self.fault == TakesEmptyForAbsent {
            let is_empty = |entry: &Entry| entry.payload().is_empty();
            read.iter_mut()
                .for_each(|read| drop(read.take_if(|it| is_empty(it))));
        }
        Ok(read)
    }

    async fn put(&self, key: &Key, entry: Entry, mode: PutMode) -> Result<bool> {
        let (key, entry) = (self.key(key), self.entry(entry));
        if (self.fault, mode) == (LooksBeforeItPuts, PutMode::IfAbsent) {
            if self.memory.contains(&key).await? {
                return Ok(false);
            }
            tokio::task::yield_now().await;
            return self.memory.put(&key, entry, PutMode::Always).await;
        }
        match self.fault {
            DeletesBeforeItPuts => {
                self.memory.delete(&key).await?;
                tokio::task::yield_now().await;
            }
            WritesBeforeItAnswers if mode == PutMode::IfAbsent => {
                let is_absent = !self.memory.contains(&key).await?;
                self.memory.put(&key, entry, PutMode::Always).await?;
                tokio::task::yield_now().await;
                return Ok(is_absent);
            }
            StopsShortOfItsLimit if entry.payload().len() > LIMIT - 100 => {
                self.memory.delete(&key).await?;
                return Ok(false);
            }
            _ => {}
        }
        self.memory.put(&key, entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let entries = entries.into_iter();
        let entries = entries.map(|(key, entry, mode)| (self.key(&key), self.entry(entry), mode));
        let mut entries: Vec<_> = entries.collect();
        if self.fault == TakesOneModeForAll {
            entries
                .iter_mut()
                .for_each(|(.., mode)| *mode = PutMode::Always);
        }
        self.memory.put_many(entries).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.memory.contains(&self.key(key)).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.memory.delete(&self.key(key)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<Vec<bool>> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        self.memory.delete_many(&keys).await
    }

    async fn delete_if(&self, key: &Key, version: u64) -> Result<bool> {
        self.memory.delete_if(&self.key(key), version).await
    }

    async fn touch(&self, key: &Key, ttl: Option<Duration>) -> Result<bool> {
        if self.fault == TouchesNothing {
            return self.memory.contains(key).await;
        }
        self.memory.touch(&self.key(key), ttl).await
    }

    async fn increment(&self, key: &Key, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let key = self.key(key);
        match (self.fault, self.memory.get(&key).await?) {
            (LooksBeforeItCounts, old) => {
                tokio::task::yield_now().await;
                let old = old.map(|entry| entry.as_counter()).transpose()?;
                let sum = old.unwrap_or(0).saturating_add(delta);
                let now = Timestamp::now();
                let counter = Entry::counter(sum, now).with_ttl(ttl, now);
                self.memory.put(&key, counter, PutMode::Always).await?;
                Ok(sum)
            }
            (CountsValues, Some(old)) if old.codec() != CodecId::COUNTER => Ok(delta),
            _ => self.memory.increment(&key, delta, ttl).await,
        }
    }

    async fn clear(&self, namespace: &str) -> Result<()> {
        match self.fault {
            ClearsNothing => Ok(()),
            // What a search for keys by a prefix does to the next namespace.
            ClearsEverything => {
                for end in ["", "x", ":"] {
                    self.memory.clear(&format!("{namespace}{end}")).await?;
                }
                Ok(())
            }
            EndsNeighboursCounters => {
                self.memory.clear(&format!("{namespace}x")).await?;
                self.memory.clear(namespace).await
            }
            _ => self.memory.clear(namespace).await,
        }
    }

    async fn clear_bucket(&self, bucket: &Key) -> Result<bool> {
        match self.fault {
            LeavesBuckets | SaysThatItEndedBuckets => Ok(true),
            EndsNeighbouringBuckets => {
                let head = bucket.bucket().unwrap_or_default();
                let prefix = format!("{}/{head}", bucket.namespace());
                for key in ["", "s:1", "%3A:1", ":a"] {
                    let key = [prefix.as_str(), key].concat();
                    let (head, name) = key.split_once(':').unwrap_or((&key, ""));
                    let bucket = head
                        .split_once('/')
                        .map(|(_, bucket)| bucket.replace("%3A", ":"));
                    let key = Key::new(&key[..key.find('/').unwrap()], bucket.as_deref(), name);
                    self.memory.delete(&key).await?;
                }
                self.memory.clear_bucket(bucket).await
            }
            _ => self.memory.clear_bucket(bucket).await,
        }
    }

    async fn delete_prefix(&self, prefix: &Key) -> Result<usize> {
        match self.fault {
            TakesAPrefixForAKey => Ok(usize::from(self.memory.delete(prefix).await?)),
            _ => self.memory.delete_prefix(&self.key(prefix)).await,
        }
    }

    async fn remove_expired(&self, limit: usize) -> Result<usize> {
        self.memory.remove_expired(limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.memory.ping().await
    }

    async fn close(&self) -> Result<()> {
        match self.fault {
            AnswersWhenClosed => Ok(()),
            _ => self.memory.close().await,
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.memory.usage()
    }
}

async fn outcome(behaviour: &str, fault: Fault) -> Outcome {
    let start = || async move { Faulty::new(fault) };
    let behaviour = behaviours().find(|it| it.name() == behaviour);
    behaviour
        .expect("there is such a behaviour")
        .run(&start)
        .await
}

#[tokio::test(start_paused = true)]
async fn every_fault_is_found_by_the_behaviour_that_is_about_it() {
    let faults = [
        (ForgetsTheCodec, "a_value_reads_as_it_was_put"),
        (ForgetsTheCodec, "every_codec_number_is_kept"),
        (ForgetsTheEnd, "an_expired_entry_is_absent_to_every_verb"),
        (ForgetsTheEnd, "an_entry_lives_to_its_end_and_not_beyond"),
        (TakesThePastForForever, "an_end_in_the_past_leaves_nothing"),
        (CutsKeys, "long_names_that_differ_in_one_byte_do_not_meet"),
        (IgnoresCase, "names_that_look_alike_do_not_meet"),
        (LeavesOutWhatIsAbsent, "get_many_answers_key_by_key"),
        (LeavesOutWhatIsAbsent, "get_many_relaxed_answers_key_by_key"),
        (ReadsLate, "a_relaxed_read_sees_what_this_client_did"),
        (LooksBeforeItPuts, "concurrent_if_absent_has_one_winner"),
        (LooksBeforeItCounts, "concurrent_increments_are_all_counted"),
        (LooksBeforeItCounts, "a_counter_keeps_its_first_end"),
        (
            LooksBeforeItCounts,
            "an_overflow_leaves_the_counter_as_it_was",
        ),
        (ClearsEverything, "clear_leaves_every_other_namespace"),
        (
            TakesAPrefixForAKey,
            "delete_prefix_ends_what_begins_with_it",
        ),
        (ClearsNothing, "clear_ends_its_whole_namespace"),
        (AnswersWhenClosed, "a_closed_backend_says_so_on_every_verb"),
        (CountsValues, "a_value_of_digits_does_not_count"),
        (TouchesNothing, "touch_lengthens_a_life"),
        (TouchesNothing, "touch_shortens_a_life"),
        (TouchesNothing, "a_dropped_touch_leaves_the_value"),
        (
            TakesTheAnswerOfAnother,
            "a_dropped_get_leaves_the_backend_usable",
        ),
        (
            KeepsAPermitWhenDropped,
            "hundreds_of_dropped_futures_use_nothing_up",
        ),
        (
            DeletesBeforeItPuts,
            "a_dropped_put_leaves_the_backend_usable",
        ),
        (
            WritesBeforeItAnswers,
            "a_dropped_if_absent_is_there_for_all_or_for_nobody",
        ),
        (
            ClearsNothing,
            "a_dropped_clear_can_be_repeated_and_leaves_neighbours",
        ),
        (
            ClearsEverything,
            "a_dropped_clear_can_be_repeated_and_leaves_neighbours",
        ),
        (TakesEmptyForAbsent, "an_empty_value_is_one_to_every_verb"),
        (
            TakesOneModeForAll,
            "put_many_holds_each_entry_to_its_own_mode",
        ),
        (
            StopsShortOfItsLimit,
            "a_value_of_the_greatest_length_is_kept",
        ),
        (EndsNeighboursCounters, "clear_leaves_a_neighbours_counter"),
        (
            IgnoresCase,
            "deleting_one_name_leaves_those_that_look_alike",
        ),
        (
            LeavesOutWhatIsAbsent,
            "many_keys_may_be_of_many_namespaces_and_buckets",
        ),
        (AnswersWhenClosed, "a_dropped_close_can_be_finished"),
        (LeavesBuckets, "clear_bucket_ends_its_whole_bucket"),
        (LeavesBuckets, "a_counter_of_a_cleared_bucket_starts_anew"),
        (
            EndsNeighbouringBuckets,
            "clear_bucket_leaves_everything_else",
        ),
        (
            SaysThatItEndedBuckets,
            "a_bucket_that_is_not_kept_together_stays",
        ),
    ];
    for (fault, behaviour) in faults {
        let outcome = outcome(behaviour, fault).await;
        let found = matches!(outcome, Outcome::Failed(_));
        assert!(
            found,
            "{behaviour} of a backend that {fault:?}: {outcome:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_reason_says_what_went_wrong() {
    let read = "an_absent_key_reads_as_nothing";
    let failed = |reason: &str| Outcome::Failed(reason.into());
    assert_eq!(outcome(read, IsUnavailable).await, failed("no answer"));
    assert_eq!(
        outcome(read, Panics).await,
        failed("a fault of the backend")
    );
    assert_eq!(
        outcome(read, Hangs).await,
        failed("it hangs: no end within 60.01s")
    );
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "every_codec_number_is_kept")]
async fn the_suite_panics_with_every_failure_by_name() {
    testing::suite(|| async { Faulty::new(ForgetsTheCodec) }).await;
}
