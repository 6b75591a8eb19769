//! The section of MongoDB: `CACHE_MONGODB_*`.

use std::time::Duration;

use super::{
    Secret,
    parse::{Refusal, duration, whole},
    table::{Form, Setting},
};

/// Where the MongoDB servers are, and how to talk to them: the `CACHE_MONGODB_*` settings.
///
/// User and password may stand beside the URL, and win over those in it. What else a URL may say, of replica sets, TLS,
/// time-outs and so on, is that of every MongoDB client.
///
/// # Examples
///
/// ```
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([
///     ("CACHE_MONGODB_URL", "mongodb://cache.example/?tls=true"),
///     ("CACHE_MONGODB_DATABASE", "shop"),
/// ])?;
/// assert_eq!(settings.mongodb.database.as_deref(), Some("shop"));
/// assert_eq!(settings.mongodb.collection, "cache");
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MongoDbSettings {
    /// Where the servers are, as `mongodb://` or `mongodb+srv://`; secret, because it may hold a password
    /// (`CACHE_MONGODB_URL`).
    pub url: Option<Secret>,
    /// The database; `None` for the one in the path of the URL, else `larder` (`CACHE_MONGODB_DATABASE`).
    pub database: Option<String>,
    /// The collection (`CACHE_MONGODB_COLLECTION`).
    pub collection: String,
    /// The user to log in as (`CACHE_MONGODB_USERNAME`).
    pub username: Option<String>,
    /// The user's password (`CACHE_MONGODB_PASSWORD`).
    pub password: Option<Secret>,
    /// The file with the certificates of the authorities to trust (`CACHE_MONGODB_CA_FILE`).
    pub ca_file: Option<String>,
    /// The file with the certificate to show to the server and its private key (`CACHE_MONGODB_CLIENT_CERT_KEY_FILE`).
    pub client_cert_key_file: Option<String>,
    /// The most connections to one server; `None` as the URL says, else 32 (`CACHE_MONGODB_POOL_SIZE`).
    pub pool_size: Option<u32>,
    /// The time to make a connection (`CACHE_MONGODB_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
}

impl Default for MongoDbSettings {
    fn default() -> Self {
        Self {
            url: None,
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
}

const URL: &str = "CACHE_MONGODB_URL";
const DATABASE: &str = "CACHE_MONGODB_DATABASE";
const COLLECTION: &str = "CACHE_MONGODB_COLLECTION";
const USERNAME: &str = "CACHE_MONGODB_USERNAME";
const PASSWORD: &str = "CACHE_MONGODB_PASSWORD";
const CA_FILE: &str = "CACHE_MONGODB_CA_FILE";
const CLIENT_CERT_KEY_FILE: &str = "CACHE_MONGODB_CLIENT_CERT_KEY_FILE";
const POOL_SIZE: &str = "CACHE_MONGODB_POOL_SIZE";
const CONNECT_TIMEOUT: &str = "CACHE_MONGODB_CONNECT_TIMEOUT";

pub(super) static SETTINGS: [Setting; 9] = [
    Setting {
        variable: URL,
        expects: "a URL such as mongodb://user:password@host:27017 or mongodb+srv://host",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            let schemes = ["mongodb://", "mongodb+srv://"];
            if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
                return Err(Refusal::Malformed);
            }
            settings.mongodb.url = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: DATABASE,
        expects: "a name of at most 63 bytes",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.mongodb.database = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: COLLECTION,
        expects: "a name",
        default: Some("cache"),
        form: Form::Text,
        read: |settings, text| {
            settings.mongodb.collection = text.to_owned();
            Ok(())
        },
    },
    Setting {
        variable: USERNAME,
        expects: "a text",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.mongodb.username = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: PASSWORD,
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.mongodb.password = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: CA_FILE,
        expects: "the path of a PEM file",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.mongodb.ca_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CLIENT_CERT_KEY_FILE,
        expects: "the path of a PEM file",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.mongodb.client_cert_key_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: POOL_SIZE,
        expects: "a whole number of connections, at least 2",
        default: None,
        form: Form::Word,
        read: |settings, text| {
            let number = u32::try_from(whole(text)?).map_err(|_| Refusal::Malformed)?;
            // Whoever writes takes two.
            if number < 2 {
                return Err(Refusal::Malformed);
            }
            settings.mongodb.pool_size = Some(number);
            Ok(())
        },
    },
    Setting {
        variable: CONNECT_TIMEOUT,
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("2s"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|limit| settings.mongodb.connect_timeout = limit),
    },
];
