use std::{
    fs::{self, File},
    process::{Child, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    process::{free_port, spawn},
    redis::{Options, Redis, redis_cli, redis_server},
    tls::Certificates,
};

/// How long a sentinel may take to know of its servers.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name that the sentinel knows its primary by.
pub(crate) const NAME: &str = "larder";

/// A primary, a replica of it, and a sentinel that watches both.
#[derive(Debug)]
pub(crate) struct Sentinel {
    servers: [Redis; 2],
    port: u16,
    password: Option<String>,
    certificates: Option<(Certificates, TempDir)>,
    child: Mutex<Option<Child>>,
    folder: TempDir,
}

impl Sentinel {
    /// Without passwords and TLS.
    pub(crate) fn start() -> Option<Self> {
        Self::with(None, None, false)
    }

    /// With a password of the servers and one of the sentinel, and TLS for all of them, where they are asked for. With TLS,
    /// all of them want a certificate of the client.
    pub(crate) fn with(
        of_servers: Option<&str>,
        of_sentinel: Option<&str>,
        tls: bool,
    ) -> Option<Self> {
        let certificates = tls.then(|| {
            let folder = tempfile::tempdir().unwrap();
            (Certificates::write(folder.path()), folder)
        });
        let start = || {
            let mut options = Options::default().config("repl-diskless-sync-delay 0");
            if let Some(password) = of_servers {
                options = options
                    .password(password)
                    .config(&format!("masterauth {password}"));
            }
            match &certificates {
                Some((certificates, _)) => options.mtls().tls_by(certificates).start(),
                None => options.start(),
            }
        };
        let servers = [start()?, start()?];
        let port = servers[0].port().to_string();
        servers[1].cli(&["REPLICAOF", "127.0.0.1", &port]);
        wait("the replica is one", || {
            let replication = servers[1].cli(&["INFO", "replication"]);
            replication.contains("master_link_status:up")
        });

        let folder = tempfile::tempdir().unwrap();
        let sentinel = Self {
            servers,
            port: free_port(),
            password: of_sentinel.map(ToOwned::to_owned),
            certificates,
            child: Mutex::new(None),
            folder,
        };
        sentinel.launch(of_servers);
        wait("the sentinel knows the replica", || {
            sentinel
                .cli(&["SENTINEL", "MASTER", NAME])
                .contains("num-slaves\n1\n")
        });
        Some(sentinel)
    }

    fn launch(&self, of_servers: Option<&str>) {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("dir \"{}\"", self.folder.path().display()),
        ];
        if let Some((certificates, _)) = &self.certificates {
            let file = |path: std::path::PathBuf| format!("\"{}\"", path.display());
            lines.extend([
                "port 0".to_owned(),
                format!("tls-port {}", self.port),
                format!("tls-cert-file {}", file(certificates.server_certificate())),
                format!("tls-key-file {}", file(certificates.server_key())),
                format!("tls-ca-cert-file {}", file(certificates.ca())),
                "tls-auth-clients yes".to_owned(),
                "tls-replication yes".to_owned(),
                format!(
                    "tls-client-cert-file {}",
                    file(certificates.client_certificate())
                ),
                format!("tls-client-key-file {}", file(certificates.client_key())),
            ]);
        } else {
            lines.push(format!("port {}", self.port));
        }
        if let Some(password) = &self.password {
            lines.push(format!("requirepass {password}"));
        }
        lines.extend([
            format!(
                "sentinel monitor {NAME} 127.0.0.1 {} 1",
                self.servers[0].port()
            ),
            format!("sentinel down-after-milliseconds {NAME} 500"),
            format!("sentinel failover-timeout {NAME} 2000"),
        ]);
        if let Some(password) = of_servers {
            lines.push(format!("sentinel auth-pass {NAME} {password}"));
        }
        // It writes what it finds out to its own configuration.
        let config = self.folder.path().join("sentinel.conf");
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut command = redis_server();
        command
            .arg(config)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        *self.child.lock().unwrap() = Some(spawn(command));
        wait("the sentinel answers", || self.ask(&["PING"]) == "PONG");
    }

    /// `host:port` of the sentinel.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        let certificates = self.certificates.as_ref();
        &certificates.expect("it was started with tls").0
    }

    /// Both servers, the primary of the beginning first.
    pub(crate) fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// The port of the server that is the primary, as the sentinel knows.
    pub(crate) fn primary(&self) -> u16 {
        let address = self.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        address.lines().last().unwrap().parse().unwrap()
    }

    /// What a command to the sentinel prints.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        self.ask(command)
    }

    fn ask(&self, command: &[&str]) -> String {
        let mut all = vec!["-p".to_owned(), self.port.to_string()];
        if let Some((certificates, _)) = &self.certificates {
            all.push("--tls".to_owned());
            for (option, file) in [
                ("--cacert", certificates.ca()),
                ("--cert", certificates.client_certificate()),
                ("--key", certificates.client_key()),
            ] {
                all.extend([option.to_owned(), file.display().to_string()]);
            }
        }
        if let Some(password) = &self.password {
            all.extend(["--no-auth-warning", "-a", password].map(ToOwned::to_owned));
        }
        all.extend(command.iter().map(ToString::to_string));
        let output = redis_cli(&all);
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim_end().to_owned() + if command.len() > 1 { "\n" } else { "" }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
