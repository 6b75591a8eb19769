//! Many tasks on one key at one moment, half of them on another client where entries are shared.

use bytes::Bytes;

use super::{
    Behaviour,
    stage::{CLEAR, COUNTERS, IF_ABSENT, LIFE, STORES, Stage, TOUCH, VERSIONS, entry, together},
};
use crate::{PutMode, Result};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        concurrent_puts_do_not_mix;
    &[STORES, COUNTERS] =>
        concurrent_increments_are_all_counted;
    &[STORES, IF_ABSENT] =>
        concurrent_if_absent_has_one_winner;
    &[STORES, VERSIONS] =>
        concurrent_if_version_has_one_winner
        concurrent_delete_if_has_one_winner;
    &[STORES, TOUCH, CLEAR] =>
        concurrent_touch_and_clear_leave_nothing;
];

const TASKS: usize = 64;
const ROUNDS: usize = 20;

/// How many of the tasks' answers are `true`.
fn winners(answers: Vec<Result<bool>>) -> Result<usize> {
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(answers.into_iter().filter(|&won| won).count())
}

async fn concurrent_puts_do_not_mix(stage: Stage) -> Result<()> {
    let key = stage.key("mixed");
    let value = |number: usize| Bytes::from(vec![number as u8; 1_000 + number * 100]);
    let reads = together(TASKS, |number| {
        let (stage, key) = (stage.clone(), key.clone());
        async move {
            let client = stage.client(number);
            client
                .put(&key, entry(value(number)), PutMode::Always)
                .await?;
            client.get(&key).await
        }
    });
    for read in reads.await {
        let read = read?.expect("every task put before it read");
        let number = read.payload().first().copied().unwrap_or_default();
        assert_eq!(read.payload(), &value(number.into()));
    }
    Ok(())
}

async fn concurrent_increments_are_all_counted(stage: Stage) -> Result<()> {
    let key = stage.key("counter");
    let sums = together(TASKS, |number| {
        let (stage, key) = (stage.clone(), key.clone());
        async move {
            let mut sums = Vec::new();
            for _ in 0..ROUNDS {
                sums.push(stage.client(number).increment(&key, 1, Some(LIFE)).await?);
            }
            Ok(sums)
        }
    });
    let sums = sums.await.into_iter().collect::<Result<Vec<_>>>()?;
    let mut sums = sums.concat();
    sums.sort_unstable();
    let expected: Vec<_> = (1..).take(TASKS * ROUNDS).collect();
    assert!(sums == expected, "a sum was given twice, or left out");
    Ok(())
}

async fn concurrent_if_absent_has_one_winner(stage: Stage) -> Result<()> {
    for round in 0..ROUNDS {
        let key = stage.key(round.to_string());
        let answers = together(TASKS, |number| {
            let (stage, key) = (stage.clone(), key.clone());
            async move {
                let client = stage.client(number);
                client.put(&key, entry("value"), PutMode::IfAbsent).await
            }
        });
        assert_eq!(winners(answers.await)?, 1, "winners");
    }
    Ok(())
}

async fn concurrent_if_version_has_one_winner(stage: Stage) -> Result<()> {
    let key = stage.key("version");
    stage.keep(&key, "first").await?;
    for round in 0..ROUNDS {
        let mode = PutMode::IfVersion(stage.version(&key).await?);
        let answers = together(TASKS, |number| {
            let (stage, key) = (stage.clone(), key.clone());
            let value = format!("{round} {number}");
            async move { stage.client(number).put(&key, entry(value), mode).await }
        });
        assert_eq!(winners(answers.await)?, 1, "winners");
    }
    Ok(())
}

async fn concurrent_delete_if_has_one_winner(stage: Stage) -> Result<()> {
    let key = stage.key("version");
    for round in 0..ROUNDS {
        stage.keep(&key, round.to_string()).await?;
        let version = stage.version(&key).await?;
        let answers = together(TASKS, |number| {
            let (stage, key) = (stage.clone(), key.clone());
            async move { stage.client(number).delete_if(&key, version).await }
        });
        assert_eq!(winners(answers.await)?, 1, "winners");
    }
    Ok(())
}

/// A touch that reads, is overtaken by the clear and writes back what it read would bring the entry back.
async fn concurrent_touch_and_clear_leave_nothing(stage: Stage) -> Result<()> {
    let keys = stage.keys(ROUNDS);
    for key in &keys {
        stage.keep(key, "value").await?;
        let done = together(8, |number| {
            let (stage, key) = (stage.clone(), key.clone());
            async move {
                if number == 4 {
                    return stage.clear(stage.namespace()).await;
                }
                for _ in 0..ROUNDS {
                    stage.client(number).touch(&key, Some(LIFE)).await?;
                }
                Ok(())
            }
        });
        done.await.into_iter().collect::<Result<()>>()?;
        assert_eq!(stage.read(key).await?, None);
    }
    Ok(())
}
