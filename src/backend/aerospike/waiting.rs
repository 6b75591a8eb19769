//! Waiting for others to be done with a record.

use std::time::Duration;

use super::{super::pauses::Pauses, error::is_busy};

/// Asks again, with growing pauses, while too many others write to the same record. The server has done nothing then.
pub(super) async fn patiently<T, F>(limit: Duration, ask: impl Fn() -> F) -> aerospike::Result<T>
where
    F: Future<Output = aerospike::Result<T>>,
{
    let mut pauses = Pauses::new(limit);
    loop {
        match ask().await {
            Err(error) if is_busy(&error) && pauses.next().await => {}
            answer => return answer,
        }
    }
}
