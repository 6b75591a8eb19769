use std::{
    env,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    process::{free_port, free_port_of_cluster, installed, mortal, signal, spawn},
    tls::Certificates,
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What kind of Redis to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    password: Option<String>,
    user: Option<(String, String)>,
    tls: bool,
    wants_client_certificate: bool,
    unix_socket: bool,
    persistent: bool,
    program: Option<PathBuf>,
    shared_certificates: Option<Certificates>,
    of_cluster: bool,
    lines: Vec<String>,
}

impl Options {
    /// The password of the user `default`, which may do everything.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A user with what it may do, as in `~cache:* &* +@all -@dangerous`; the one in `url` from then on.
    pub(crate) fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self.config(&format!("user {name} on >{password} {rules}"))
    }

    /// TLS, and nothing else, on the port.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// TLS, where the client shows a certificate too.
    pub(crate) fn mtls(mut self) -> Self {
        self.wants_client_certificate = true;
        self.tls()
    }

    /// A Unix socket beside the port.
    pub(crate) fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Data that outlives a restart.
    pub(crate) fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Another program than the `redis-server` on the `PATH`.
    pub(crate) fn program(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// TLS by certificates that others have too.
    pub(crate) fn tls_by(mut self, certificates: &Certificates) -> Self {
        self.shared_certificates = Some(certificates.clone());
        self.tls()
    }

    /// A node that can be made one of a cluster; with TLS, to its other nodes too.
    pub(crate) fn of_cluster(mut self) -> Self {
        self.of_cluster = true;
        self.config("cluster-enabled yes")
            .config("cluster-config-file nodes.conf")
            .config("cluster-node-timeout 1000")
            // Without it a replica begins to copy five seconds late.
            .config("repl-diskless-sync-delay 0")
    }

    /// A replica of the server on this port, which may be that of a proxy.
    pub(crate) fn replica_of(self, port: u16) -> Self {
        self.config(&format!("replicaof 127.0.0.1 {port}"))
    }

    /// One more line of `redis.conf`.
    pub(crate) fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Starts it on a free port, and waits until it answers.
    pub(crate) fn start(self) -> Option<Redis> {
        if env::var_os("LARDER_TEST_SKIP_SERVERS").is_some_and(|skip| skip == "1") {
            super::not_tested("Redis", "LARDER_TEST_SKIP_SERVERS is 1");
            return None;
        }
        for program in ["redis-server", "redis-cli"] {
            assert!(
                installed(program) || program == "redis-server" && another_redis().is_some(),
                "{program} is not on the PATH; install it (on Debian: apt-get install redis-server \
                 redis-tools), or set LARDER_TEST_SKIP_SERVERS=1 to leave the tests on servers out"
            );
        }
        // Between the moment a port is found free and the server's taking it another may come.
        let start = || Redis::new(self.clone());
        let (mut redis, mut started) = start();
        for _ in 0..10 {
            match &started {
                Err(log) if log.contains("Address already in use") => (redis, started) = start(),
                _ => break,
            }
        }
        if let Err(log) = started {
            panic!("redis-server did not come up:\n{log}");
        }
        Some(redis)
    }
}

/// A Redis in a folder of its own, which ends when this is dropped, or when the tests are killed.
#[derive(Debug)]
pub(crate) struct Redis {
    options: Options,
    port: u16,
    child: Mutex<Option<Child>>,
    certificates: Option<Certificates>,
    folder: TempDir,
}

impl Redis {
    /// One without anything special.
    pub(crate) fn start() -> Option<Self> {
        Options::default().start()
    }

    /// One with something special.
    pub(crate) fn with() -> Options {
        Options::default()
    }

    fn new(options: Options) -> (Self, Result<(), String>) {
        let folder = tempfile::Builder::new()
            .prefix("larder-redis-")
            .tempdir()
            .unwrap();
        let certificates = options.tls.then(|| {
            let shared = options.shared_certificates.clone();
            shared.unwrap_or_else(|| Certificates::write(folder.path()))
        });
        let redis = Self {
            port: match options.of_cluster {
                true => free_port_of_cluster(),
                false => free_port(),
            },
            child: Mutex::new(None),
            certificates,
            options,
            folder,
        };
        let started = redis.launch();
        (redis, started)
    }

    /// The URL, with TLS and with name and password where there are any.
    pub(crate) fn url(&self) -> String {
        let none = String::new();
        let (user, password) = match (&self.options.user, &self.options.password) {
            (Some((user, password)), _) => (user, password),
            (None, Some(password)) => (&none, password),
            (None, None) => return self.url_as(""),
        };
        self.url_as(&format!("{user}:{password}@"))
    }

    /// The same for somebody else: `name:password@`, or nothing.
    pub(crate) fn url_as(&self, credentials: &str) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        format!("{scheme}://{credentials}{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it is a replica that hears from its primary.
    pub(crate) fn follows(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .cli(&["INFO", "replication"])
            .contains("master_link_status:up")
        {
            assert!(Instant::now() < deadline, "the replica does not come up");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How often it was asked a command.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let stats = self.cli(&["INFO", "commandstats"]);
        let name = format!("cmdstat_{command}:calls=");
        let mut lines = stats.lines();
        let line = lines.find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Waits until its replicas have everything that it has.
    pub(crate) fn replicated(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let replication = self.cli(&["INFO", "replication"]);
            let field = |name: &str| {
                let mut parts = replication.split(['\r', '\n', ',']);
                let value = parts.find_map(|part| part.strip_prefix(name));
                value.map(ToOwned::to_owned)
            };
            if field("offset=").is_some() && field("offset=") == field("master_repl_offset:") {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the replica lags behind: {replication}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets a replica that has this password get nothing more from its primary, without either noticing anything else.
    pub(crate) fn cut_off_from(&self, primary: &Self) {
        primary.replicated();
        self.cli(&["CONFIG", "SET", "masterauth", "wrong"]);
        primary.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
        let deadline = Instant::now() + PATIENCE;
        while primary.cli(&["INFO", "replication"]).contains("slave0:") {
            assert!(Instant::now() < deadline, "the replica is connected again");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where its socket, data, certificates and log are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("redis.sock")
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        let certificates = self.certificates.as_ref();
        certificates.expect("it was started with tls")
    }

    /// Whether it was not killed.
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

    /// Kills it and starts it again on the same port, with its data if they are persistent.
    pub(crate) fn restart(&self) {
        self.kill();
        if let Err(log) = self.launch() {
            panic!("redis-server did not come up again:\n{log}");
        }
    }

    /// Kills it and starts it again on the same port, without its data.
    pub(crate) fn restart_empty(&self) {
        self.kill();
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(data).unwrap();
        }
        self.restart();
    }

    /// What a command prints, sent by `redis-cli` as the user that may do everything.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        let output = self.ask(command);
        let text = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {text} {errors}");
        text
    }

    fn ask(&self, command: &[&str]) -> Output {
        let port = self.port.to_string();
        let mut all = vec!["-p".to_owned(), port];
        if let Some(certificates) = &self.certificates {
            all.push("--tls".to_owned());
            let files = [
                ("--cacert", certificates.ca()),
                ("--cert", certificates.client_certificate()),
                ("--key", certificates.client_key()),
            ];
            for (option, file) in files {
                all.extend([option.to_owned(), file.display().to_string()]);
            }
        }
        if let Some(password) = &self.options.password {
            all.extend(["--no-auth-warning", "-a", password].map(ToOwned::to_owned));
        }
        all.extend(command.iter().map(ToString::to_string));
        redis_cli(&all)
    }

    fn data(&self) -> PathBuf {
        self.folder().join("appendonlydir")
    }

    fn launch(&self) -> Result<(), String> {
        let path = self.folder().join("log");
        let log = File::create(&path).unwrap();
        let mut command = match &self.options.program {
            Some(program) => mortal(&program.display().to_string()),
            None => redis_server(),
        };
        command
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = spawn(command);
        let mut stdin = child.stdin.take().unwrap();
        // A server that ended at once has said why in its log.
        drop(stdin.write_all(self.config().as_bytes()));
        drop(stdin);

        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = child.try_wait().unwrap().is_some();
            let log = fs::read_to_string(&path).unwrap();
            // An answer alone could be that of another server on the port.
            if !ended && log.contains("Ready to accept connections") && self.answers() {
                *self.child.lock().unwrap() = Some(child);
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                drop(child.kill());
                child.wait().unwrap();
                let lines: Vec<_> = log.lines().collect();
                return Err(lines[lines.len().saturating_sub(20)..].join("\n"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn answers(&self) -> bool {
        self.ask(&["PING"]).stdout == b"PONG\n"
    }

    /// The configuration, which goes through stdin because the rules of a user do not fit on a command line.
    fn config(&self) -> String {
        let (port, options) = (self.port, &self.options);
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("dir \"{}\"", self.folder().display()),
            "save \"\"".to_owned(),
        ];
        if let Some(certificates) = &self.certificates {
            let wanted = if options.wants_client_certificate {
                "yes"
            } else {
                "no"
            };
            let file = |path: PathBuf| format!("\"{}\"", path.display());
            lines.extend([
                "port 0".to_owned(),
                format!("tls-port {port}"),
                format!("tls-cert-file {}", file(certificates.server_certificate())),
                format!("tls-key-file {}", file(certificates.server_key())),
                format!("tls-ca-cert-file {}", file(certificates.ca())),
                format!("tls-auth-clients {wanted}"),
                "tls-replication yes".to_owned(),
                // What the server shows where it is itself the client of another one.
                format!(
                    "tls-client-cert-file {}",
                    file(certificates.client_certificate())
                ),
                format!("tls-client-key-file {}", file(certificates.client_key())),
            ]);
            if options.of_cluster {
                lines.push("tls-cluster yes".to_owned());
            }
        } else {
            lines.push(format!("port {port}"));
        }
        if options.unix_socket {
            lines.push(format!("unixsocket \"{}\"", self.socket().display()));
        }
        if options.persistent {
            // What was written before an answer outlives the process; only the machine's end would need a sync.
            lines.extend(["appendonly yes", "appendfsync no"].map(ToOwned::to_owned));
        }
        if let Some(password) = &options.password {
            lines.push(format!("requirepass {password}"));
        }
        lines.extend_from_slice(&options.lines);
        lines.join("\n") + "\n"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The `redis-server` that `LARDER_TEST_REDIS` names in place of the one on the `PATH`, if it names one.
fn another_redis() -> Option<PathBuf> {
    let program = env::var_os("LARDER_TEST_REDIS").filter(|program| !program.is_empty());
    let program = PathBuf::from(program?);
    assert!(
        program.is_file(),
        "LARDER_TEST_REDIS is not the path of a redis-server"
    );
    Some(program)
}

/// The server that the tests are about.
pub(super) fn redis_server() -> Command {
    match another_redis() {
        Some(program) => mortal(&program.display().to_string()),
        None => mortal("redis-server"),
    }
}

/// What that server calls itself, for the table of the suite: `redis 7.0.15`.
pub(crate) fn redis_name() -> String {
    let output = redis_server().arg("--version").output();
    let text = String::from_utf8(output.expect("redis-server is installed").stdout).unwrap();
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    format!("redis {}", version.expect("it says its version"))
}

/// Runs `redis-cli` as it is told, and fails where the command does.
pub(crate) fn redis_cli(arguments: &[impl AsRef<str>]) -> Output {
    let arguments = arguments.iter().map(AsRef::as_ref);
    let mut command = Command::new("redis-cli");
    command.arg("-e").args(arguments).stdin(Stdio::null());
    command.output().expect("redis-cli is installed")
}

/// A Valkey server, where `LARDER_TEST_VALKEY` names its program.
pub(crate) fn valkey() -> Option<Redis> {
    valkey_with(Options::default())
}

/// The same with something special.
pub(crate) fn valkey_with(options: Options) -> Option<Redis> {
    options_of_valkey(options)?.start()
}

/// What is needed to start one.
pub(crate) fn options_of_valkey(options: Options) -> Option<Options> {
    let program = env::var_os("LARDER_TEST_VALKEY").filter(|program| !program.is_empty());
    let Some(program) = program.map(PathBuf::from) else {
        super::not_tested("Valkey", "LARDER_TEST_VALKEY is not set to a valkey-server");
        return None;
    };
    assert!(
        program.is_file(),
        "LARDER_TEST_VALKEY is not the path of a valkey-server"
    );
    Some(options.program(program))
}
