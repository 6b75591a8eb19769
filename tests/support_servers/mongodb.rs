use std::{
    env,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Child,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use tempfile::TempDir;

use super::{
    process::{free_port, mortal, signal, spawn},
    tls::Certificates,
};

/// How long a server may take to answer. It writes files of some size before it does.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who may do everything where users are asked for.
const ROOT: (&str, &str) = ("root", "a root's secret");

/// What kind of MongoDB to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    secure: bool,
    wants_client_certificate: bool,
    nodes: usize,
    arguments: Vec<String>,
}

impl Options {
    /// Users, and TLS and nothing else on the port.
    pub(crate) fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// The same, where the client shows a certificate too.
    pub(crate) fn wants_client_certificate(mut self) -> Self {
        self.wants_client_certificate = true;
        self.secure()
    }

    /// A replica set of so many. A primary that is gone is missed after two seconds; by default it would be ten.
    pub(crate) fn replica_set(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// One whose nodes can be told to take nothing from the others, and to refuse commands.
    pub(crate) fn test_commands(self) -> Self {
        self.argument("--setParameter")
            .argument("enableTestCommands=1")
    }

    /// One more argument of `mongod`.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it on free ports, and waits until it can be written to.
    pub(crate) async fn start(self) -> Option<MongoDb> {
        let skip = env::var_os("LARDER_TEST_SKIP_SERVERS").is_some_and(|skip| skip == "1");
        let program = env::var_os("LARDER_TEST_MONGOD").filter(|path| !path.is_empty());
        let Some(program) = program.filter(|_| !skip) else {
            let why = match skip {
                true => "LARDER_TEST_SKIP_SERVERS is 1",
                false => "LARDER_TEST_MONGOD names no mongod",
            };
            super::not_tested("MongoDB", why);
            return None;
        };
        let mongodb = MongoDb::new(program.into(), self);
        for node in &mongodb.nodes {
            node.launch();
        }
        mongodb.prepare().await;
        Some(mongodb)
    }
}

/// A MongoDB in a folder of its own, which ends when this is dropped, or when the tests are killed.
#[derive(Debug)]
pub(crate) struct MongoDb {
    options: Options,
    nodes: Vec<Node>,
    certificates: Option<Certificates>,
    folder: TempDir,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
}

impl MongoDb {
    /// One without anything special.
    pub(crate) async fn start() -> Option<Self> {
        Options::default().start().await
    }

    /// One with something special.
    pub(crate) fn with() -> Options {
        Options::default()
    }

    fn new(program: PathBuf, options: Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("larder-mongodb-")
            .tempdir()
            .unwrap();
        let mut arguments = options.arguments.clone();
        let certificates = options.secure.then(|| Certificates::write(folder.path()));
        if let Some(certificates) = &certificates {
            let pair = folder.path().join("server.pem");
            write_pair(certificates, &pair);
            for argument in [
                "--auth",
                "--setParameter",
                // The least there is: clients that are not optimised take their time.
                "scramSHA256IterationCount=5000",
                "--tlsMode",
                "requireTLS",
                "--tlsCertificateKeyFile",
            ] {
                arguments.push(argument.to_owned());
            }
            arguments.push(pair.display().to_string());
            arguments.push("--tlsCAFile".to_owned());
            arguments.push(certificates.ca().display().to_string());
            if !options.wants_client_certificate {
                arguments.push("--tlsAllowConnectionsWithoutCertificates".to_owned());
            }
        }
        if options.nodes > 0 {
            arguments.extend(["--replSet", "rs0", "--oplogSize", "64"].map(ToOwned::to_owned));
        }
        let nodes = (0..options.nodes.max(1)).map(|number| Node {
            program: program.clone(),
            arguments: arguments.clone(),
            port: free_port(),
            folder: folder.path().join(number.to_string()),
            child: Mutex::new(None),
        });
        Self {
            nodes: nodes.collect(),
            certificates,
            options,
            folder,
        }
    }

    /// Makes the first user, or the replica set.
    async fn prepare(&self) {
        if self.options.nodes > 0 {
            let members = self.nodes.iter().enumerate().map(|(number, node)| {
                doc! { "_id": number as i32, "host": node.address() }
            });
            let members: Vec<_> = members.collect();
            let quick = doc! {
                "electionTimeoutMillis": 2_000,
                "heartbeatIntervalMillis": 500,
                // A new primary waits as long for one that hangs, to catch up with it.
                "heartbeatTimeoutSecs": 2,
            };
            let set = doc! { "_id": "rs0", "members": members, "settings": quick };
            let direct = format!(
                "mongodb://{}/?directConnection=true",
                self.nodes[0].address()
            );
            let one = Client::with_uri_str(direct).await.unwrap();
            let admin = one.database("admin");
            admin
                .run_command(doc! { "replSetInitiate": set })
                .await
                .unwrap();
            self.primary().await;
        }
        if self.options.secure {
            // Without any user the server lets this machine make one.
            let nobody = Client::with_uri_str(self.url_as("", true)).await.unwrap();
            let root = doc! { "createUser": ROOT.0, "pwd": ROOT.1, "roles": ["root"] };
            nobody.database("admin").run_command(root).await.unwrap();
        }
    }

    /// The URL for whoever may do everything. Where there is TLS, the authority is to be given beside it.
    pub(crate) fn url(&self) -> String {
        match self.options.secure {
            true => self.url_as(&credentials(ROOT), false),
            false => self.url_as("", false),
        }
    }

    /// The same for a user of [`user`](Self::user).
    pub(crate) fn url_of(&self, name: &str, password: &str) -> String {
        self.url_as(&credentials((name, password)), false)
    }

    fn url_as(&self, credentials: &str, with_files: bool) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(Node::address).collect();
        let mut options = match self.options.nodes {
            0 => "directConnection=true".to_owned(),
            _ => "replicaSet=rs0".to_owned(),
        };
        if let Some(certificates) = &self.certificates {
            options.push_str("&tls=true&authSource=admin");
            if with_files {
                options.push_str(&format!("&tlsCAFile={}", certificates.ca().display()));
            }
            if with_files && self.options.wants_client_certificate {
                let pair = self.client_pair();
                options.push_str(&format!("&tlsCertificateKeyFile={}", pair.display()));
            }
        }
        format!("mongodb://{credentials}{}/?{options}", hosts.join(","))
    }

    /// A client that knows nothing of larder, and may do everything.
    pub(crate) async fn raw(&self) -> Client {
        let credentials = match self.options.secure {
            true => credentials(ROOT),
            false => String::new(),
        };
        Client::with_uri_str(self.url_as(&credentials, true))
            .await
            .unwrap()
    }

    /// Makes a user with one role on one database.
    pub(crate) async fn user(&self, name: &str, password: &str, role: &str, database: &str) {
        let role = doc! { "role": role, "db": database };
        let user = doc! { "createUser": name, "pwd": password, "roles": [role] };
        self.raw()
            .await
            .database("admin")
            .run_command(user)
            .await
            .unwrap();
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        let certificates = self.certificates.as_ref();
        certificates.expect("it was started with TLS")
    }

    /// The client's certificate and its key in one file.
    pub(crate) fn client_pair(&self) -> PathBuf {
        let certificates = self.certificates();
        let both = [certificates.client_certificate(), certificates.client_key()];
        let both = both.map(|file| fs::read_to_string(file).unwrap()).concat();
        let pair = self.folder.path().join("client.pem");
        fs::write(&pair, both).unwrap();
        pair
    }

    /// Has the only server show the certificate of another host, or its own again. It starts again for that.
    pub(crate) fn show_another(&self, another: bool) {
        let certificates = self.certificates();
        certificates.show_another(another);
        write_pair(certificates, &self.folder.path().join("server.pem"));
        self.node().start_again();
    }

    /// The only server, or the first.
    pub(crate) fn node(&self) -> &Node {
        &self.nodes[0]
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Whoever is the primary, waiting for one.
    pub(crate) async fn primary(&self) -> &Node {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in self.nodes.iter().filter(|node| node.runs()) {
                if node.is_primary().await {
                    return node;
                }
            }
            assert!(Instant::now() < deadline, "no node became the primary");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Node {
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    async fn is_primary(&self) -> bool {
        let url = format!(
            "mongodb://{}/?directConnection=true&serverSelectionTimeoutMS=500",
            self.address()
        );
        let client = Client::with_uri_str(url).await.unwrap();
        let hello = client
            .database("admin")
            .run_command(doc! { "hello": 1 })
            .await;
        let is_primary = |hello: Document| hello.get_bool("isWritablePrimary");
        hello.is_ok_and(|hello| is_primary(hello) == Ok(true))
    }

    /// Has it take nothing from the others any more, or again, though it is there for them. It needs `enableTestCommands`.
    pub(crate) async fn replicate(&self, on: bool) {
        let url = format!("mongodb://{}/?directConnection=true", self.address());
        let client = Client::with_uri_str(url).await.unwrap();
        let mode = if on { "off" } else { "alwaysOn" };
        let point = doc! { "configureFailPoint": "stopReplProducer", "mode": mode };
        client.database("admin").run_command(point).await.unwrap();
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.lock().unwrap().is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap();
        child.as_ref().expect("it runs").id()
    }

    /// Lets it crash.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets it hang: connections open, and nothing is answered.
    pub(crate) fn stop(&self) {
        signal("STOP", self.pid());
    }

    /// Lets it go on.
    pub(crate) fn cont(&self) {
        signal("CONT", self.pid());
    }

    /// Starts it again on the same port after a crash, with its data.
    pub(crate) fn start_again(&self) {
        self.kill();
        self.launch();
    }

    /// Starts it again on the same port after a crash, without its data.
    pub(crate) fn start_empty(&self) {
        self.kill();
        fs::remove_dir_all(self.data()).unwrap();
        self.launch();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn launch(&self) {
        fs::create_dir_all(self.data()).unwrap();
        let path = self.folder.join("log");
        let log = File::create(&path).unwrap();
        let port = self.port.to_string();
        let mut command = mortal(&self.program.display().to_string());
        command
            .arg("--dbpath")
            .arg(self.data())
            .args([
                "--port",
                &port,
                "--bind_ip",
                "127.0.0.1,127.0.0.2",
                "--nounixsocket",
            ])
            .args(["--wiredTigerCacheSizeGB", "0.25"])
            .args([
                "--wiredTigerEngineConfigString",
                "log=(file_max=8MB,prealloc=false)",
            ])
            .args(["--setParameter", "ttlMonitorSleepSecs=1"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            .args(&self.arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = spawn(command);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = child.try_wait().unwrap();
            let log = fs::read_to_string(&path).unwrap();
            if ended.is_none() && log.contains("Waiting for connections") {
                *self.child.lock().unwrap() = Some(child);
                return;
            }
            if ended.is_some() || Instant::now() > deadline {
                drop(child.kill());
                child.wait().unwrap();
                let lines: Vec<_> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(20)..].join("\n");
                panic!("mongod did not come up ({ended:?}):\n{last}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server's certificate and its key in one file, as it wants them.
fn write_pair(certificates: &Certificates, pair: &Path) {
    let both = [certificates.server_certificate(), certificates.server_key()];
    let both = both.map(|file| fs::read_to_string(file).unwrap()).concat();
    fs::write(pair, both).unwrap();
}

fn credentials((name, password): (&str, &str)) -> String {
    let escape = |text: &str| {
        text.replace('%', "%25")
            .replace(' ', "%20")
            .replace('\'', "%27")
    };
    format!("{}:{}@", escape(name), escape(password))
}
