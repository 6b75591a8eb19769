//! Every setting there is, in the order of the documentation.

use super::{
    BackendKind, ConnectMode, Secret, Settings, aerospike,
    backend_kind::is_binary_memcached,
    database, dynamodb, memcached, mongodb,
    nearest::nearest,
    parse::{
        Refusal, at_least_one, bytes, codec, duration, flag, memory_policy, seconds,
        seconds_or_never, times,
    },
    redis, sqlite,
};
use crate::CodecKind;

pub(super) const PREFIX: &str = "CACHE_";

/// The variable that names the file. It is no setting: the file cannot name another one.
pub(super) const CONFIG: &str = "CACHE_CONFIG";

/// Prefixes that belong to larder alone, so that an unknown name under one of them is a mistake and not a stranger.
pub(super) const SECTIONS: &[&str] = &[
    "CACHE_MEMORY_",
    "CACHE_REDIS_",
    "CACHE_AEROSPIKE_",
    "CACHE_MEMCACHED_",
    "CACHE_SQLITE_",
    "CACHE_POSTGRES_",
    "CACHE_MYSQL_",
    "CACHE_DYNAMODB_",
    "CACHE_MONGODB_",
];

/// The shortest `CACHE_HASH_KEY`: 128 bits, out of reach of guessing.
const HASH_KEY_LEN: usize = 16;

pub(super) struct Setting {
    pub(super) variable: &'static str,
    /// What a right value is, for the sentence `CACHE_… must be …`.
    pub(super) expects: &'static str,
    /// The value where nothing is set; `None` where nothing set is a state of its own.
    pub(super) default: Option<&'static str>,
    pub(super) form: Form,
    pub(super) read: fn(&mut Settings, &str) -> Result<(), Refusal>,
}

/// How the value of a setting may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A number, a flag or a name: space around it means nothing, and a file may leave the quotes out where TOML
    /// allows that.
    Word,
    /// A text that counts to the letter.
    Text,
    /// A text that must never be shown.
    Secret,
}

impl Setting {
    /// The name in a file.
    pub(super) fn key(&self) -> String {
        self.variable[PREFIX.len()..].to_ascii_lowercase()
    }
}

pub(super) fn by_variable(variable: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.variable == variable)
}

/// Every setting, section by section.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    TABLES.iter().copied().flatten()
}

static TABLES: &[&[Setting]] = &[
    &SETTINGS,
    &redis::SETTINGS,
    &aerospike::SETTINGS,
    &memcached::SETTINGS,
    &sqlite::SETTINGS,
    &database::POSTGRES,
    &database::MYSQL,
    &dynamodb::SETTINGS,
    &mongodb::SETTINGS,
];

/// The variable that was surely meant by a name that is another program's, or else the nearest, and how many edits away
/// it is.
pub(super) fn meant(name: &str) -> Option<(&'static str, usize)> {
    let mut elsewhere = redis::OTHER_NAMES.iter().chain(&memcached::OTHER_NAMES);
    match elsewhere.find(|(other, _)| *other == name) {
        Some((_, ours)) => Some((ours, 0)),
        None => nearest(name, all().map(|setting| setting.variable).chain([CONFIG])),
    }
}

static SETTINGS: [Setting; 16] = [
    Setting {
        variable: "CACHE_TYPE",
        expects: "memory, redis, aerospike, memcached, mongodb, dynamodb, sqlite, postgres, mysql or null",
        default: Some("memory"),
        form: Form::Word,
        read: |settings, text| {
            settings.backend = BackendKind::parse(text)?;
            if settings.backend == BackendKind::Redis {
                settings.redis.named(text);
            }
            settings.memcached.binary_protocol = is_binary_memcached(text);
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_DEFAULT_TIMEOUT",
        expects: "whole seconds, 0 for never",
        default: Some("300"),
        form: Form::Word,
        read: |settings, text| seconds_or_never(text).map(|ttl| settings.default_ttl = ttl),
    },
    Setting {
        variable: "CACHE_KEY_PREFIX",
        expects: "a text",
        default: Some("larder"),
        form: Form::Text,
        read: |settings, text| {
            settings.key_prefix = text.to_owned();
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_THRESHOLD",
        expects: "a whole number of entries, at least 1",
        default: None,
        form: Form::Word,
        read: |settings, text| at_least_one(text).map(|most| settings.threshold = Some(most)),
    },
    Setting {
        variable: "CACHE_MAX_BYTES",
        expects: "a whole number of bytes, at least 1, or one with a unit such as 64MiB or 64MB",
        default: Some("64MiB"),
        form: Form::Word,
        read: |settings, text| bytes(text).map(|most| settings.max_bytes = most),
    },
    Setting {
        variable: "CACHE_MEMORY_POLICY",
        expects: "s3-fifo, tiny-lfu or lru",
        default: Some("s3-fifo"),
        form: Form::Word,
        read: |settings, text| memory_policy(text).map(|policy| settings.memory_policy = policy),
    },
    Setting {
        variable: "CACHE_CODEC",
        expects: "json, msgpack or postcard",
        // Without any there is no codec to name, and a cache of responses needs none.
        default: match CodecKind::FIRST {
            Some(kind) => Some(kind.name()),
            None => None,
        },
        form: Form::Word,
        read: |settings, text| codec(text).map(|kind| settings.codec = kind),
    },
    Setting {
        variable: "CACHE_IGNORE_ERRORS",
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.ignore_errors = on),
    },
    Setting {
        variable: "CACHE_TTL_MIN",
        expects: "whole seconds, at least 1",
        default: None,
        form: Form::Word,
        read: |settings, text| seconds(text).map(|ttl| settings.ttl_min = Some(ttl)),
    },
    Setting {
        variable: "CACHE_TTL_MAX",
        expects: "whole seconds, at least 1",
        default: None,
        form: Form::Word,
        read: |settings, text| seconds(text).map(|ttl| settings.ttl_max = Some(ttl)),
    },
    Setting {
        variable: "CACHE_NO_NULL_WARNING",
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.no_null_warning = on),
    },
    Setting {
        variable: "CACHE_HASH_KEY",
        expects: "a text of at least 16 bytes",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            if text.len() < HASH_KEY_LEN {
                return Err(Refusal::Malformed);
            }
            settings.hash_key = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_BACKEND_TIMEOUT",
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("250ms"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|limit| settings.backend_timeout = limit),
    },
    Setting {
        variable: "CACHE_BREAKER_FAILURES",
        expects: "a whole number, at least 1",
        default: Some("5"),
        form: Form::Word,
        read: |settings, text| times(text).map(|most| settings.breaker_failures = most),
    },
    Setting {
        variable: "CACHE_BREAKER_DELAY",
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("1s"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|delay| settings.breaker_delay = delay),
    },
    Setting {
        variable: "CACHE_CONNECT",
        expects: "eager or lazy",
        default: Some("eager"),
        form: Form::Word,
        read: |settings, text| ConnectMode::parse(text).map(|mode| settings.connect = mode),
    },
];

// The file and the documentation describe a build that has the default codec.
#[cfg(all(test, feature = "json"))]
mod tests {
    use figment::providers::{Format, Toml};
    use figment::value::Dict;

    use super::*;

    const FILE: &str = include_str!("../../config/cache.toml");
    const DOCUMENTATION: &str = include_str!("../settings.rs");

    /// The comment above a setting in the file, on one line, and the line of the setting itself.
    fn paragraph(setting: &Setting) -> (String, &'static str) {
        let head = format!("# {}: ", setting.variable);
        let paragraph = FILE
            .split("\n\n")
            .find(|paragraph| paragraph.starts_with(&head))
            .unwrap_or_else(|| {
                panic!(
                    "config/cache.toml has no paragraph for {}",
                    setting.variable
                )
            });
        let (comment, line) = paragraph
            .trim_end()
            .rsplit_once('\n')
            .expect("the line of the setting ends its paragraph");
        let comment: Vec<&str> = comment
            .lines()
            .map(|line| line.trim_start_matches("# "))
            .collect();
        (comment.join(" "), line)
    }

    #[test]
    fn the_file_shows_every_setting_with_its_variable_and_default() {
        for setting in all() {
            let (comment, line) = paragraph(setting);
            let (variable, default) = (setting.variable, setting.default.unwrap_or("unset"));
            assert!(
                comment.contains(setting.expects),
                "{variable} must be {}",
                setting.expects
            );
            assert!(
                comment.ends_with(&format!("Default: {default}.")),
                "{variable} is {default}"
            );
            let example = line.strip_prefix('#');
            assert_eq!(example.is_none(), setting.default.is_some(), "{line}");
            let pair: Dict = Toml::from_str(example.unwrap_or(line)).unwrap();
            assert_eq!(pair.keys().collect::<Vec<_>>(), [&setting.key()]);
        }
    }

    #[test]
    fn the_file_shows_nothing_that_is_no_setting() {
        let uncommented: Vec<&str> = FILE
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .collect();
        let keys: Dict = Toml::from_str(&uncommented.join("\n")).unwrap();
        assert_eq!(keys.len(), all().count());
    }

    #[test]
    fn the_documentation_lists_every_setting_with_its_default() {
        for setting in all() {
            let default = setting
                .default
                .map_or("unset".to_owned(), |text| format!("`{text}`"));
            let row = format!("/// | `{}` | {default} | ", setting.variable);
            assert!(DOCUMENTATION.contains(&row), "no row starts with {row}");
        }
    }

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_type() {
        let mut settings = Settings {
            default_ttl: None,
            ..Settings::default()
        };
        settings.key_prefix.clear();
        settings.aerospike.namespace.clear();
        settings.memcached.servers.clear();
        settings.dynamodb.table.clear();
        settings.mongodb.collection.clear();
        for setting in all() {
            let Some(default) = setting.default else {
                continue;
            };
            if setting.variable != "CACHE_TYPE" || cfg!(feature = "memory") {
                assert_eq!(
                    (setting.read)(&mut settings, default),
                    Ok(()),
                    "{}",
                    setting.variable
                );
            }
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn every_codec_is_named_where_one_is_expected() {
        let expects = by_variable("CACHE_CODEC").map(|setting| setting.expects);
        for kind in CodecKind::ALL {
            assert!(expects.is_some_and(|expects| expects.contains(kind.name())));
        }
    }

    #[test]
    fn every_variable_has_the_prefix_that_its_key_drops() {
        assert!(all().all(|setting| setting.variable.starts_with(PREFIX)));
    }
}
