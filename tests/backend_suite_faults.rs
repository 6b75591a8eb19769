//! The behaviour suite on backends that have one fault each: it finds every one of them.

use std::{future::pending, time::Duration};

use async_trait::async_trait;
use larder::{
    Backend, Capabilities, CodecId, Entry, Error, ErrorKind, Key, KeyRef, Memory, Peek, PutMode,
    Result, Timestamp, Usage,
    testing::{self, Outcome, behaviours},
};

/// A memory backend that does one thing wrong.
struct Faulty {
    memory: Memory,
    fault: Fault,
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
    IsUnavailable,
    Hangs,
    Panics,
}

use Fault::*;

impl Faulty {
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
        self.memory.capabilities()
    }

    fn peek(&self, _: KeyRef<'_>, _: Timestamp) -> Peek {
        Peek::Ask
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>> {
        match self.fault {
            IsUnavailable => Err(Error::new(ErrorKind::Unavailable, "no answer")),
            Hangs => pending().await,
            Panics => panic!("a fault of the backend"),
            _ => self.memory.get(&self.key(key)).await,
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut read = self.memory.get_many(&keys).await?;
        if self.fault == LeavesOutWhatIsAbsent {
            read.retain(Option::is_some);
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
        self.memory.put(&key, entry, mode).await
    }

    async fn put_many(&self, entries: Vec<(Key, Entry, PutMode)>) -> Result<Vec<bool>> {
        let entries = entries.into_iter();
        let entries = entries.map(|(key, entry, mode)| (self.key(&key), self.entry(entry), mode));
        self.memory.put_many(entries.collect()).await
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
            _ => self.memory.clear(namespace).await,
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
    let start = || async move {
        Faulty {
            memory: Memory::new(),
            fault,
        }
    };
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
    testing::suite(|| async {
        Faulty {
            memory: Memory::new(),
            fault: ForgetsTheCodec,
        }
    })
    .await;
}
