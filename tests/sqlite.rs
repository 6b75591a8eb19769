//! The SQLite backend on real files: the suite, and what is special to it.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;
mod support_sql;

use std::{
    env, fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use larder::{
    Backend, Cache, ErrorKind, PutMode, Result, Settings, Sqlite, SqliteBuilder,
    sql::Dialect,
    testing::{Outcome, behaviours},
};
use sqlx::{Connection, Row, SqliteConnection};
use support_sql::{Database, Setup, entry, keep, key, on_database, passes, put, read};
use tempfile::TempDir;

fn folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("larder-sqlite-").tempdir().unwrap()
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("cache.sqlite3")
}

/// The sweeper is not to be what a test is about.
fn at(path: &Path) -> SqliteBuilder {
    Sqlite::builder(path).sweep_interval(None)
}

/// A connection past larder.
async fn raw(path: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", path.display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// A file in a folder of its own.
struct File(TempDir);

impl File {
    async fn new() -> Option<Self> {
        Some(Self(folder()))
    }
}

impl Database for File {
    type Backend = Sqlite;

    const DIALECT: Dialect = Dialect::Sqlite;

    async fn connect(&self, setup: &Setup) -> Result<Sqlite> {
        let builder = Sqlite::builder(file(&self.0))
            .table(&setup.table)
            .migrate(setup.migrate)
            .sweep_interval(setup.sweep);
        builder.connect().await
    }

    async fn sql(&self, statement: &str) -> Option<i64> {
        let path = file(&self.0);
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        let rows = sqlx::query(statement)
            .fetch_all(&mut raw(&path).await)
            .await
            .unwrap();
        rows.first()?.try_get(0).ok()
    }
}

on_database!(File::new());

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_pools_on_one_file_pass() {
    let folder = folder();
    passes("sqlite", "two pools", async || {
        at(&file(&folder)).connect().await.unwrap()
    })
    .await;
}

/// The clients of a process may share a pool, and with it its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clones_of_one_backend_pass() {
    let folder = folder();
    let outlives = "entries_outlive_the_client_that_put_them";
    for behaviour in behaviours().filter(|it| it.name() != outlives) {
        let path = folder.path().join(behaviour.name());
        let sqlite = at(&path).connect().await.unwrap();
        let outcome = behaviour.run(&|| async { sqlite.clone() }).await;
        let failed = matches!(outcome, Outcome::Failed(_));
        assert!(!failed, "{behaviour:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn entries_survive_a_restart() {
    let folder = folder();
    let path = file(&folder);
    for _ in 0..3 {
        let cache = Cache::new(at(&path).connect().await.unwrap());
        let visits = cache.increment("visits", 1).await.unwrap();
        if visits > 1 {
            assert_eq!(cache.get("name").await.unwrap(), Some("value".to_owned()));
        }
        cache.put("name", "value").await.unwrap();
        // It is not closed.
    }
    let cache = Cache::new(at(&path).connect().await.unwrap());
    assert_eq!(cache.increment("visits", 1).await.unwrap(), 4);
}

#[tokio::test]
async fn its_files_are_for_their_owner_alone() {
    let folder = folder();
    let sqlite = at(&file(&folder)).connect().await.unwrap();
    keep(&sqlite, "key", "value").await;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name());
    }
    names.sort();
    let expected = ["cache.sqlite3", "cache.sqlite3-shm", "cache.sqlite3-wal"];
    assert_eq!(names, expected);
    sqlite.close().await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// What a child process does, where this binary is started as one.
const CHILD: &str = "LARDER_TEST_SQLITE_CHILD";

/// Starts a test of this binary as a process of its own, within `wrapper` if it takes one.
fn child(wrapper: &[&str], test: &str, path: &Path) -> Command {
    let program = env::current_exe().unwrap();
    let mut words = wrapper.iter().map(|word| word.to_string());
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_count_on_one_file() {
    const TIMES: i64 = 300;
    let count = async |path: &Path| {
        let sqlite = at(path).connect().await.unwrap();
        for _ in 0..TIMES {
            sqlite.increment(&key("n"), 1, None).await.unwrap();
        }
        sqlite
    };
    if let Some(path) = env::var_os(CHILD) {
        count(Path::new(&path)).await;
        return;
    }
    let folder = folder();
    let path = file(&folder);
    let test = "two_processes_count_on_one_file";
    let mut children: Vec<_> = (0..2)
        .map(|_| {
            child(&[], test, &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let sqlite = count(&path).await;
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let sum = sqlite.increment(&key("n"), 0, None).await.unwrap();
    assert_eq!(sum, 3 * TIMES);
}

/// A file as it is after a process was killed in the middle of writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_leaves_a_sound_file() {
    let test = "a_process_that_is_killed_leaves_a_sound_file";
    if let Some(path) = env::var_os(CHILD) {
        let sqlite = at(Path::new(&path)).connect().await.unwrap();
        for number in 0_u64.. {
            let new = entry(number.to_string());
            assert!(put(&sqlite, "number", new, PutMode::Always).await);
            println!("{number}");
            std::io::stdout().flush().unwrap();
        }
    }
    let folder = folder();
    let path = file(&folder);
    for _ in 0..3 {
        let told = folder.path().join("told");
        let output = fs::File::create(&told).unwrap();
        let mut child = child(&[], test, &path).stdout(output).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let told = fs::read_to_string(&told).unwrap();
        let last = told
            .lines()
            .filter_map(|line| u64::from_str(line).ok())
            .next_back();
        let last = last.expect("it put something in that time");
        let sqlite = at(&path).connect().await.unwrap();
        let found: u64 = read(&sqlite, "number").await.unwrap().parse().unwrap();
        assert!(
            (last..=last + 2).contains(&found),
            "{last} was told, {found} was found"
        );
        sqlite.close().await.unwrap();
    }
}

async fn fails(path: &Path, kind: ErrorKind, message: &str) {
    let error = at(path).connect().await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(error.backend(), Some("sqlite"));
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_says_so() {
    let folder = folder();
    fails(
        Path::new(""),
        ErrorKind::Settings,
        "CACHE_SQLITE_PATH is not set",
    )
    .await;
    let nowhere = folder.path().join("none").join("cache.sqlite3");
    fails(&nowhere, ErrorKind::Unavailable, "its folder has to exist").await;
    fails(folder.path(), ErrorKind::Unavailable, "cannot be opened").await;

    // Lazily it is found out later, and it is found when it is there.
    let sqlite = at(&nowhere).connect_lazily().unwrap();
    let error = sqlite.get(&key("key")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    fs::create_dir(nowhere.parent().unwrap()).unwrap();
    keep(&sqlite, "key", "value").await;
}

#[tokio::test]
async fn a_file_of_something_else_is_not_touched() {
    let folder = folder();
    let path = file(&folder);
    fs::write(&path, "a letter to somebody\n".repeat(100)).unwrap();
    fails(&path, ErrorKind::Backend, "no SQLite database").await;
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "a letter to somebody\n".repeat(100));
}

#[tokio::test]
async fn a_damaged_file_says_so() {
    let folder = folder();
    let path = file(&folder);
    let sqlite = at(&path).connect().await.unwrap();
    for number in 0..200 {
        let name = number.to_string();
        let new = entry(vec![7; 2_000]);
        assert!(put(&sqlite, &name, new, PutMode::Always).await);
    }
    sqlite.close().await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // All but the first pages, which hold the names of the tables.
    for byte in &mut bytes[6 * 4096..] {
        *byte = 0xA5;
    }
    fs::write(&path, bytes).unwrap();
    let sqlite = at(&path).connect_lazily().unwrap();
    let mut errors = Vec::new();
    for number in 0..200 {
        if let Err(error) = sqlite.get(&key(number.to_string())).await {
            errors.push(error);
        }
    }
    let error = errors.first().expect("most of the file is damaged");
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[tokio::test]
async fn a_file_that_can_only_be_read_says_so() {
    let folder = folder();
    let path = file(&folder);
    at(&path).connect().await.unwrap().close().await.unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    // Who may do everything may write all the same, unless the file system itself does not let anybody.
    let mut is_immutable = false;
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        let mut chattr = Command::new("chattr");
        let status = chattr.arg("+i").arg(&path).stderr(Stdio::null()).status();
        is_immutable = status.is_ok_and(|status| status.success());
    }
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        eprintln!("not tested: this user can write to every file here");
        return;
    }
    let sqlite = at(&path).connect_lazily().unwrap();
    let error = sqlite
        .put(&key("key"), entry("value"), PutMode::Always)
        .await
        .unwrap_err();
    if is_immutable {
        let status = Command::new("chattr").arg("-i").arg(&path).status();
        assert!(status.unwrap().success());
    }
    assert_eq!(error.kind(), ErrorKind::Backend, "{error}");
    assert!(error.to_string().contains("can only be read"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_elsewhere_is_waited_for_and_hinders_no_reader() {
    let folder = folder();
    let path = file(&folder);
    let patience = Duration::from_millis(300);
    let sqlite = at(&path).busy_timeout(patience).connect().await.unwrap();
    keep(&sqlite, "key", "value").await;
    let mut other = raw(&path).await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let begun = Instant::now();
    let error = sqlite
        .put(&key("key"), entry("new"), PutMode::Always)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("CACHE_SQLITE_BUSY_TIMEOUT"),
        "{error}"
    );
    assert!(begun.elapsed() >= patience);
    assert_eq!(read(&sqlite, "key").await.as_deref(), Some("value"));
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    keep(&sqlite, "key", "new").await;
}

/// On a disk of its own: a file system in memory, in a namespace that this process may mount it in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_keeps_nothing_that_is_not_true_any_more() {
    let test = "a_full_disk_keeps_nothing_that_is_not_true_any_more";
    if let Some(path) = env::var_os(CHILD) {
        return fill_the_disk(Path::new(&path)).await;
    }
    let folder = folder();
    let disk = folder.path().display().to_string();
    let mount = format!("mount -t tmpfs -o size=24m none '{disk}' && exec \"$0\" \"$@\"");
    let wrapper = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &mount,
    ];
    let may = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("not tested: no file system may be mounted here");
        return;
    }
    let output = child(&wrapper, test, &file(&folder)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

async fn fill_the_disk(path: &Path) {
    let hole = path.with_file_name("hole");
    fs::write(&hole, vec![1; 8 << 20]).unwrap();
    let sqlite = at(path).connect().await.unwrap();
    keep(&sqlite, "replaced", "old").await;
    keep(&sqlite, "kept", "value").await;
    let cache = Cache::builder(at(path).connect().await.unwrap())
        .namespace("cache")
        .build();
    for number in 0..20 {
        cache.put(number.to_string(), "old").await.unwrap();
    }
    let mut refused = None;
    for number in 0..1_000 {
        let large = entry(vec![7; 50_000]);
        let key = key(number.to_string());
        if let Err(error) = sqlite.put(&key, large, PutMode::Always).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.expect("fifty megabytes do not fit sixteen");
    let says = |error: &larder::Error| {
        let text = format!("{error:?}");
        assert!(
            text.contains("disk") && text.contains("CACHE_SQLITE_PATH"),
            "{text}"
        );
    };
    says(&error);
    let error = sqlite
        .put(&key("replaced"), entry(vec![7; 400_000]), PutMode::Always)
        .await
        .unwrap_err();
    says(&error);
    match error.kind() {
        // It was removed instead.
        ErrorKind::TooLarge => assert_eq!(read(&sqlite, "replaced").await, None),
        // A cache takes that for an outage, and reads nothing until it could be removed.
        kind => assert_eq!(kind, ErrorKind::Backend),
    }
    assert_eq!(read(&sqlite, "kept").await.as_deref(), Some("value"));
    // A cache that could not note a deletion reads nothing until it could.
    for number in 0..20 {
        let name = number.to_string();
        drop(cache.delete(&name).await);
        let found = cache.get::<String>(&name).await;
        assert!(!matches!(found, Ok(Some(_))), "{found:?}");
    }
    drop(cache.clear().await);

    // Room for others is room for it.
    fs::remove_file(hole).unwrap();
    for number in 0..1_000 {
        drop(sqlite.delete(&key(number.to_string())).await);
    }
    while sqlite.remove_expired(100).await.unwrap_or_default() > 0 {}
    let later = sqlite
        .put(&key("replaced"), entry("new"), PutMode::Always)
        .await;
    assert!(later.unwrap());
    assert_eq!(read(&sqlite, "replaced").await.as_deref(), Some("new"));
    let begun = Instant::now();
    while cache.stats().pending_invalidations > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for number in 0..20 {
        let found = cache.get::<String>(number.to_string()).await;
        assert_eq!(found.unwrap(), None);
    }
    cache.put("0", "new").await.unwrap();
}

#[tokio::test]
async fn a_cache_begins_as_its_settings_say() {
    let folder = folder();
    let path = file(&folder).display().to_string();
    let pairs = [
        ("CACHE_TYPE", "sqlite"),
        ("CACHE_SQLITE_PATH", path.as_str()),
        ("CACHE_SQLITE_TABLE", "shop_cache"),
        ("CACHE_SQLITE_POOL_SIZE", "2"),
        ("CACHE_SQLITE_SWEEP_INTERVAL", "off"),
    ];
    let cache = Cache::from_settings(&Settings::from_pairs(pairs).unwrap())
        .await
        .unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
    let mut other = raw(Path::new(&path)).await;
    let rows = sqlx::query("SELECT COUNT(*) FROM shop_cache").fetch_one(&mut other);
    assert_eq!(rows.await.unwrap().get::<i64, _>(0), 1);

    let nowhere = [("CACHE_TYPE", "sqlite")];
    let settings = Settings::from_pairs(nowhere).unwrap();
    let error = Cache::from_settings(&settings).await.unwrap_err();
    assert!(error.to_string().contains("CACHE_SQLITE_PATH"), "{error}");
}
