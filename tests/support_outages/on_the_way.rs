//! What can happen between a cache and its server, the same for all of them.

/// A test for each thing that can happen on the way. `$through` starts a server and a cache behind a proxy, does the link to
/// it for a while under load, and reports; `None` where there is no server. `survived` of the calling module judges.
#[allow(unused_macros, reason = "not every file of tests has the same ways")]
macro_rules! on_the_way {
    ($through:ident, slow: $slow:literal, slower_than_the_time_out: $slower:literal) => {
        mod on_the_way {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn refusing() {
                if let Some(report) = $through("refusing", Link::Refuse).await {
                    survived(&report);
                    was_open(&report);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn accepting_and_silent() {
                if let Some(report) = $through("accepting, silent", Link::Stall).await {
                    survived(&report);
                    was_open(&report);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn reset() {
                if let Some(report) = $through("reset (RST)", Link::Reset).await {
                    survived(&report);
                    was_open(&report);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cut_in_the_middle_of_answers() {
                let fault = "cut after 1000 bytes, again and again";
                if let Some(report) = $through(fault, Link::CutAfter(1_000)).await {
                    survived(&report);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn slow_but_within_the_time_out() {
                let fault = concat!("slow: ", $slow, " ms each way");
                let link = Link::Delay(Duration::from_millis($slow));
                if let Some(report) = $through(fault, link).await {
                    survived(&report);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn slower_than_the_time_out() {
                let fault = concat!("slow: ", $slower, " ms each way");
                let link = Link::Delay(Duration::from_millis($slower));
                if let Some(report) = $through(fault, link).await {
                    survived(&report);
                    was_open(&report);
                }
            }
        }
    };
}

pub(crate) use on_the_way;
