//! The section of DynamoDB: `CACHE_DYNAMODB_*`.

use std::{path::PathBuf, time::Duration};

use super::{
    Secret,
    parse::{Refusal, at_least_one, duration, flag},
    table::{Form, Setting},
};

/// What `CACHE_TYPE=dynamodb` needs to know; read by the builder of the same name, `larder::DynamoDb`.
///
/// # Examples
///
/// ```
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([
///     ("CACHE_DYNAMODB_TABLE", "pages"),
///     ("CACHE_DYNAMODB_REGION", "eu-central-1"),
/// ])?;
/// assert_eq!(settings.dynamodb.table, "pages");
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DynamoDbSettings {
    /// The name of the table (`CACHE_DYNAMODB_TABLE`).
    pub table: String,
    /// The region of the table; where there is none, the SDK looks for one (`CACHE_DYNAMODB_REGION`).
    pub region: Option<String>,
    /// The URL of the service, in place of the region's (`CACHE_DYNAMODB_ENDPOINT`).
    pub endpoint: Option<String>,
    /// The access key to sign requests with; where there is none, the SDK looks for one
    /// (`CACHE_DYNAMODB_ACCESS_KEY_ID`).
    pub access_key_id: Option<String>,
    /// The secret of that key (`CACHE_DYNAMODB_SECRET_ACCESS_KEY`).
    pub secret_access_key: Option<Secret>,
    /// The token of the session that the key is of (`CACHE_DYNAMODB_SESSION_TOKEN`).
    pub session_token: Option<Secret>,
    /// The certificates of the authorities that the service's may be of, in place of this machine's
    /// (`CACHE_DYNAMODB_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// Whether a table that is not there is made (`CACHE_DYNAMODB_CREATE`).
    pub create: bool,
    /// The time for one request (`CACHE_DYNAMODB_TIMEOUT`).
    pub timeout: Duration,
    /// The time to make a connection, and for each question about the table (`CACHE_DYNAMODB_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// The most connections (`CACHE_DYNAMODB_MAX_CONNS`).
    pub max_conns: usize,
}

impl Default for DynamoDbSettings {
    fn default() -> Self {
        Self {
            table: "larder".to_owned(),
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
}

const TABLE: &str = "CACHE_DYNAMODB_TABLE";
const REGION: &str = "CACHE_DYNAMODB_REGION";
const ENDPOINT: &str = "CACHE_DYNAMODB_ENDPOINT";
const ACCESS_KEY_ID: &str = "CACHE_DYNAMODB_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "CACHE_DYNAMODB_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "CACHE_DYNAMODB_SESSION_TOKEN";
const CA_FILE: &str = "CACHE_DYNAMODB_CA_FILE";
const CREATE: &str = "CACHE_DYNAMODB_CREATE";
const TIMEOUT: &str = "CACHE_DYNAMODB_TIMEOUT";
const CONNECT_TIMEOUT: &str = "CACHE_DYNAMODB_CONNECT_TIMEOUT";
const MAX_CONNS: &str = "CACHE_DYNAMODB_MAX_CONNS";

impl DynamoDbSettings {
    /// What is wrong with settings that are right one by one; `set` tells which of them are set at all.
    pub(super) fn contradictions(&self, set: impl Fn(&'static str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        let mut needs = |one: &'static str, other: &'static str, why: &str| {
            if set(one) && !set(other) {
                found.push(format!("{one} is set and {other} is not; {why}"));
            }
        };
        let pair = "a key and its secret go together";
        needs(ACCESS_KEY_ID, SECRET_ACCESS_KEY, pair);
        needs(SECRET_ACCESS_KEY, ACCESS_KEY_ID, pair);
        needs(
            SESSION_TOKEN,
            ACCESS_KEY_ID,
            "the token is of a session with a key",
        );
        found
    }
}

pub(super) static SETTINGS: [Setting; 11] = [
    Setting {
        variable: TABLE,
        expects: "3 to 255 letters of ASCII, digits, _, - and .",
        default: Some("larder"),
        form: Form::Word,
        read: |settings, text| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            if !(3..=255).contains(&text.len()) || !text.bytes().all(plain) {
                return Err(Refusal::Malformed);
            }
            settings.dynamodb.table = text.to_owned();
            Ok(())
        },
    },
    Setting {
        variable: REGION,
        expects: "the name of a region such as eu-central-1",
        default: None,
        form: Form::Word,
        read: |settings, text| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if !text.bytes().all(plain) {
                return Err(Refusal::Malformed);
            }
            settings.dynamodb.region = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: ENDPOINT,
        expects: "a URL such as http://127.0.0.1:8000",
        default: None,
        form: Form::Word,
        read: |settings, text| {
            let schemes = ["http://", "https://"];
            if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
                return Err(Refusal::Malformed);
            }
            settings.dynamodb.endpoint = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: ACCESS_KEY_ID,
        expects: "a text",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.dynamodb.access_key_id = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: SECRET_ACCESS_KEY,
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.dynamodb.secret_access_key = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: SESSION_TOKEN,
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.dynamodb.session_token = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: CA_FILE,
        expects: "a path",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.dynamodb.ca_file = Some(text.into());
            Ok(())
        },
    },
    Setting {
        variable: CREATE,
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.dynamodb.create = on),
    },
    Setting {
        variable: TIMEOUT,
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("250ms"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|limit| settings.dynamodb.timeout = limit),
    },
    Setting {
        variable: CONNECT_TIMEOUT,
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("5s"),
        form: Form::Word,
        read: |settings, text| {
            duration(text).map(|limit| settings.dynamodb.connect_timeout = limit)
        },
    },
    Setting {
        variable: MAX_CONNS,
        expects: "a whole number of connections, at least 1",
        default: Some("256"),
        form: Form::Word,
        read: |settings, text| {
            let most = at_least_one(text)?;
            settings.dynamodb.max_conns = usize::try_from(most).unwrap_or(usize::MAX);
            Ok(())
        },
    },
];
