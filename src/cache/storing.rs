//! Whether what runs now makes something that may be stored.
//!
//! A backend with replicas may answer a reader with what was true a moment ago. What is made of that and stored would
//! stay for longer than the moment, so loaders and handlers whose answers may be stored read what is true.

use std::future::Future;

use super::waiting::Place;

tokio::task_local! {
    static STORING: ();
}

/// Runs a handler whose answer may be stored, or that changes something.
pub(crate) async fn storing<F: Future>(handler: F) -> F::Output {
    STORING.scope((), handler).await
}

/// Whether the current task is within such a handler, or within a loader.
pub(super) fn is_storing() -> bool {
    STORING.try_with(|()| ()).is_ok() || Place::is_inside_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn handlers_and_loaders_store_and_nothing_else_does() {
        assert!(!is_storing());
        assert!(storing(async { is_storing() }).await);
        let place = Place::current();
        assert!(place.lead(vec![1], async { is_storing() }).await);
        assert!(!is_storing());
    }
}
