use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    process::{family, free_port, installed, is_root, mortal, signal_all, spawn},
    template,
    tls::Certificates,
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The one user, who may do everything, and the password.
const USER: &str = "app";
const PASSWORD: &str = "s3cret";

/// What kind of PostgreSQL to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    tls: bool,
    wants_client_certificate: bool,
    settings: Vec<String>,
}

impl Options {
    /// TLS, and nothing else, over the network.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// TLS, where the client shows a certificate too.
    pub(crate) fn mtls(mut self) -> Self {
        self.wants_client_certificate = true;
        self.tls()
    }

    /// One more `name=value` of `postgresql.conf`.
    pub(crate) fn setting(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// Starts it on a free port, and waits until it answers.
    pub(crate) fn start(self) -> Option<Postgres> {
        if env::var_os("LARDER_TEST_SKIP_SERVERS").is_some_and(|skip| skip == "1") {
            super::not_tested("PostgreSQL", "LARDER_TEST_SKIP_SERVERS is 1");
            return None;
        }
        let Some(programs) = programs() else {
            panic!(
                "PostgreSQL's programs are not there; install them (on Debian: apt-get install postgresql-15), or set \
                 LARDER_TEST_SKIP_SERVERS=1 to leave the tests on servers out"
            );
        };
        // Between the moment a port is found free and the server's taking it another may come.
        let start = || Postgres::new(self.clone(), &programs);
        let (mut postgres, mut started) = start();
        for _ in 0..10 {
            match &started {
                Err(log) if log.contains("Address already in use") => {
                    (postgres, started) = start();
                }
                _ => break,
            }
        }
        if let Err(log) = started {
            panic!("postgres did not come up:\n{log}");
        }
        Some(postgres)
    }
}

/// Where `initdb`, `postgres` and `psql` are: on the `PATH`, or where Debian puts them, the newest first.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|it| it.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    let has = |folder: &PathBuf, name| folder.join(name).is_file();
    folders.into_iter().find(|folder| {
        ["initdb", "postgres", "psql"]
            .iter()
            .all(|it| has(folder, it))
    })
}

/// A PostgreSQL in a folder of its own, which ends when this is dropped, or when the tests are killed.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: Options,
    programs: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
    certificates: Option<Certificates>,
    folder: TempDir,
}

impl Postgres {
    /// One without anything special.
    pub(crate) fn start() -> Option<Self> {
        Options::default().start()
    }

    /// One with something special.
    pub(crate) fn with() -> Options {
        Options::default()
    }

    fn new(options: Options, programs: &Path) -> (Self, Result<(), String>) {
        let mut builder = tempfile::Builder::new();
        builder.prefix("larder-postgres-");
        let folder = builder.tempdir().unwrap();
        let postgres = Self {
            port: free_port(),
            programs: programs.to_owned(),
            child: Mutex::new(None),
            certificates: options.tls.then(|| Certificates::write(folder.path())),
            options,
            folder,
        };
        postgres.belongs_to_server(postgres.folder());
        postgres.fill();
        let started = postgres.launch();
        (postgres, started)
    }

    /// The URL with name and password.
    pub(crate) fn url(&self) -> String {
        self.url_as(&format!("{USER}:{PASSWORD}@"))
    }

    /// The same for somebody else: `name:password@`, or nothing.
    pub(crate) fn url_as(&self, credentials: &str) -> String {
        format!("postgres://{credentials}127.0.0.1:{}/postgres", self.port)
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

    fn pids(&self) -> Vec<u32> {
        let child = self.child.lock().unwrap();
        family(child.as_ref().expect("it runs").id())
    }

    /// Lets it crash, with everything it started.
    pub(crate) fn kill(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else {
            return;
        };
        signal_all("KILL", &family(child.id()));
        child.wait().unwrap();
    }

    /// Lets it hang: connections open, and nothing is answered.
    pub(crate) fn stop(&self) {
        signal_all("STOP", &self.pids());
    }

    /// Lets it go on.
    pub(crate) fn cont(&self) {
        signal_all("CONT", &self.pids());
    }

    /// Kills it and starts it again on the same port, with its data.
    pub(crate) fn restart(&self) {
        self.kill();
        // Who started it may not have noticed that nobody holds the old one any more.
        let deadline = Instant::now() + PATIENCE;
        while let Err(log) = self.launch() {
            let held = log.contains("still in use") || log.contains("lock file");
            assert!(
                held && Instant::now() < deadline,
                "postgres did not come up again:\n{log}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it and starts it again on the same port, without its data.
    pub(crate) fn restart_empty(&self) {
        self.kill();
        fs::remove_dir_all(self.data()).unwrap();
        self.fill();
        self.restart();
    }

    /// What statements print, sent by `psql` over the Unix socket as the user that may do everything.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER])
            .args([
                "-p",
                &self.port.to_string(),
                "-d",
                "postgres",
                "-c",
                statements,
            ])
            .arg("-h")
            .arg(self.folder())
            .env("PGPASSWORD", PASSWORD)
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statements}: {errors}");
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim_end().to_owned()
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Gives a file or folder to the user that the server runs as, who is another one where the tests run as root.
    fn belongs_to_server(&self, path: &Path) {
        if is_root() {
            let mut chown = Command::new("chown");
            let status = chown.arg("-R").arg("postgres:postgres").arg(path).status();
            assert!(status.unwrap().success());
        }
    }

    /// A command that runs as that user.
    fn as_server(&self, program: &str) -> Command {
        let program = self.programs.join(program).display().to_string();
        if !is_root() {
            return mortal(&program);
        }
        assert!(
            installed("setpriv"),
            "as root it takes setpriv to start PostgreSQL"
        );
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--reuid=postgres",
            "--regid=postgres",
        ]);
        command.args(["--clear-groups", &program]);
        command
    }

    fn fill(&self) {
        template::copy("larder-postgres", &self.data(), |data| {
            let password = self.folder().join("password");
            fs::write(&password, PASSWORD).unwrap();
            self.belongs_to_server(&password);
            let mut initdb = self.as_server("initdb");
            initdb
                .args([
                    "-U",
                    USER,
                    "-A",
                    "scram-sha-256",
                    "--no-sync",
                    "-E",
                    "UTF8",
                    "--no-locale",
                ])
                .arg("-D")
                .arg(data)
                .arg(format!("--pwfile={}", password.display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            assert!(initdb.status().unwrap().success(), "initdb failed");
        });
        let mut rules = String::from("local all all scram-sha-256\n");
        rules += match (&self.certificates, self.options.wants_client_certificate) {
            (None, _) => "host all all 127.0.0.0/8 scram-sha-256\n",
            (Some(_), false) => "hostssl all all 127.0.0.0/8 scram-sha-256\n",
            (Some(_), true) => "hostssl all all 127.0.0.0/8 scram-sha-256 clientcert=verify-ca\n",
        };
        fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
    }

    fn launch(&self) -> Result<(), String> {
        let path = self.folder().join("log");
        let log = File::create(&path).unwrap();
        let folder = self.folder().display();
        let mut settings = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1,127.0.0.2".to_owned(),
            format!("unix_socket_directories={folder}"),
            "fsync=off".to_owned(),
            "synchronous_commit=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ];
        if let Some(certificates) = &self.certificates {
            let key = certificates.server_key();
            let mut mode = Command::new("chmod");
            assert!(mode.arg("600").arg(&key).status().unwrap().success());
            settings.extend([
                "ssl=on".to_owned(),
                format!(
                    "ssl_cert_file={}",
                    certificates.server_certificate().display()
                ),
                format!("ssl_key_file={}", key.display()),
                format!("ssl_ca_file={}", certificates.ca().display()),
            ]);
        }
        settings.extend_from_slice(&self.options.settings);
        let mut command = self.as_server("postgres");
        command.arg("-D").arg(self.data());
        for setting in settings {
            command.args(["-c", &setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = spawn(command);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = child.try_wait().unwrap().is_some();
            let log = fs::read_to_string(&path).unwrap();
            if !ended && log.contains("ready to accept connections") {
                *self.child.lock().unwrap() = Some(child);
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                drop(child.kill());
                child.wait().unwrap();
                return Err(log);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}
