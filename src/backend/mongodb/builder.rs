use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use mongodb::{
    Client, Database,
    bson::RawDocumentBuf,
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, ConnectionString, Credential, HostInfo,
        ReadConcern, ReadPreference, SelectionCriteria, Tls, TlsOptions, WriteConcern,
    },
};

use super::{MongoDb, NAME, errors::not_a_url, link::Link, tls};
use crate::{Error, ErrorKind, Result};

/// The longest name of a database, in bytes, by the server's rules.
const DATABASE_LEN: usize = 63;

/// The longest name of a collection with that of its database and the dot between, in bytes.
const NAMESPACE_LEN: usize = 255;

/// The database where neither the builder nor the URL names one.
const DATABASE: &str = "larder";

/// How long it is looked for a server that can be asked, by whoever asks. The client's own default is half a minute.
const SELECTION: Duration = Duration::from_millis(250);

/// Connections that lie idle are closed before anybody between here and the server does so.
const IDLE: Duration = Duration::from_secs(50);

/// How long the server waits for the nodes of its replica set, in milliseconds. Nobody waits for the server that long.
const REPLICATION: i64 = 5_000;

/// The most connections to one server where nobody says.
const POOL: u32 = 32;

/// So many connections are kept open, which is as many as whoever writes takes.
const WRITER: u32 = 2;

/// Where a [`MongoDb`] keeps its entries and how it gets there. Begun with [`MongoDb::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct MongoDbBuilder {
    url: String,
    client: Option<Client>,
    database: Option<String>,
    collection: String,
    username: Option<String>,
    password: Option<String>,
    ca_file: Option<PathBuf>,
    client_cert_key_file: Option<PathBuf>,
    pool_size: Option<u32>,
    connect_timeout: Duration,
}

impl MongoDbBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            client: None,
            database: None,
            collection: "cache".to_owned(),
            username: None,
            password: None,
            ca_file: None,
            client_cert_key_file: None,
            pool_size: None,
            connect_timeout: Duration::from_secs(2),
        }
    }

    /// Uses a client that is there already, whatever the URL is (no setting). Its database and collection are those of
    /// this builder, its connections are its own business: [`Backend::close`](crate::Backend::close) does not close it.
    ///
    /// Its own `server_selection_timeout` is half a minute where nobody said otherwise; who asks while the server is
    /// gone waits as long as the cache lets it. No more of its connections are used at a time than
    /// [`pool_size`](Self::pool_size) says.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The database, else the one in the path of the URL, else `larder` (`CACHE_MONGODB_DATABASE`).
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// The collection, `cache` by default (`CACHE_MONGODB_COLLECTION`). It is made when it is not there.
    pub fn collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = collection.into();
        self
    }

    /// The user to log in as, in place of the one in the URL (`CACHE_MONGODB_USERNAME`).
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The user's password, in place of the one in the URL (`CACHE_MONGODB_PASSWORD`).
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The file with the certificates of the authorities to trust, in PEM form (`CACHE_MONGODB_CA_FILE`); without it,
    /// those that Mozilla trusts. It needs a URL with `tls=true`, or `mongodb+srv://`.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The file with the certificate to show to the server and its private key, both in PEM form
    /// (`CACHE_MONGODB_CLIENT_CERT_KEY_FILE`).
    pub fn client_cert_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_cert_key_file = Some(path.into());
        self
    }

    /// The most connections to one server, 32 by default or as the URL says (`CACHE_MONGODB_POOL_SIZE`). Whoever writes
    /// takes two.
    pub fn pool_size(mut self, connections: u32) -> Self {
        self.pool_size = Some(connections);
        self
    }

    /// The time to make a connection, and for [`connect`](Self::connect) to find the server and prepare the collection;
    /// two seconds by default (`CACHE_MONGODB_CONNECT_TIMEOUT`).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects, and makes the index by which the server removes what has ended, or sees that it is there.
    ///
    /// Call it on the runtime that lives as long as the cache: the client's own tasks run there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what cannot be right, by the name of its setting, and for a collection that is of
    /// another kind or has another index in that place; [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] where no
    /// server, or no primary, can be reached; [`ErrorKind::Backend`] where it refuses the user.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::{Cache, MongoDb};
    ///
    /// let mongodb = MongoDb::builder("mongodb://127.0.0.1:27017").database("shop").connect().await?;
    /// let cache = Cache::new(mongodb);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<MongoDb> {
        let limit = self.connect_timeout;
        let mongodb = self.connect_lazily().await?;
        match mongodb.0.connect(limit).await {
            Ok(()) => Ok(mongodb),
            Err(error) => {
                // What was opened is of no use to anybody.
                mongodb.0.close().await;
                Err(error)
            }
        }
    }

    /// Connects as soon as the server can be reached, which need not be now: every verb is an
    /// [`ErrorKind::Unavailable`] error until then, after a quarter of a second.
    ///
    /// Call it on the runtime that lives as long as the cache: the client's own tasks run there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what cannot be right, by the name of its setting. What is wrong with the collection is
    /// found out by the first verb that reaches it.
    pub async fn connect_lazily(self) -> Result<MongoDb> {
        let options = self.options().map_err(|error| error.on(NAME, "connect"))?;
        let link = Link::new(options);
        link.open_at_once().await?;
        Ok(MongoDb(link.into()))
    }

    fn options(self) -> Result<Options> {
        self.check()?;
        let url = match &self.client {
            Some(_) => None,
            None => Some(self.connection_string()?),
        };
        let write_concern = url.as_ref().and_then(|url| url.write_concern.clone());
        Ok(Options {
            client: self.client,
            read_concern: url.as_ref().and_then(|url| url.read_concern.clone()),
            write_concern: acknowledged(write_concern)?,
            url,
            username: self.username,
            password: self.password,
            database: self.database,
            collection: self.collection,
            pool_size: self.pool_size,
            connect_timeout: self.connect_timeout,
        })
    }

    fn check(&self) -> Result<()> {
        if let Some(database) = &self.database {
            check_database(database)?;
        }
        let collection = &self.collection;
        let trouble = if collection.is_empty() {
            Some("is empty".to_owned())
        } else if let Some(mark) = collection.chars().find(|c| matches!(c, '$' | '\0')) {
            Some(format!(
                "has {mark:?} in it, which the server does not allow"
            ))
        } else if collection.starts_with("system.") || collection.contains(".system.") {
            Some("is a name that the server keeps for itself".to_owned())
        } else if collection.starts_with('.') || collection.ends_with('.') {
            Some("begins or ends with a dot, which the server does not allow".to_owned())
        } else {
            let longest =
                NAMESPACE_LEN - 1 - self.database.as_ref().map_or(DATABASE_LEN, String::len);
            let len = collection.len();
            (len > longest).then(|| {
                format!("has {len} bytes, and at most {longest} are allowed beside the database's")
            })
        };
        if let Some(trouble) = trouble {
            return Err(wrong(format!("CACHE_MONGODB_COLLECTION {trouble}")));
        }
        if self.pool_size.is_some_and(|connections| connections < 2) {
            return Err(wrong(
                "CACHE_MONGODB_POOL_SIZE is below 2, and whoever writes takes two",
            ));
        }
        if self.username.is_none() && self.password.is_some() && !self.url.contains('@') {
            return Err(wrong(
                "CACHE_MONGODB_PASSWORD is set, and neither CACHE_MONGODB_USERNAME nor the URL names a user",
            ));
        }
        Ok(())
    }

    fn connection_string(&self) -> Result<ConnectionString> {
        if self.url.trim().is_empty() {
            return Err(wrong(
                "CACHE_MONGODB_URL is not set and no client was given",
            ));
        }
        let mut url = ConnectionString::parse(&self.url).map_err(|_| not_a_url())?;
        if self.database.is_none()
            && let Some(database) = &url.default_database
        {
            check_database(database)?;
        }
        if let Some(preference) = &url.read_preference
            && *preference != ReadPreference::Primary
        {
            return Err(wrong(
                "CACHE_MONGODB_URL has a readPreference other than primary: a secondary shows for a while what was \
                 deleted or replaced",
            ));
        }
        match &mut url.tls {
            Some(Tls::Enabled(tls)) => self.certificates(tls)?,
            _ if self.ca_file.is_some() || self.client_cert_key_file.is_some() => {
                return Err(wrong(
                    "certificates are for TLS: CACHE_MONGODB_CA_FILE and CACHE_MONGODB_CLIENT_CERT_KEY_FILE need \
                     tls=true in CACHE_MONGODB_URL",
                ));
            }
            _ => {}
        }
        Ok(url)
    }

    fn certificates(&self, tls: &mut TlsOptions) -> Result<()> {
        if tls.allow_invalid_certificates == Some(true) {
            return Err(wrong(
                "tlsInsecure and tlsAllowInvalidCertificates are not supported: name the certificate of the server's \
                 authority by CACHE_MONGODB_CA_FILE",
            ));
        }
        let set = |given: &Option<PathBuf>, of_url: &mut Option<PathBuf>| {
            if let Some(path) = given {
                *of_url = Some(path.clone());
            }
        };
        set(&self.ca_file, &mut tls.ca_file_path);
        set(&self.client_cert_key_file, &mut tls.cert_key_file_path);
        // The client itself passes over what is no certificate.
        let check = |path: &Option<PathBuf>, check: fn(&Path) -> Result<()>| {
            path.as_deref().map_or(Ok(()), check)
        };
        check(&tls.ca_file_path, tls::check_authorities)?;
        check(&tls.cert_key_file_path, tls::check_certificate_with_key)
    }
}

/// Shows names, never the URL nor a secret.
impl fmt::Debug for MongoDbBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDbBuilder")
            .field("client", &self.client.is_some())
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("username", &self.username)
            .field("password", &self.password.is_some())
            .field("ca_file", &self.ca_file)
            .field("client_cert_key_file", &self.client_cert_key_file)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// What a builder was told, once it is known to be sound.
pub(super) struct Options {
    /// A client that was given, and is somebody else's to close.
    pub(super) client: Option<Client>,
    url: Option<ConnectionString>,
    username: Option<String>,
    password: Option<String>,
    database: Option<String>,
    pub(super) collection: String,
    pool_size: Option<u32>,
    pub(super) connect_timeout: Duration,
    read_concern: Option<ReadConcern>,
    write_concern: RawDocumentBuf,
}

impl Options {
    /// Whether a name server has to be asked where the servers are.
    pub(super) fn needs_names(&self) -> bool {
        let url = self.url.as_ref();
        url.is_some_and(|url| matches!(url.host_info, HostInfo::DnsRecord(_)))
    }

    /// The most connections to one server.
    pub(super) fn connections(&self) -> u32 {
        let of_url = self.url.as_ref().and_then(|url| url.max_pool_size);
        self.pool_size.or(of_url).unwrap_or(POOL)
    }

    /// The options of the client, which what the URL says is left in.
    pub(super) async fn of_client(&self) -> mongodb::error::Result<ClientOptions> {
        let mut options = match &self.url {
            Some(url) => ClientOptions::parse(url.clone()).await?,
            None => ClientOptions::default(),
        };
        options.app_name.get_or_insert_with(|| "larder".to_owned());
        options.server_selection_timeout.get_or_insert(SELECTION);
        options.connect_timeout.get_or_insert(self.connect_timeout);
        options.max_idle_time.get_or_insert(IDLE);

        let most = self.connections();
        options.max_pool_size = Some(most);
        // Who may have a connection waits for its making and for nobody else's: the client's own default of two at a time
        // is slow after an outage.
        options.max_connecting.get_or_insert(most);
        options.min_pool_size.get_or_insert(WRITER.min(most));
        if self.username.is_some() || self.password.is_some() {
            let source = options.default_database.clone();
            let credential = options.credential.get_or_insert_with(|| {
                let mut credential = Credential::default();
                credential.source = source;
                credential
            });
            if self.username.is_some() {
                credential.username.clone_from(&self.username);
            }
            if self.password.is_some() {
                credential.password.clone_from(&self.password);
            }
        }
        Ok(options)
    }

    /// Reads are of the primary alone: a secondary shows for a while what was deleted.
    pub(super) fn of_collection(&self) -> CollectionOptions {
        let concern = self.read_concern.clone().unwrap_or_else(ReadConcern::local);
        CollectionOptions::builder()
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .read_concern(concern)
            .build()
    }

    pub(super) fn write_concern(&self) -> &RawDocumentBuf {
        &self.write_concern
    }

    /// The database: what was said, else what the URL says.
    pub(super) fn database(&self, of_client: Option<Database>) -> String {
        let of_url = of_client.map(|database| database.name().to_owned());
        let named = self.database.clone().or(of_url);
        named.unwrap_or_else(|| DATABASE.to_owned())
    }
}

/// What the server waits for before it says that something is written: a majority of its replica set, so that a new
/// primary has it, unless the URL says otherwise.
fn acknowledged(of_url: Option<WriteConcern>) -> Result<RawDocumentBuf> {
    let of_url = of_url.unwrap_or_default();
    let mut concern = RawDocumentBuf::new();
    match of_url.w {
        None | Some(Acknowledgment::Majority) => concern.append("w", "majority"),
        Some(Acknowledgment::Nodes(0)) => {
            return Err(wrong(
                "CACHE_MONGODB_URL has w=0, by which nobody would know whether something was written",
            ));
        }
        Some(Acknowledgment::Nodes(nodes)) => concern.append("w", i64::from(nodes)),
        Some(Acknowledgment::Custom(name)) => concern.append("w", name.as_str()),
        Some(_) => return Err(not_a_url()),
    }
    if let Some(journal) = of_url.journal {
        concern.append("j", journal);
    }
    let limit = of_url.w_timeout.map(|limit| limit.as_millis());
    let limit = limit.map_or(REPLICATION, |millis| {
        i64::try_from(millis).unwrap_or(i64::MAX)
    });
    concern.append("wtimeout", limit);
    Ok(concern)
}

fn check_database(name: &str) -> Result<()> {
    let setting = "CACHE_MONGODB_DATABASE, or the path of CACHE_MONGODB_URL,";
    if name.is_empty() {
        return Err(wrong(format!("{setting} is empty")));
    }
    if name.len() > DATABASE_LEN {
        let len = name.len();
        return Err(wrong(format!(
            "{setting} has {len} bytes, and at most {DATABASE_LEN} are allowed"
        )));
    }
    // Those of servers on Windows too: a name that is good everywhere.
    let forbidden = |c: &char| c.is_control() || "/\\. \"$*<>:|?".contains(*c);
    if let Some(mark) = name.chars().find(forbidden) {
        return Err(wrong(format!(
            "{setting} has {mark:?} in it, which the server does not allow"
        )));
    }
    if ["admin", "config", "local"].contains(&name) {
        return Err(wrong(format!(
            "{setting} is {name:?}, which the server keeps for itself"
        )));
    }
    Ok(())
}

fn wrong(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Settings, message)
}
