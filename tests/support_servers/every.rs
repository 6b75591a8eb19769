//! A server of every kind behind larder's backend for it, for what holds whatever is behind a cache.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{Backend, Cache};
use sqlx::Connection;
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
};

use super::{
    Aerospike, Cluster, DynamoDb, Link, Memcached, MongoDb, MySql, Postgres, Product, Proxy, Redis,
};

/// How long a call may take. The server of a test run may be a busy one, and its client is not optimised.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many behaviours are tried at one time on one server.
const AT_ONCE: usize = 8;

/// A server that runs as long as this, and how to reach it.
pub(crate) enum Server {
    Redis(Redis),
    Cluster(Cluster),
    Memcached(Memcached),
    MongoDb(MongoDb),
    DynamoDb(String, Option<DynamoDb>),
    Sqlite(TempDir),
    Postgres(Postgres),
    MariaDb(MySql),
    Aerospike(Aerospike),
}

impl Server {
    pub(crate) async fn redis() -> Option<Self> {
        Redis::start().map(Self::Redis)
    }

    pub(crate) async fn redis_cluster() -> Option<Self> {
        Cluster::start().map(Self::Cluster)
    }

    pub(crate) async fn valkey() -> Option<Self> {
        super::valkey().map(Self::Redis)
    }

    pub(crate) async fn memcached() -> Option<Self> {
        Memcached::start().map(Self::Memcached)
    }

    pub(crate) async fn mongodb() -> Option<Self> {
        MongoDb::start().await.map(Self::MongoDb)
    }

    pub(crate) async fn dynamodb() -> Option<Self> {
        DynamoDb::find().map(|(endpoint, server)| Self::DynamoDb(endpoint, server))
    }

    pub(crate) async fn sqlite() -> Option<Self> {
        Some(Self::Sqlite(tempfile::tempdir().unwrap()))
    }

    pub(crate) async fn postgres() -> Option<Self> {
        Postgres::start().map(Self::Postgres)
    }

    pub(crate) async fn mysql() -> Option<Self> {
        Product::MariaDb.start().map(Self::MariaDb)
    }

    pub(crate) async fn aerospike() -> Option<Self> {
        Aerospike::find().map(Self::Aerospike)
    }

    /// What `CACHE_*` variables lead a process to it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let (kind, place, at) = match self {
            Self::Redis(redis) => ("redis", "CACHE_REDIS_URL", redis.url()),
            Self::Cluster(cluster) => {
                let nodes = cluster.addresses().join(",");
                ("redis", "CACHE_REDIS_CLUSTER_NODES", nodes)
            }
            Self::Memcached(server) => ("memcached", "CACHE_MEMCACHED_SERVERS", server.server()),
            Self::MongoDb(mongodb) => ("mongodb", "CACHE_MONGODB_URL", mongodb.url()),
            Self::DynamoDb(endpoint, _) => {
                ("dynamodb", "CACHE_DYNAMODB_ENDPOINT", endpoint.clone())
            }
            Self::Sqlite(folder) => {
                let path = file(folder).display().to_string();
                ("sqlite", "CACHE_SQLITE_PATH", path)
            }
            Self::Postgres(postgres) => ("postgres", "CACHE_POSTGRES_URL", postgres.url()),
            Self::MariaDb(mariadb) => ("mysql", "CACHE_MYSQL_URL", mariadb.url()),
            Self::Aerospike(server) => (
                "aerospike",
                "CACHE_AEROSPIKE_HOSTS",
                server.hosts().to_owned(),
            ),
        };
        let mut settings = vec![
            ("CACHE_TYPE", kind.to_owned()),
            (place, at),
            ("CACHE_BACKEND_TIMEOUT", "2s".to_owned()),
        ];
        match self {
            Self::DynamoDb(..) => settings.extend(
                [
                    ("CACHE_DYNAMODB_ACCESS_KEY_ID", "test"),
                    ("CACHE_DYNAMODB_SECRET_ACCESS_KEY", "test"),
                    ("CACHE_DYNAMODB_TABLE", table().as_str()),
                    ("CACHE_DYNAMODB_CREATE", "true"),
                    ("CACHE_DYNAMODB_TIMEOUT", "2s"),
                ]
                .map(|(name, value)| (name, value.to_owned())),
            ),
            Self::Aerospike(_) => settings.push(("CACHE_AEROSPIKE_TIMEOUT", "1s".to_owned())),
            _ => {}
        }
        settings
    }

    /// A backend with connections of its own.
    pub(crate) async fn connect(&self) -> Arc<dyn Backend> {
        self.connect_by(|address| address).await
    }

    /// The same by way of a proxy.
    async fn connect_through(&self, proxy: &Proxy) -> Arc<dyn Backend> {
        let proxied = self.address();
        self.connect_by(|place| {
            let host = format!("127.0.0.1:{}", proxied.expect("it has one address").port());
            assert!(place.contains(&host), "{place} is not at {host}");
            place.replace(&host, &proxy.address().to_string())
        })
        .await
    }

    async fn connect_by(&self, way: impl FnOnce(String) -> String) -> Arc<dyn Backend> {
        match self {
            Self::Redis(redis) => {
                let redis = larder::Redis::builder(way(redis.url()));
                Arc::new(redis.connect().await.unwrap())
            }
            Self::Cluster(cluster) => {
                let cluster = larder::Redis::cluster(cluster.addresses());
                Arc::new(cluster.connect().await.unwrap())
            }
            Self::Memcached(server) => {
                let memcached = larder::Memcached::builder(way(server.server()));
                Arc::new(memcached.connect().await.unwrap())
            }
            Self::MongoDb(mongodb) => {
                let mongodb = larder::MongoDb::builder(way(mongodb.url()));
                let mongodb = mongodb.connect_timeout(Duration::from_secs(10));
                Arc::new(mongodb.connect().await.unwrap())
            }
            Self::DynamoDb(endpoint, _) => {
                let dynamodb = larder::DynamoDb::builder(table())
                    .endpoint(way(endpoint.clone()))
                    .credentials("test", "test")
                    .create(true)
                    .timeout(PATIENCE);
                Arc::new(dynamodb.connect().await.unwrap())
            }
            Self::Sqlite(folder) => {
                let sqlite = larder::Sqlite::builder(file(folder));
                Arc::new(sqlite.connect().await.unwrap())
            }
            Self::Postgres(postgres) => {
                let postgres = larder::Postgres::builder(way(postgres.url()));
                Arc::new(postgres.connect().await.unwrap())
            }
            Self::MariaDb(mariadb) => {
                let mysql = larder::MySql::builder(way(mariadb.url()));
                Arc::new(mysql.connect().await.unwrap())
            }
            Self::Aerospike(server) => {
                let hosts = way(server.hosts().to_owned());
                let is_direct = hosts == server.hosts();
                let aerospike = larder::Aerospike::builder(hosts).timeout(Duration::from_secs(1));
                let aerospike = aerospike.seed_only(!is_direct);
                Arc::new(aerospike.connect().await.unwrap())
            }
        }
    }

    /// Where it listens, if that is one place on this machine.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Redis(redis) => Some(redis.address()),
            Self::Memcached(server) => Some(server.address()),
            Self::MongoDb(mongodb) => mongodb.node().address().parse().ok(),
            Self::DynamoDb(endpoint, _) => endpoint.strip_prefix("http://")?.parse().ok(),
            Self::Postgres(postgres) => Some(postgres.address()),
            Self::MariaDb(mariadb) => Some(mariadb.address()),
            Self::Aerospike(server) => server.hosts().parse().ok(),
            Self::Cluster(_) | Self::Sqlite(_) => None,
        }
    }

    /// A backend that can be cut off from the server, and how.
    pub(crate) async fn cuttable(&self) -> (Arc<dyn Backend>, Cut<'_>) {
        match self {
            Self::Cluster(cluster) => (self.connect().await, Cut::Cluster(cluster)),
            Self::Sqlite(folder) => {
                let url = format!("sqlite://{}", file(folder).display());
                let backend = self.connect().await;
                (backend, Cut::File(url, Mutex::default()))
            }
            _ => {
                let address = self.address().expect("it is one server on this machine");
                let proxy = Proxy::to(address).await;
                (self.connect_through(&proxy).await, Cut::Proxy(proxy))
            }
        }
    }

    /// Tries all behaviours, some of them at one time, each on a [`Pair`] of its own, and names those that do not hold.
    pub(crate) async fn shows(&self, behaviours: &'static [Behaviour]) {
        let backends = [self.connect().await, self.connect().await];
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut trials = JoinSet::new();
        let mut names = HashMap::new();
        for (name, behaviour) in behaviours {
            let (pair, room) = (Pair::of(&backends), room.clone());
            let trial = trials.spawn(async move {
                let _place = room.acquire().await.unwrap();
                behaviour(pair).await;
            });
            names.insert(trial.id(), *name);
        }
        let mut broken = Vec::new();
        while let Some(ended) = trials.join_next_with_id().await {
            if let Err(panic) = ended {
                broken.push(names[&panic.id()]);
            }
        }
        assert!(broken.is_empty(), "what failed is above: {broken:#?}");
    }
}

/// What is to hold, and its name.
pub(crate) type Behaviour = (&'static str, fn(Pair) -> Trial);

pub(crate) type Trial = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A file of SQLite in a folder that is there.
fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("cache.sqlite3")
}

/// A table of DynamoDB that no other test run has.
fn table() -> String {
    format!("larder-{}", std::process::id())
}

/// Two caches of one namespace, each with connections of its own: what two processes are to each other.
pub(crate) struct Pair {
    pub(crate) one: Cache,
    pub(crate) other: Cache,
    /// The way past both.
    pub(crate) direct: Arc<dyn Backend>,
    pub(crate) namespace: String,
}

impl Pair {
    fn of([one, other]: &[Arc<dyn Backend>; 2]) -> Self {
        let namespace = namespace();
        let cache = |backend: &Arc<dyn Backend>| {
            Cache::builder(backend.clone())
                .namespace(&namespace)
                .backend_timeout(PATIENCE)
                .hash_key(b"the same everywhere")
                .build()
        };
        Self {
            one: cache(one),
            other: cache(other),
            direct: one.clone(),
            namespace,
        }
    }
}

/// A namespace that nobody else has, in this test run or in another one.
pub(crate) fn namespace() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("every-{}-{number}", std::process::id())
}

/// What cuts a backend off from its server.
pub(crate) enum Cut<'a> {
    Proxy(Proxy),
    /// The nodes know each other by their own addresses, so they are stopped themselves.
    Cluster(&'a Cluster),
    /// Whoever writes to a file has it for himself, and can still be read past.
    File(String, Mutex<Option<sqlx::SqliteConnection>>),
}

impl Cut<'_> {
    pub(crate) async fn off(&self) {
        match self {
            Self::Proxy(proxy) => proxy.set(Link::Refuse).await,
            Self::Cluster(cluster) => cluster.nodes().iter().for_each(Redis::stop),
            Self::File(url, holder) => {
                let mut other = sqlx::SqliteConnection::connect(url).await.unwrap();
                for statement in ["PRAGMA busy_timeout = 10000", "BEGIN IMMEDIATE"] {
                    sqlx::query(statement).execute(&mut other).await.unwrap();
                }
                *holder.lock().await = Some(other);
            }
        }
    }

    pub(crate) async fn mend(&self) {
        match self {
            Self::Proxy(proxy) => proxy.set(Link::Pass).await,
            Self::Cluster(cluster) => cluster.nodes().iter().for_each(Redis::cont),
            Self::File(_, holder) => drop(holder.lock().await.take()),
        }
    }
}

/// A test for each server there is: what its name says, by a function of the [`Server`].
#[allow(unused_macros, reason = "every test file uses a part of it")]
macro_rules! on_every_server {
    ($module:ident, $shown:expr) => {
        $crate::support_servers::on_every_server! {
            $module, $shown;
            redis redis_cluster valkey memcached mongodb dynamodb sqlite postgres mysql aerospike
        }
    };
    ($module:ident, $shown:expr; $($server:ident)+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $server() {
                if let Some(server) = $crate::support_servers::Server::$server().await {
                    ($shown)(server).await;
                }
            })+
        }
    };
}

/// A list of [`Behaviour`]s: the functions of these names.
#[allow(unused_macros, reason = "every test file uses a part of it")]
macro_rules! behaviours {
    ($list:ident: $($behaviour:ident)+) => {
        const $list: &[$crate::support_servers::Behaviour] =
            &[$((stringify!($behaviour), |pair| Box::pin($behaviour(pair)))),+];
    };
}

pub(crate) use behaviours;
pub(crate) use on_every_server;
