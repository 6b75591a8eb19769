use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use aws_sdk_dynamodb::{Client, config::Credentials};

use super::{
    DynamoDb,
    client::{self, Place},
    connection::Connection,
    error::Failure,
    table::wrong_name,
};
use crate::{Error, ErrorKind, Result};

/// Where a [`DynamoDb`] keeps its entries and how it gets there. Begun with [`DynamoDb::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct DynamoDbBuilder {
    table: String,
    client: Option<Client>,
    region: Option<String>,
    endpoint: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    ca_file: Option<PathBuf>,
    create: bool,
    timeout: Duration,
    connect_timeout: Duration,
    max_conns: usize,
}

impl DynamoDbBuilder {
    pub(super) fn new(table: String) -> Self {
        Self {
            table,
            client: None,
            region: None,
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            ca_file: None,
            create: false,
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(5),
            max_conns: 256,
        }
    }

    /// Uses a client that is there already, whatever is said here of region, endpoint, credentials and certificates (no
    /// setting). Its connections and credentials are shared with it; its times and retries are those of this builder.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(client: aws_sdk_dynamodb::Client) -> larder::Result<()> {
    /// use larder::{Cache, DynamoDb};
    ///
    /// let dynamodb = DynamoDb::builder("pages").client(client).connect().await?;
    /// let cache = Cache::new(dynamodb);
    /// # Ok(())
    /// # }
    /// ```
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The region of the table (`CACHE_DYNAMODB_REGION`). Where none is named, the SDK looks for one: `AWS_REGION`, the
    /// profile, and the metadata service of the machine.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The URL of the service, in place of the region's (`CACHE_DYNAMODB_ENDPOINT`): `http://127.0.0.1:8000` for one on
    /// this machine.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The access key to sign requests with (`CACHE_DYNAMODB_ACCESS_KEY_ID`, `CACHE_DYNAMODB_SECRET_ACCESS_KEY`). Where
    /// none is named, the SDK looks for one: `AWS_ACCESS_KEY_ID` and its like, the profile, a web identity, and the role
    /// of the container or the machine.
    pub fn credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
    ) -> Self {
        self.access_key_id = Some(access_key_id.into());
        self.secret_access_key = Some(secret_access_key.into());
        self
    }

    /// The token of the session that the access key is of (`CACHE_DYNAMODB_SESSION_TOKEN`).
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// The file with the certificates of the authorities that the service's may be of, in PEM form, in place of this
    /// machine's (`CACHE_DYNAMODB_CA_FILE`).
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Whether a table that is not there is made, billed by request and with its time to live switched on
    /// (`CACHE_DYNAMODB_CREATE`). By default it has to be there.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// The time for one request, 250 milliseconds by default (`CACHE_DYNAMODB_TIMEOUT`).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The time to make a connection, and for each question about the table, five seconds by default
    /// (`CACHE_DYNAMODB_CONNECT_TIMEOUT`).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The most connections, 256 by default (`CACHE_DYNAMODB_MAX_CONNS`). Each has one request at a time.
    pub fn max_conns(mut self, connections: usize) -> Self {
        self.max_conns = connections;
        self
    }

    /// Connects, and makes sure that the table is there and as it has to be. Where it is made, this waits until it is
    /// ready: some seconds, and a minute at most.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what cannot be right, by the name of its setting, and for a table that is not there
    /// or has another key; [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] where the service cannot be reached or
    /// no credentials were found; [`ErrorKind::Backend`] where it refuses them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::{Cache, DynamoDb};
    ///
    /// let dynamodb = DynamoDb::builder("pages").region("eu-central-1").connect().await?;
    /// let cache = Cache::new(dynamodb);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<DynamoDb> {
        let table = self.table.clone();
        let dynamodb = self.start().await?;
        let waited = dynamodb.0.wait_for_table().await;
        waited.map_err(|failure| match failure {
            Failure::NoTable(error) => wrong(format!(
                "CACHE_DYNAMODB_TABLE: there is no table {table:?} in this region, or none that these credentials see; \
                 make it, or set CACHE_DYNAMODB_CREATE=true"
            ))
            .caused_by(error),
            failure => dynamodb.0.explain("connect", failure),
        })?;
        Ok(dynamodb)
    }

    /// Connects with the first verb, which looks for the table too: where it is not there or cannot be reached, verbs
    /// are errors until it can.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what cannot be right, by the name of its setting.
    pub async fn connect_lazily(self) -> Result<DynamoDb> {
        self.start().await
    }

    async fn start(mut self) -> Result<DynamoDb> {
        self.check()?;
        let given = self.client.take();
        let client = match given {
            Some(client) => client,
            None => self.open().await?,
        };
        let clients = client::clients(&client, self.timeout, self.connect_timeout);
        let connection = Connection::new(
            clients,
            self.table,
            self.create,
            self.timeout,
            self.max_conns,
        );
        Ok(DynamoDb(connection.into()))
    }

    fn check(&self) -> Result<()> {
        if let Some(trouble) = wrong_name(&self.table) {
            return Err(wrong(format!(
                "CACHE_DYNAMODB_TABLE {trouble}, and is {:?}",
                self.table
            )));
        }
        for (name, empty) in [
            ("CACHE_DYNAMODB_TIMEOUT", self.timeout.is_zero()),
            (
                "CACHE_DYNAMODB_CONNECT_TIMEOUT",
                self.connect_timeout.is_zero(),
            ),
        ] {
            if empty {
                return Err(wrong(format!("{name} is no time at all")));
            }
        }
        if let Some(trouble) = self.endpoint.as_deref().and_then(wrong_endpoint) {
            return Err(wrong(format!("CACHE_DYNAMODB_ENDPOINT {trouble}")));
        }
        if self.region.as_deref().is_some_and(is_no_region) {
            return Err(wrong(
                "CACHE_DYNAMODB_REGION is no name of a region, such as eu-central-1",
            ));
        }
        // They become a part of a header.
        for (name, value) in [
            ("CACHE_DYNAMODB_ACCESS_KEY_ID", &self.access_key_id),
            ("CACHE_DYNAMODB_SECRET_ACCESS_KEY", &self.secret_access_key),
            ("CACHE_DYNAMODB_SESSION_TOKEN", &self.session_token),
        ] {
            let is_plain = |value: &String| {
                !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())
            };
            if !value.as_ref().is_none_or(is_plain) {
                return Err(wrong(format!(
                    "{name} is empty, or has a space or a line break in it, or what is not ASCII"
                )));
            }
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            return Err(wrong(
                "CACHE_DYNAMODB_SESSION_TOKEN is set, and CACHE_DYNAMODB_ACCESS_KEY_ID is not",
            ));
        }
        Ok(())
    }

    async fn open(&self) -> Result<Client> {
        let credentials = match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => Some(Credentials::new(
                id,
                secret,
                self.session_token.clone(),
                None,
                "larder",
            )),
            _ => None,
        };
        let place = Place {
            region: self.region.as_deref(),
            endpoint: self.endpoint.as_deref(),
            credentials,
            ca: self.ca_file.as_deref(),
            connect_timeout: self.connect_timeout,
        };
        client::client(place).await
    }
}

/// Shows names, never a secret.
impl fmt::Debug for DynamoDbBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbBuilder")
            .field("table", &self.table)
            .field("client", &self.client.is_some())
            .field("region", &self.region)
            .field("endpoint", &self.endpoint.is_some())
            .field("credentials", &self.access_key_id.is_some())
            .field("ca_file", &self.ca_file)
            .field("create", &self.create)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A region becomes a part of a host's name.
fn is_no_region(name: &str) -> bool {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !(1..=63).contains(&name.len()) || !name.bytes().all(of_a_name)
}

/// What is wrong with the URL of the service, if anything is.
fn wrong_endpoint(endpoint: &str) -> Option<&'static str> {
    const NO_URL: Option<&str> = Some("is no URL with http:// or https:// and a host");
    let Ok(url) = endpoint.parse::<http::Uri>() else {
        return NO_URL;
    };
    match (url.scheme_str(), url.authority()) {
        (Some("http" | "https"), Some(place)) if place.as_str().contains('@') => Some(
            "names a user; see CACHE_DYNAMODB_ACCESS_KEY_ID and CACHE_DYNAMODB_SECRET_ACCESS_KEY",
        ),
        (Some("http" | "https"), Some(place)) if !place.host().is_empty() => None,
        _ => NO_URL,
    }
}

pub(super) fn wrong(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Settings, message).on("dynamodb", "connect")
}
