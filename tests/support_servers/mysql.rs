use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    process::{free_port, installed, is_root, mortal, signal, spawn},
    template,
    tls::Certificates,
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The user of the tests, and the password.
const USER: &str = "app";
const PASSWORD: &str = "s3cret";

/// Whose server it is. Both speak one protocol, and mostly one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    MariaDb,
    /// The one whose program `LARDER_TEST_MYSQLD` names.
    MySql,
}

impl Product {
    const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }

    /// One without anything special.
    pub(crate) fn start(self) -> Option<MySql> {
        self.with().start()
    }

    /// One with something special.
    pub(crate) fn with(self) -> Options {
        Options {
            product: self,
            tls: false,
            wants_client_certificate: false,
            has_own_certificates: false,
            settings: Vec::new(),
        }
    }

    /// The server's program; that of MariaDB is in `sbin` on Debian.
    fn server(self) -> Option<PathBuf> {
        if self == Self::MySql {
            return env::var_os("LARDER_TEST_MYSQLD").map(PathBuf::from);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let mut programs = folders.map(|folder| folder.join("mariadbd"));
        programs.find(|program| program.is_file())
    }
}

/// What kind of server to start.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    product: Product,
    tls: bool,
    wants_client_certificate: bool,
    has_own_certificates: bool,
    settings: Vec<String>,
}

impl Options {
    /// TLS, without which the user is not let in.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// TLS, where the client shows a certificate too.
    pub(crate) fn mtls(mut self) -> Self {
        self.wants_client_certificate = true;
        self.tls()
    }

    /// The certificates that MySQL makes for itself, in its data.
    pub(crate) fn own_certificates(mut self) -> Self {
        self.has_own_certificates = true;
        self
    }

    /// One more `--name=value` of the command line.
    pub(crate) fn setting(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Starts it on a free port, and waits until it answers.
    pub(crate) fn start(self) -> Option<MySql> {
        let name = self.product.name();
        if env::var_os("LARDER_TEST_SKIP_SERVERS").is_some_and(|skip| skip == "1") {
            super::not_tested(name, "LARDER_TEST_SKIP_SERVERS is 1");
            return None;
        }
        if self.product == Product::MySql && self.product.server().is_none() {
            super::not_tested(name, "LARDER_TEST_MYSQLD names no mysqld");
            return None;
        }
        // The client of MariaDB talks to both.
        for program in ["mariadb-install-db", "mariadb"] {
            assert!(
                installed(program) && self.product.server().is_some(),
                "{program} or mariadbd is not there; install it (on Debian: apt-get install mariadb-server-core \
                 mariadb-client-core), or set LARDER_TEST_SKIP_SERVERS=1 to leave the tests on servers out"
            );
        }
        // Between the moment a port is found free and the server's taking it another may come.
        let start = || MySql::new(self.clone());
        let (mut server, mut started) = start();
        for _ in 0..10 {
            match &started {
                Err(log) if log.contains("Address already in use") => (server, started) = start(),
                _ => break,
            }
        }
        if let Err(log) = started {
            panic!("{name} did not come up:\n{log}");
        }
        Some(server)
    }
}

/// A server in a folder of its own, which ends when this is dropped, or when the tests are killed.
#[derive(Debug)]
pub(crate) struct MySql {
    options: Options,
    port: u16,
    child: Mutex<Option<Child>>,
    certificates: Option<Certificates>,
    folder: TempDir,
}

impl MySql {
    fn new(options: Options) -> (Self, Result<(), String>) {
        let mut builder = tempfile::Builder::new();
        builder.prefix("larder-mysql-");
        let folder = builder.tempdir().unwrap();
        // MySQL has TLS whether it is asked for or not, and nobody sends it a password without.
        let has_tls = options.tls || options.product == Product::MySql;
        let server = Self {
            port: free_port(),
            child: Mutex::new(None),
            certificates: has_tls.then(|| Certificates::write(folder.path())),
            options,
            folder,
        };
        server.fill();
        let started = server.launch();
        (server, started)
    }

    pub(crate) fn product(&self) -> Product {
        self.options.product
    }

    /// Its name and version, as `mariadb 10.11`.
    pub(crate) fn version(&self) -> String {
        let version = self.sql("SELECT VERSION()");
        let parts: Vec<_> = version.split('.').take(2).collect();
        let name = self.product().name().to_ascii_lowercase();
        format!("{name} {}", parts.join("."))
    }

    /// The path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("mysql.sock")
    }

    /// The URL with name and password.
    pub(crate) fn url(&self) -> String {
        self.url_as(&format!("{USER}:{PASSWORD}@"))
    }

    /// The same for somebody else: `name:password@`, or nothing.
    pub(crate) fn url_as(&self, credentials: &str) -> String {
        format!("mysql://{credentials}127.0.0.1:{}/cache", self.port)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its socket, data, certificates and log are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        let certificates = self.certificates.as_ref();
        certificates.expect("it was started with tls")
    }

    fn pid(&self) -> u32 {
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

    /// Kills it and starts it again on the same port, with its data.
    pub(crate) fn restart(&self) {
        self.kill();
        if let Err(log) = self.launch() {
            panic!("{} did not come up again:\n{log}", self.product().name());
        }
    }

    /// Kills it and starts it again on the same port, without its data.
    pub(crate) fn restart_empty(&self) {
        self.kill();
        fs::remove_dir_all(self.data()).unwrap();
        self.fill();
        self.restart();
    }

    /// What statements print, sent by `mariadb` over the Unix socket as the user that may do everything.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let output = self.ask(&format!("SET autocommit = 1; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; USE cache; {statements}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statements}: {errors}");
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim_end().to_owned()
    }

    /// Ends the connections of a user.
    pub(crate) fn end_connections(&self, user: &str) {
        let ids = "SELECT id FROM information_schema.processlist WHERE user";
        for id in self.sql(&format!("{ids} = '{user}'")).lines() {
            // It may have ended by itself.
            self.ask(&format!("KILL {id}"));
        }
    }

    fn ask(&self, statements: &str) -> Output {
        let mut command = Command::new("mariadb");
        command
            .args(["--no-defaults", "-uroot", "-N", "-B", "-e", statements])
            .arg(format!("--socket={}", self.socket().display()))
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn program(&self) -> PathBuf {
        self.product().server().expect("it was there a moment ago")
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn fill(&self) {
        let program = self.program();
        if self.product() == Product::MySql {
            return template::copy("larder-mysqld", &self.data(), |data| {
                let mut initialize = Command::new(program);
                initialize
                    .args(["--no-defaults", "--initialize-insecure"])
                    .arg(format!("--datadir={}", data.display()))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                if is_root() {
                    initialize.arg("--user=root");
                }
                let status = initialize.status().unwrap();
                assert!(status.success(), "mysqld --initialize-insecure failed");
            });
        }
        template::copy("larder-mariadb", &self.data(), |data| {
            let mut install = Command::new("mariadb-install-db");
            install
                .args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ])
                .arg(format!("--datadir={}", data.display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            if is_root() {
                install.arg("--user=root");
            }
            assert!(
                install.status().unwrap().success(),
                "mariadb-install-db failed"
            );
        });
    }

    fn launch(&self) -> Result<(), String> {
        let path = self.folder().join("log");
        let log = File::create(&path).unwrap();
        let mut command = mortal(&self.program().display().to_string());
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!(
                "--pid-file={}",
                self.folder().join("pid").display()
            ))
            .args([
                "--bind-address=127.0.0.1,127.0.0.2",
                "--skip-log-bin",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=64M",
                "--performance-schema=OFF",
            ])
            .args(&self.options.settings);
        if self.product() == Product::MySql {
            // Another protocol, on a port of its own.
            command.arg("--mysqlx=OFF");
        }
        if is_root() {
            command.arg("--user=root");
        }
        let shown = self.certificates.as_ref();
        if let Some(certificates) = shown.filter(|_| !self.options.has_own_certificates) {
            command
                .arg(format!(
                    "--ssl-cert={}",
                    certificates.server_certificate().display()
                ))
                .arg(format!("--ssl-key={}", certificates.server_key().display()))
                .arg(format!("--ssl-ca={}", certificates.ca().display()));
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = spawn(command);
        let demand = match (self.options.tls, self.options.wants_client_certificate) {
            (false, _) => "NONE",
            (true, false) => "SSL",
            (true, true) => "X509",
        };
        let prepare = format!(
            "CREATE DATABASE IF NOT EXISTS cache; CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}' \
             REQUIRE {demand}; GRANT ALL ON cache.* TO {USER}@'%'"
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = child.try_wait().unwrap().is_some();
            let log = fs::read_to_string(&path).unwrap();
            let is_up = !ended && log.contains("ready for connections");
            if is_up && self.ask(&prepare).status.success() {
                *self.child.lock().unwrap() = Some(child);
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                drop(child.kill());
                child.wait().unwrap();
                let lines: Vec<_> = log.lines().collect();
                return Err(lines[lines.len().saturating_sub(20)..].join("\n"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for MySql {
    fn drop(&mut self) {
        self.kill();
    }
}
