//! What the backends on SQL servers do beside the suite, tried on each product by the file of its own: ways in, refusals,
//! and the connections.

use std::{
    fmt::Debug,
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use larder::{
    Backend, Cache, Error, ErrorKind, Migrate, PutMode, Result, Settings,
    sql::{self, Dialect},
};

use super::{Database, Setup, entry, keep, key, lease, passes, put, read};
use crate::support_servers::Certificates;

/// Nothing that is secret in these tests is without it.
const SECRET: &str = "s3cret";

/// On a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a server lets its user in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    Password,
    Tls,
    Certificate,
}

/// A server, and how to get to it.
pub(crate) trait Server: Sized + Sync {
    type Builder: Builder;

    const DIALECT: Dialect;

    /// What `CACHE_TYPE` calls the backend.
    const BACKEND: &'static str;

    /// A URL of some other product.
    const FOREIGN_URL: &'static str;

    /// What the error says to who may not make tables.
    const RIGHTS: &'static str;

    /// Counts the connections of the user `app`.
    const CONNECTIONS: &'static str;

    /// Its name and version.
    fn product(&self) -> String;

    /// The URL for `name:password@`, or for nothing, with or without the name of the database that there is.
    fn url_as(&self, credentials: &str) -> String;

    /// The same URL for another database.
    fn url_of(&self, database: &str) -> String;

    /// The URL of its socket.
    fn socket_url(&self) -> String;

    fn certificates(&self) -> &Certificates;

    /// Whether it has TLS for who asks, and takes no password without.
    fn has_tls(&self) -> bool;

    fn kill(&self);

    /// Ends the connections of the user `app`.
    fn end_connections(&self);

    /// Waits for so many seconds, as a statement.
    fn pause(seconds: u32) -> String;

    /// Carries out statements, past larder.
    fn run(&self, statements: &str) -> String;

    /// Makes a user who may do these to those tables, and nothing else.
    fn grant(&self, user: &str, password: &str, rights: &str, tables: &[&str]);

    fn url(&self) -> String {
        self.url_as("app:s3cret@")
    }

    fn setting(name: &str) -> String {
        format!("CACHE_{}_{name}", Self::BACKEND.to_ascii_uppercase())
    }

    fn ca(&self) -> String {
        self.certificates().ca().display().to_string()
    }

    /// The plainest way in that the server has.
    fn at(&self, url: String) -> Self::Builder {
        let builder = Self::Builder::of(url).sweep_interval(None);
        match self.has_tls() {
            true => builder.tls(true).ca(self.ca()),
            false => builder,
        }
    }

    fn open(&self) -> Self::Builder {
        self.at(self.url())
    }
}

impl<S: Server> Database for S {
    type Backend = <S::Builder as Builder>::Backend;

    const DIALECT: Dialect = S::DIALECT;

    async fn connect(&self, setup: &Setup) -> Result<Self::Backend> {
        let builder = self
            .open()
            .table(&setup.table)
            .migrate(setup.migrate)
            .sweep_interval(setup.sweep);
        builder.connect().await
    }

    async fn sql(&self, statement: &str) -> Option<i64> {
        let answer = self.run(statement);
        answer.lines().next()?.parse().ok()
    }
}

/// What the builders of both backends have.
pub(crate) trait Builder: Clone + Debug + Sized {
    type Backend: Backend + Clone + Debug;

    fn of(url: String) -> Self;
    fn table(self, name: &str) -> Self;
    fn migrate(self, migrate: Migrate) -> Self;
    fn pool_size(self, connections: usize) -> Self;
    fn sweep_interval(self, interval: Option<Duration>) -> Self;
    fn password(self, password: &str) -> Self;
    fn tls(self, on: bool) -> Self;
    fn ca(self, pem_or_path: String) -> Self;
    fn client_certificate(self, certificate: String, key: String) -> Self;
    fn connect_timeout(self, timeout: Duration) -> Self;
    fn connect(self) -> impl Future<Output = Result<Self::Backend>> + Send;
    fn connect_lazily(self) -> Result<Self::Backend>;
}

/// The methods that `$builder` has of its own.
#[allow(unused_macros, reason = "there are none for a file")]
macro_rules! builder {
    ($builder:ty, $backend:ty) => {
        impl support_sql::servers::Builder for $builder {
            type Backend = $backend;

            fn of(url: String) -> Self {
                <$backend>::builder(url)
            }

            fn table(self, name: &str) -> Self {
                self.table(name)
            }

            fn migrate(self, migrate: larder::Migrate) -> Self {
                self.migrate(migrate)
            }

            fn pool_size(self, connections: usize) -> Self {
                self.pool_size(connections)
            }

            fn sweep_interval(self, interval: Option<std::time::Duration>) -> Self {
                self.sweep_interval(interval)
            }

            fn password(self, password: &str) -> Self {
                self.password(password)
            }

            fn tls(self, on: bool) -> Self {
                self.tls(on)
            }

            fn ca(self, pem_or_path: String) -> Self {
                self.ca(pem_or_path)
            }

            fn client_certificate(self, certificate: String, key: String) -> Self {
                self.client_certificate(certificate, key)
            }

            fn connect_timeout(self, timeout: std::time::Duration) -> Self {
                self.connect_timeout(timeout)
            }

            async fn connect(self) -> larder::Result<$backend> {
                self.connect().await
            }

            fn connect_lazily(self) -> larder::Result<$backend> {
                self.connect_lazily()
            }
        }
    };
}

#[allow(unused_imports, reason = "there are none for a file")]
pub(crate) use builder;

/// A test of each behaviour of a server, which `$start` starts with a demand, or does not where there is none.
#[allow(unused_macros, reason = "there are none for a file")]
macro_rules! on_server {
    ($start:expr) => {
        support_sql::on_database!(async { $start(support_sql::servers::Demand::Password) });

        support_sql::servers::on_server!($start =>
            a_plain_server_passes
            tls_passes
            tls_with_a_certificate_of_the_client_passes
            a_user_with_the_four_rights_passes
            a_unix_socket_passes
            the_server_is_away_or_refuses
            the_certificate_is_not_the_right_one
            what_is_set_is_wrong
            a_cache_connects_as_its_settings_say
            many_calls_share_few_connections
            a_connection_that_was_cut_while_idle_costs_no_error
            who_holds_a_row_holds_up_nobody_else
        );
    };
    ($start:expr => $($behaviour:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $behaviour() {
            support_sql::servers::$behaviour($start).await;
        })+
    };
}

#[allow(unused_imports, reason = "there are none for a file")]
pub(crate) use on_server;

/// The whole suite, in one of the modes of a server.
pub(crate) async fn passes_on<S: Server>(server: &S, mode: &str, builder: S::Builder) {
    passes(&server.product(), mode, async || {
        let builder = builder.clone().sweep_interval(None);
        builder.connect_timeout(PATIENCE).connect().await.unwrap()
    })
    .await;
}

pub(crate) async fn a_plain_server_passes<S: Server>(start: impl Fn(Demand) -> Option<S>) {
    let Some(server) = start(Demand::Password) else {
        return;
    };
    if server.has_tls() {
        // The password goes by TLS once, and the server remembers it for those who come without.
        server.open().connect().await.unwrap();
    }
    passes_on(&server, "plain", S::Builder::of(server.url())).await;
}

pub(crate) async fn tls_passes<S: Server>(start: impl Fn(Demand) -> Option<S>) {
    let Some(server) = start(Demand::Tls) else {
        return;
    };
    let builder = S::Builder::of(server.url()).tls(true).ca(server.ca());
    passes_on(&server, "TLS", builder).await;
}

fn pem(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

pub(crate) async fn tls_with_a_certificate_of_the_client_passes<S: Server>(
    start: impl Fn(Demand) -> Option<S>,
) {
    let Some(server) = start(Demand::Certificate) else {
        return;
    };
    let certificates = server.certificates();
    let builder = S::Builder::of(server.url()).tls(true);
    let builder = builder.ca(pem(&certificates.ca()));
    let builder = builder.client_certificate(
        pem(&certificates.client_certificate()),
        pem(&certificates.client_key()),
    );
    passes_on(&server, "mTLS", builder).await;
}

/// A user who may not make tables, on those that somebody else made.
pub(crate) async fn a_user_with_the_four_rights_passes<S: Server>(
    start: impl Fn(Demand) -> Option<S>,
) {
    let Some(server) = start(Demand::Password) else {
        return;
    };
    let tables = ["larder", "larder_namespaces", "larder_meta"];
    server.run(&sql::schema(S::DIALECT, tables[0]).unwrap());
    let password = "s3cret-shop";
    server.grant("shop", password, "SELECT, INSERT, UPDATE, DELETE", &tables);
    let builder = || server.at(server.url_as("shop@")).password(password);
    let checked = builder().migrate(Migrate::Check);
    passes_on(&server, "four rights", checked).await;
    // Nor does it take more where the tables are there already.
    keep(&builder().connect().await.unwrap(), "key", "value").await;
    fails::<S>(builder().table("shop_cache"), ErrorKind::Backend, S::RIGHTS).await;
}

pub(crate) async fn a_unix_socket_passes<S: Server>(start: impl Fn(Demand) -> Option<S>) {
    let Some(server) = start(Demand::Password) else {
        return;
    };
    passes_on(&server, "Unix socket", server.at(server.socket_url())).await;
}

async fn fails<S: Server>(builder: S::Builder, kind: ErrorKind, message: &str) {
    assert!(!format!("{builder:?}").contains(SECRET));
    let builder = builder.connect_timeout(Duration::from_secs(2));
    says::<S>(&builder.connect().await.unwrap_err(), kind, message);
}

fn says<S: Server>(error: &Error, kind: ErrorKind, message: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(message), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(error.backend(), Some(S::BACKEND));
}

pub(crate) async fn the_server_is_away_or_refuses<S: Server>(start: impl Fn(Demand) -> Option<S>) {
    let Some(server) = start(Demand::Password) else {
        return;
    };
    let wrong = server.at(server.url_as("app:s3cret-wrong@"));
    fails::<S>(wrong, ErrorKind::Backend, &S::setting("URL")).await;
    let wrong = server.open().password("s3cret-wrong");
    fails::<S>(wrong, ErrorKind::Backend, "with this password").await;
    let nobody = server.at(server.url_as("nobody:s3cret@"));
    fails::<S>(nobody, ErrorKind::Backend, "does not let this user in").await;
    let nowhere = server.at(server.url_of("nowhere"));
    fails::<S>(nowhere, ErrorKind::Backend, &S::setting("")).await;
    if S::DIALECT == Dialect::MySql {
        let nothing = server.at(server.url_of(""));
        fails::<S>(nothing, ErrorKind::Backend, "names no database").await;
    }
    let secure = S::Builder::of(server.url()).tls(true);
    let setting = S::setting(if server.has_tls() { "CA_FILE" } else { "TLS" });
    fails::<S>(secure, ErrorKind::Unavailable, &setting).await;
    server.kill();
    let begun = Instant::now();
    fails::<S>(
        server.open(),
        ErrorKind::Unavailable,
        "is the server running",
    )
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

pub(crate) async fn the_certificate_is_not_the_right_one<S: Server>(
    start: impl Fn(Demand) -> Option<S>,
) {
    let (Some(server), Some(other)) = (start(Demand::Certificate), start(Demand::Tls)) else {
        return;
    };
    let of = |url: String| S::Builder::of(url);
    let refused = match other.has_tls() {
        true if S::DIALECT == Dialect::MySql && S::product(&other).starts_with("mysql") => {
            "CACHE_MYSQL_TLS=true"
        }
        _ => "does not let this user in",
    };
    fails::<S>(of(other.url()), ErrorKind::Backend, refused).await;
    let unknown = of(other.url()).tls(true);
    let file = S::setting("CA_FILE");
    fails::<S>(unknown, ErrorKind::Unavailable, &file).await;
    let wrong = of(other.url()).tls(true).ca(server.ca());
    fails::<S>(wrong, ErrorKind::Unavailable, &file).await;
    // An address of this machine that the certificate is not for.
    let url = other.url().replace("127.0.0.1", "127.0.0.2");
    let elsewhere = of(url.clone()).tls(true).ca(other.ca());
    fails::<S>(elsewhere, ErrorKind::Unavailable, "another host").await;
    let mode = if S::DIALECT == Dialect::MySql {
        "ssl-mode"
    } else {
        "sslmode"
    };
    // Who asks for the authority only, is not told of another host.
    let authority = of(format!("{url}?{mode}=verify-ca")).ca(other.ca());
    authority.connect().await.unwrap();
    let required = of(format!("{}?{mode}=require", other.url()));
    fails::<S>(required, ErrorKind::Unavailable, &file).await;
    let without = of(server.url()).tls(true).ca(server.ca());
    fails::<S>(without, ErrorKind::Backend, "does not let this user in").await;
}

pub(crate) async fn what_is_set_is_wrong<S: Server>(_: impl Fn(Demand) -> Option<S>) {
    let lazily = |builder: S::Builder| builder.connect_lazily().unwrap_err();
    let scheme = S::BACKEND;
    let wrong_port = format!("{scheme}://user:s3cret@host:port/db");
    for url in ["", SECRET, S::FOREIGN_URL, &wrong_port] {
        let error = lazily(S::Builder::of(url.to_owned()));
        says::<S>(&error, ErrorKind::Settings, &S::setting("URL"));
    }
    let url = format!("{scheme}://user:s3cret@127.0.0.1:1/db");
    let of = || S::Builder::of(url.clone());
    for mode in ["sslmode", "ssl-mode"] {
        let error = lazily(S::Builder::of(format!("{url}?{mode}=prefer")));
        says::<S>(&error, ErrorKind::Settings, "say require");
    }
    let error = lazily(of().ca("/none.pem".to_owned()));
    says::<S>(
        &error,
        ErrorKind::Settings,
        &format!("{}=true", S::setting("TLS")),
    );
    let error = lazily(of().tls(true).ca("/none.pem".to_owned()));
    let message = format!("{} names /none.pem", S::setting("CA_FILE"));
    says::<S>(&error, ErrorKind::Settings, &message);
    let error = lazily(of().table("Shop"));
    says::<S>(&error, ErrorKind::Settings, &S::setting("TABLE"));
}

pub(crate) async fn a_cache_connects_as_its_settings_say<S: Server>(
    start: impl Fn(Demand) -> Option<S>,
) {
    let Some(server) = start(Demand::Tls) else {
        return;
    };
    let pairs = [
        ("URL", server.url_as("app@")),
        ("PASSWORD", SECRET.to_owned()),
        ("TLS", "true".to_owned()),
        ("CA_FILE", server.ca()),
        ("TABLE", "shop_cache".to_owned()),
        ("POOL_SIZE", "3".to_owned()),
    ];
    let mut pairs = pairs
        .map(|(name, value)| (S::setting(name), value))
        .to_vec();
    pairs.push(("CACHE_TYPE".to_owned(), S::BACKEND.to_owned()));
    let pairs = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = Settings::from_pairs(pairs).unwrap();
    assert!(!format!("{settings:?}").contains(SECRET));
    let cache = Cache::from_settings(&settings).await.unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
    assert_eq!(server.run("SELECT COUNT(*) FROM shop_cache"), "1");
}

/// Calls wait for a connection, and no more are made than may be.
pub(crate) async fn many_calls_share_few_connections<S: Server>(start: impl Fn(Demand) -> Option<S>)
where
    <S::Builder as Builder>::Backend: 'static,
{
    let Some(server) = start(Demand::Password) else {
        return;
    };
    let backend = server.open().pool_size(3).connect().await.unwrap();
    let calls = (0..200).map(|number| {
        let backend = backend.clone();
        tokio::spawn(async move { keep(&backend, &number.to_string(), "value").await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(server.run(S::CONNECTIONS), "3");
    backend.close().await.unwrap();
    gone(&server).await;
}

/// A server notices a little later that a client left.
async fn gone(server: &impl Server) {
    let begun = Instant::now();
    while count(server) != "0" {
        assert!(begun.elapsed() < Duration::from_secs(5), "they stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn count<S: Server>(server: &S) -> String {
    server.run(S::CONNECTIONS)
}

pub(crate) async fn a_connection_that_was_cut_while_idle_costs_no_error<S: Server>(
    start: impl Fn(Demand) -> Option<S>,
) {
    let Some(server) = start(Demand::Password) else {
        return;
    };
    let backend = server.open().connect().await.unwrap();
    for _ in 0..20 {
        keep(&backend, "key", "value").await;
        server.end_connections();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(read(&backend, "key").await.as_deref(), Some("value"));
    }
}

/// As a process does that was stopped in the middle of a transaction: the server does not notice.
pub(crate) async fn who_holds_a_row_holds_up_nobody_else<S: Server>(
    start: impl Fn(Demand) -> Option<S>,
) {
    let Some(server) = start(Demand::Password) else {
        return;
    };
    let backend = server.open().table("held").connect().await.unwrap();
    for name in ["one", "two", "three"] {
        assert!(!backend.delete(&key(name)).await.unwrap());
    }
    let least = match S::DIALECT {
        Dialect::Postgres => "ctid = (SELECT MIN(ctid) FROM held)",
        _ => "number = 0 ORDER BY generation, id LIMIT 1",
    };
    let holds = format!(
        "BEGIN; UPDATE held SET kind = 0 + kind, number = 5 WHERE {least}; {}; ROLLBACK",
        S::pause(6)
    );
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| server.run(&holds));
        let others = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let begun = Instant::now();
            assert_eq!(backend.remove_expired(100).await.unwrap(), 2);
            let lease = lease(&backend, "absent").await;
            assert!(put(&backend, "absent", entry("loaded"), lease).await);
            keep(&backend, "other", "value").await;
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{:?}",
                begun.elapsed()
            );
            let mut refused = 0;
            for name in ["one", "two", "three"] {
                let mode = PutMode::Always;
                if let Err(error) = backend.put(&key(name), entry("new"), mode).await {
                    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                    refused += 1;
                }
            }
            assert_eq!(refused, 1);
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{:?}",
                begun.elapsed()
            );
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(others));
        holder.join().unwrap();
    });
    assert_eq!(backend.remove_expired(100).await.unwrap(), 1);
}
