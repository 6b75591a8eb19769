use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    memcached_sasl,
    process::{free_port, installed, mortal, signal, spawn},
    tls::Certificates,
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What kind of memcached to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemcachedOptions {
    user: Option<(String, String)>,
    sasl: Option<String>,
    tls: bool,
    wants_client_certificate: bool,
    unix_socket: bool,
    arguments: Vec<String>,
}

impl MemcachedOptions {
    /// The one user there is, by ASCII authentication.
    pub(crate) fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// The one user there is, by SASL PLAIN, in the binary protocol and no other.
    pub(crate) fn sasl(self, name: &str, password: &str) -> Self {
        self.sasl_by("plain", name, password)
    }

    /// The one user there is, by these mechanisms of SASL.
    pub(crate) fn sasl_by(mut self, mechanisms: &str, name: &str, password: &str) -> Self {
        self.sasl = Some(mechanisms.to_owned());
        self.user(name, password)
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

    /// A Unix socket in place of the port.
    pub(crate) fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// More of its command line.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string);
        self.arguments.extend(arguments);
        self
    }

    /// Starts it on a free port, and waits until it answers.
    pub(crate) fn start(self) -> Option<Memcached> {
        if env::var_os("LARDER_TEST_SKIP_SERVERS").is_some_and(|skip| skip == "1") {
            super::not_tested("memcached", "LARDER_TEST_SKIP_SERVERS is 1");
            return None;
        }
        assert!(
            installed("memcached"),
            "memcached is not on the PATH; install it (on Debian: apt-get install memcached), or set \
             LARDER_TEST_SKIP_SERVERS=1 to leave the tests on servers out"
        );
        if let Some(missing) = self.sasl.as_ref().and(memcached_sasl::missing()) {
            super::not_tested("memcached with SASL", missing);
            return None;
        }
        // Between the moment a port is found free and the server's taking it another may come.
        let start = || Memcached::new(self.clone());
        let (mut memcached, mut started) = start();
        for _ in 0..10 {
            match &started {
                Err(log) if log.contains("Address already in use") => {
                    (memcached, started) = start();
                }
                _ => break,
            }
        }
        match started {
            Ok(()) => Some(memcached),
            Err(log) if log.contains("not built with SASL") => {
                super::not_tested("memcached with SASL", "this memcached is built without it");
                None
            }
            Err(log) => panic!("memcached did not come up:\n{log}"),
        }
    }
}

/// A memcached in a folder of its own, which ends when this is dropped, or when the tests are killed.
#[derive(Debug)]
pub(crate) struct Memcached {
    options: MemcachedOptions,
    port: u16,
    child: Mutex<Option<Child>>,
    certificates: Option<Certificates>,
    folder: TempDir,
}

impl Memcached {
    /// One without anything special.
    pub(crate) fn start() -> Option<Self> {
        MemcachedOptions::default().start()
    }

    /// One with something special.
    pub(crate) fn with() -> MemcachedOptions {
        MemcachedOptions::default()
    }

    fn new(options: MemcachedOptions) -> (Self, Result<(), String>) {
        let folder = tempfile::Builder::new()
            .prefix("larder-memcached-")
            .tempdir()
            .unwrap();
        match (&options.user, &options.sasl) {
            (Some((name, password)), Some(mechanisms)) => {
                memcached_sasl::configure(folder.path(), mechanisms, name, password);
            }
            (Some((name, password)), None) => {
                fs::write(folder.path().join("users"), format!("{name}:{password}\n")).unwrap();
            }
            (None, _) => {}
        }
        let memcached = Self {
            port: free_port(),
            child: Mutex::new(None),
            certificates: options.tls.then(|| Certificates::write(folder.path())),
            options,
            folder,
        };
        let started = memcached.launch();
        (memcached, started)
    }

    /// As `CACHE_MEMCACHED_SERVERS` takes it.
    pub(crate) fn server(&self) -> String {
        match self.options.unix_socket {
            true => self.socket().display().to_string(),
            false => self.address().to_string(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where its socket, certificates and log are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("memcached.sock")
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
        // It may take in something for a moment yet.
        let state = format!("/proc/{}/stat", self.pid());
        let has_stopped = || {
            let state = fs::read_to_string(&state);
            state.is_ok_and(|it| it.rsplit(')').next().is_some_and(|it| it.starts_with(" T")))
        };
        let deadline = Instant::now() + PATIENCE;
        while Path::new(&state).exists() && !has_stopped() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on.
    pub(crate) fn cont(&self) {
        signal("CONT", self.pid());
    }

    /// Kills it and starts it again on the same port, without what it held.
    pub(crate) fn restart(&self) {
        self.kill();
        if let Err(log) = self.launch() {
            panic!("memcached did not come up again:\n{log}");
        }
    }

    /// Another password for its user, for whoever connects from now on.
    pub(crate) fn change_password(&self, password: &str) {
        let (name, _) = self.options.user.as_ref().expect("it has a user");
        if self.options.sasl.is_some() {
            return memcached_sasl::set_password(self.folder(), name, password);
        }
        let users = format!("{name}:{password}\n");
        fs::write(self.folder().join("users"), users).unwrap();
        signal("HUP", self.pid());
    }

    /// What it answers to lines of the text protocol, without TLS and without authentication.
    pub(crate) fn say(&self, lines: &str) -> String {
        String::from_utf8_lossy(&self.bytes(lines)).into_owned()
    }

    /// The same, to the byte.
    pub(crate) fn bytes(&self, lines: &str) -> Vec<u8> {
        match self.options.unix_socket {
            true => ask(UnixStream::connect(self.socket()).unwrap(), lines),
            false => ask(TcpStream::connect(self.address()).unwrap(), lines),
        }
    }

    /// A number among what it says of itself.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let stats = match (&self.options.sasl, &self.options.user) {
            (Some(_), Some((user, password))) => {
                let stream = TcpStream::connect(self.address()).unwrap();
                memcached_sasl::stats(stream, user, password)
            }
            _ => self.say("stats\r\n"),
        };
        let line = format!("STAT {name} ");
        let value = stats.lines().find_map(|it| it.strip_prefix(&line));
        value.expect("it has it").parse().unwrap()
    }

    fn launch(&self) -> Result<(), String> {
        let path = self.folder().join("log");
        let log = File::create(&path).unwrap();
        let mut command = mortal("memcached");
        let options = &self.options;
        // It does not run as root unless it is told to.
        command.args(["-u", "root", "-U", "0"]);
        match options.unix_socket {
            true => command.arg("-s").arg(self.socket()),
            false => {
                let port = self.port.to_string();
                command.args(["-l", "127.0.0.1", "-p", &port])
            }
        };
        match (&options.sasl, &options.user) {
            (Some(_), _) => {
                command.arg("-S").env("SASL_CONF_PATH", self.folder());
            }
            (None, Some(_)) => {
                command.arg("-Y").arg(self.folder().join("users"));
            }
            (None, None) => {}
        }
        if let Some(certificates) = &self.certificates {
            let mut tls = format!(
                "ssl_chain_cert={},ssl_key={}",
                certificates.server_certificate().display(),
                certificates.server_key().display()
            );
            if options.wants_client_certificate {
                let ca = certificates.ca();
                tls += &format!(",ssl_verify_mode=2,ssl_ca_cert={}", ca.display());
            }
            command.args(["-Z", "-o", &tls]);
        }
        command
            .args(&options.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = spawn(command);

        let deadline = Instant::now() + PATIENCE;
        loop {
            let answers = self.answers();
            // An answer alone could be that of another server on the port, where this one could not stay.
            if answers {
                thread::sleep(Duration::from_millis(5));
            }
            let ended = child.try_wait().unwrap().is_some();
            if answers && !ended {
                *self.child.lock().unwrap() = Some(child);
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                drop(child.kill());
                child.wait().unwrap();
                return Err(fs::read_to_string(&path).unwrap());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn answers(&self) -> bool {
        match self.options.unix_socket {
            true => UnixStream::connect(self.socket()).is_ok(),
            false => TcpStream::connect(self.address()).is_ok(),
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.kill();
    }
}

fn ask(mut stream: impl Read + Write, lines: &str) -> Vec<u8> {
    let lines = format!("{lines}quit\r\n");
    stream.write_all(lines.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}
