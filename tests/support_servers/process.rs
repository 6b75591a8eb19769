//! Processes that never outlive the tests.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command},
    sync::{LazyLock, mpsc},
    thread,
};

/// Whether a program is on the `PATH`.
pub(super) fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A command whose process the kernel kills when the tests are killed, where there is `setpriv` to ask for it.
pub(super) fn mortal(program: &str) -> Command {
    if !installed("setpriv") {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Whether the tests run as the user who may do everything, as whom no database wants to run.
pub(super) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines.any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// A process and what it has started, as far as the system tells.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    for child in children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
    {
        family.extend(self::family(child));
    }
    family
}

/// Sends a signal to processes of which some may have ended.
pub(super) fn signal_all(name: &str, pids: &[u32]) {
    for pid in pids {
        let kill = format!("kill -{name} {pid} 2>/dev/null");
        let _ = Command::new("sh").args(["-c", &kill]).status().unwrap();
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The signal comes when the *thread* that started a process ends, and that of a test ends early. So one thread starts
/// all of them, and lives as long as the tests do.
static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, incoming) = mpsc::channel::<Order>();
    let work = move || {
        for (mut command, answer) in incoming {
            drop(answer.send(command.spawn()));
        }
    };
    let starter = thread::Builder::new().name("servers".to_owned());
    drop(starter.spawn(work).unwrap());
    orders
});

pub(super) fn spawn(command: Command) -> Child {
    let (answer, child) = mpsc::channel();
    STARTER.send((command, answer)).unwrap();
    child.recv().unwrap().expect("the program is installed")
}

/// Sends a signal. The shell has `kill` built in, and small images have no other.
pub(super) fn signal(name: &str, pid: u32) {
    let kill = format!("kill -{name} {pid}");
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success(), "{kill}: {status}");
}

/// A port that nobody listens on.
///
/// It is below those that the kernel gives to whoever asks for any: while its server is down nobody else is given it, and
/// no client gets it as its own port and is connected to itself.
pub(super) fn free_port() -> u16 {
    let random = RandomState::new();
    (0u64..)
        .map(|attempt| 20_000 + (random.hash_one(attempt) % 12_000) as u16)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("it tries for ever")
}

/// One that nobody listens on either 10000 further on, where nodes of a cluster talk to each other; both are below those
/// that the kernel gives to whoever asks.
pub(super) fn free_port_of_cluster() -> u16 {
    let random = RandomState::new();
    (0u64..)
        .map(|attempt| 20_000 + (random.hash_one(attempt) % 2_500) as u16)
        .find(|port| {
            [*port, *port + 10_000]
                .iter()
                .all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        })
        .expect("it tries for ever")
}
