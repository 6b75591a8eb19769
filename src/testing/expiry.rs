//! When entries end, and how `touch` moves that.

use std::time::Duration;

use super::{
    Behaviour,
    stage::{LIFE, STORES, Stage, TOUCH, entry},
};
use crate::{CodecId, Entry, Peek, PutMode, Result, Timestamp};

pub(super) const ALL: &[Behaviour] = behaviours![
    &[STORES] =>
        an_entry_lives_to_its_end_and_not_beyond
        an_expired_entry_is_absent_to_every_verb
        an_entry_without_an_end_stays
        an_end_in_the_past_leaves_nothing
        the_shortest_ttl_is_not_forever
        a_ttl_of_forty_days_is_not_a_date
        the_longest_ttl_is_accepted
        a_put_forgets_the_end_of_what_it_replaces
        an_expired_key_can_be_put_again
        peek_goes_by_the_time_it_is_given;
    &[STORES, TOUCH] =>
        touch_lengthens_a_life
        touch_shortens_a_life
        touch_takes_an_end_away
        touch_gives_an_end
        touch_changes_nothing_but_the_end
        touch_of_nothing_is_false
        touch_takes_the_longest_ttl;
];

const FORTY_DAYS: Duration = Duration::from_secs(40 * 24 * 60 * 60);

async fn an_entry_lives_to_its_end_and_not_beyond(stage: Stage) -> Result<()> {
    let key = stage.key("ending");
    let ttl = stage.brief();
    let end = stage.keep_for(&key, ttl).await?;
    loop {
        let asked = Timestamp::now();
        let live = stage.get(&key).await?.is_some();
        let answered = Timestamp::now();
        if !live {
            let missing = end.since(answered);
            assert_eq!(missing, Duration::ZERO, "it ended too early");
            return Ok(());
        }
        assert!(
            asked < end,
            "it was returned {:?} after its end",
            asked.since(end)
        );
        tokio::time::sleep(ttl / 20).await;
    }
}

async fn an_expired_entry_is_absent_to_every_verb(stage: Stage) -> Result<()> {
    let key = stage.key("expired");
    stage.keep_for(&key, stage.brief()).await?;
    stage.outlive(stage.brief()).await;
    assert!(!matches!(
        stage.peek(key.as_key_ref(), Timestamp::now()),
        Peek::Hit(_)
    ));
    assert!(stage.get(&key).await?.is_none());
    assert!(stage.get_many(std::slice::from_ref(&key)).await?[0].is_none());
    assert!(!stage.contains(&key).await?);
    if stage.capabilities().touch {
        assert!(!stage.touch(&key, Some(LIFE)).await?);
    }
    assert!(!stage.delete(&key).await?);
    Ok(())
}

async fn an_entry_without_an_end_stays(stage: Stage) -> Result<()> {
    let key = stage.key("endless");
    let entry = Entry::new(CodecId::RAW, "value", Timestamp::now());
    assert!(stage.put(&key, entry, PutMode::Always).await?);
    stage.outlive(stage.brief()).await;
    let read = stage.get(&key).await?.expect("nothing has ended it");
    assert_eq!(read.expires_at(), None);
    // Nothing else would remove it from a server.
    stage.delete(&key).await?;
    Ok(())
}

/// A negative or zero TTL means "no expiry" to several servers, and nothing at all to others.
async fn an_end_in_the_past_leaves_nothing(stage: Stage) -> Result<()> {
    for ago in [0, 1, 1_500, 3_600_000] {
        let key = stage.key(format!("past {ago}"));
        stage.keep(&key, "live").await?;
        let end = Timestamp::from_millis(Timestamp::now().as_millis() - ago);
        let past = entry("past").with_expires_at(Some(end));
        stage.put(&key, past, PutMode::Always).await?;
        assert_eq!(stage.read(&key).await?, None, "it ended {ago} ms ago");
    }
    Ok(())
}

async fn the_shortest_ttl_is_not_forever(stage: Stage) -> Result<()> {
    let key = stage.key("shortest");
    for ttl in [Duration::from_nanos(1), Duration::from_millis(1)] {
        stage.keep_for(&key, ttl).await?;
        stage.outlive(ttl).await;
        assert_eq!(stage.read(&key).await?, None);
        assert!(!stage.contains(&key).await?);
    }
    Ok(())
}

/// Memcached takes more than thirty days for a point in time, in 1970.
async fn a_ttl_of_forty_days_is_not_a_date(stage: Stage) -> Result<()> {
    let key = stage.key("forty days");
    let end = stage.keep_for(&key, FORTY_DAYS).await?;
    let read = stage.get(&key).await?.expect("it ends in forty days");
    assert_eq!(read.expires_at(), Some(end));
    stage.delete(&key).await?;
    Ok(())
}

async fn the_longest_ttl_is_accepted(stage: Stage) -> Result<()> {
    let key = stage.key("longest");
    stage.keep_for(&key, Duration::MAX).await?;
    assert!(stage.contains(&key).await?);
    assert!(stage.get(&key).await?.is_some());
    stage.delete(&key).await?;
    Ok(())
}

async fn a_put_forgets_the_end_of_what_it_replaces(stage: Stage) -> Result<()> {
    let key = stage.key("replaced");
    stage.keep_for(&key, stage.brief()).await?;
    stage.keep(&key, "second").await?;
    stage.outlive(stage.brief()).await;
    assert_eq!(stage.read(&key).await?, Some("second".into()));
    Ok(())
}

async fn an_expired_key_can_be_put_again(stage: Stage) -> Result<()> {
    let key = stage.key("again");
    stage.keep_for(&key, stage.brief()).await?;
    stage.outlive(stage.brief()).await;
    stage.keep(&key, "second").await?;
    assert_eq!(stage.read(&key).await?, Some("second".into()));
    Ok(())
}

async fn peek_goes_by_the_time_it_is_given(stage: Stage) -> Result<()> {
    let key = stage.key("peeked");
    let end = stage.keep_for(&key, LIFE).await?;
    let last = Timestamp::from_millis(end.as_millis() - 1);
    let peek = stage.peek(key.as_key_ref(), last);
    assert!(!matches!(peek, Peek::Miss), "a miss before its end");
    let peek = stage.peek(key.as_key_ref(), end);
    assert!(!matches!(peek, Peek::Hit(_)), "a hit at its end");
    Ok(())
}

async fn touch_lengthens_a_life(stage: Stage) -> Result<()> {
    let key = stage.key("lengthened");
    stage.keep_for(&key, stage.brief()).await?;
    assert!(stage.touch(&key, Some(LIFE)).await?);
    stage.outlive(stage.brief()).await;
    assert!(stage.get(&key).await?.is_some());
    assert!(stage.contains(&key).await?);
    Ok(())
}

async fn touch_shortens_a_life(stage: Stage) -> Result<()> {
    let key = stage.key("shortened");
    stage.keep(&key, "value").await?;
    assert!(stage.touch(&key, Some(stage.brief())).await?);
    assert!(stage.get(&key).await?.is_some());
    stage.outlive(stage.brief()).await;
    assert!(stage.get(&key).await?.is_none());
    assert!(!stage.contains(&key).await?);
    Ok(())
}

async fn touch_takes_an_end_away(stage: Stage) -> Result<()> {
    let key = stage.key("unending");
    stage.keep_for(&key, stage.brief()).await?;
    assert!(stage.touch(&key, None).await?);
    stage.outlive(stage.brief()).await;
    let read = stage.get(&key).await?.expect("its end was taken away");
    assert_eq!(read.expires_at(), None);
    stage.delete(&key).await?;
    Ok(())
}

async fn touch_gives_an_end(stage: Stage) -> Result<()> {
    let key = stage.key("ending");
    let entry = Entry::new(CodecId::RAW, "value", Timestamp::now());
    stage.put(&key, entry, PutMode::Always).await?;
    assert!(stage.touch(&key, Some(stage.brief())).await?);
    stage.outlive(stage.brief()).await;
    assert!(stage.get(&key).await?.is_none());
    Ok(())
}

async fn touch_changes_nothing_but_the_end(stage: Stage) -> Result<()> {
    let key = stage.key("touched");
    let created_at = Timestamp::from_millis(Timestamp::now().as_millis() - 5_000);
    let entry =
        Entry::new(CodecId::JSON, "[1,2]", created_at).with_ttl(Some(LIFE), Timestamp::now());
    stage.put(&key, entry, PutMode::Always).await?;
    let before = Timestamp::now();
    assert!(stage.touch(&key, Some(LIFE * 2)).await?);
    let after = Timestamp::now();

    let read = stage.get(&key).await?.expect("it was touched");
    assert_eq!(read.payload(), "[1,2]");
    assert_eq!(read.codec(), CodecId::JSON);
    assert_eq!(read.created_at(), created_at);
    let end = read.expires_at().expect("the touch gave it an end");
    let ends = before + LIFE * 2..=after + LIFE * 2;
    assert!(ends.contains(&end), "{end:?} is not within {ends:?}");
    Ok(())
}

async fn touch_of_nothing_is_false(stage: Stage) -> Result<()> {
    let key = stage.key("absent");
    for ttl in [None, Some(LIFE)] {
        assert!(!stage.touch(&key, ttl).await?);
        assert_eq!(stage.read(&key).await?, None);
    }
    Ok(())
}

async fn touch_takes_the_longest_ttl(stage: Stage) -> Result<()> {
    let key = stage.key("longest");
    stage.keep(&key, "value").await?;
    for ttl in [FORTY_DAYS, Duration::MAX] {
        assert!(stage.touch(&key, Some(ttl)).await?);
        assert!(stage.get(&key).await?.is_some(), "{ttl:?}");
    }
    stage.delete(&key).await?;
    Ok(())
}
