use std::{
    env, fs,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::{
    Client,
    config::{Credentials, Region},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use tempfile::TempDir;

use super::process::{free_port, mortal, signal, spawn};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that speaks as DynamoDB does: Dynoxide, whose program `LARDER_TEST_DYNOXIDE` names, in a folder of its own. It
/// ends when this is dropped, or when the tests are killed.
#[derive(Debug)]
pub(crate) struct DynamoDb {
    program: PathBuf,
    /// Whether data outlives a restart.
    persistent: bool,
    port: u16,
    child: Mutex<Option<Child>>,
    folder: TempDir,
}

impl DynamoDb {
    /// One that keeps its data in memory.
    pub(crate) fn start() -> Option<Self> {
        Self::launched(false)
    }

    /// One whose data outlive a restart.
    pub(crate) fn start_persistent() -> Option<Self> {
        Self::launched(true)
    }

    /// Where one is: the one that `LARDER_TEST_DYNAMODB_ENDPOINT` names, or else one that is started here and has to be
    /// kept.
    pub(crate) fn find() -> Option<(String, Option<Self>)> {
        match env::var("LARDER_TEST_DYNAMODB_ENDPOINT") {
            Ok(endpoint) if !endpoint.is_empty() => Some((endpoint, None)),
            _ => Self::start().map(|server| (server.endpoint(), Some(server))),
        }
    }

    fn launched(persistent: bool) -> Option<Self> {
        if env::var_os("LARDER_TEST_SKIP_SERVERS").is_some_and(|skip| skip == "1") {
            super::not_tested("DynamoDB", "LARDER_TEST_SKIP_SERVERS is 1");
            return None;
        }
        let Some(program) = env::var_os("LARDER_TEST_DYNOXIDE").filter(|path| !path.is_empty())
        else {
            super::not_tested("DynamoDB", "LARDER_TEST_DYNOXIDE is not set");
            return None;
        };
        // Between the moment a port is found free and the server's taking it another may come.
        let mut log = String::new();
        for _ in 0..10 {
            let server = Self {
                program: program.clone().into(),
                persistent,
                port: free_port(),
                child: Mutex::new(None),
                folder: tempfile::Builder::new()
                    .prefix("larder-dynamodb-")
                    .tempdir()
                    .unwrap(),
            };
            match server.launch() {
                Ok(()) => return Some(server),
                Err(told) => log = told,
            }
        }
        panic!("the program that LARDER_TEST_DYNOXIDE names did not come up:\n{log}");
    }

    /// The URL of the service.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Lets it crash.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap();
        child.as_ref().expect("it runs").id()
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
            panic!("DynamoDB did not come up again:\n{log}");
        }
    }

    fn launch(&self) -> Result<(), String> {
        let path = self.folder.path().join("log");
        let log = File::create(&path).unwrap();
        let mut command = mortal(self.program.to_str().expect("the path is a text"));
        command.args(["--host", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.persistent {
            command
                .arg("--db-path")
                .arg(self.folder.path().join("data.sqlite"));
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
            // An answer alone could be that of another server on the port.
            if !ended && log.contains("listening on") {
                *self.child.lock().unwrap() = Some(child);
                return Ok(());
            }
            if ended || Instant::now() > deadline {
                drop(child.kill());
                child.wait().unwrap();
                return Err(log);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client of the SDK that knows nothing of larder.
pub(crate) fn dynamodb_client(endpoint: &str) -> Client {
    let http = Builder::new()
        .tls_provider(Provider::rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"));
    Client::from_conf(config.build())
}
