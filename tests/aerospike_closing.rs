//! That closing gives everything back. By itself, because it counts what the whole process has open.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_servers;

use std::{
    fs,
    time::{Duration, Instant},
};

use larder::{Aerospike, Backend, Key};
use support_servers::Aerospike as Server;
use tokio::runtime::Handle;

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until there are no more open files and tasks than these.
async fn back_to(files: usize, tasks_before: usize) {
    let end = Instant::now() + Duration::from_secs(10);
    while open_files() > files || tasks() > tasks_before {
        let (open, alive) = (open_files(), tasks());
        assert!(
            Instant::now() < end,
            "{open} files, not {files}; {alive} tasks, not {tasks_before}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn used(server: &Server) -> Aerospike {
    let backend = Aerospike::builder(server.hosts()).connect().await.unwrap();
    let key = Key::new("closing", None, "name");
    let reads = (0..32).map(|_| backend.get(&key));
    for read in futures_util::future::join_all(reads).await {
        read.unwrap();
    }
    backend
}

#[tokio::test]
async fn closing_and_dropping_leave_no_socket_and_no_task() {
    let Some(server) = Server::find() else { return };
    let (files, alive) = (open_files(), tasks());
    for _ in 0..5 {
        let backend = used(&server).await;
        assert!(open_files() > files && tasks() > alive);
        backend.close().await.unwrap();
        backend.close().await.unwrap();
        assert_eq!(tasks(), alive, "the client's task goes on");
    }
    back_to(files, alive).await;

    // Without a close, because programs forget it.
    drop(used(&server).await);
    back_to(files, alive).await;

    // What could be reached and yet is of no use.
    let missing = Aerospike::builder(server.hosts()).namespace("elsewhere");
    assert!(missing.connect().await.is_err());
    back_to(files, alive).await;
}
