use super::parse::{Choice, Refusal, fold};

/// The format that values are kept in, as `CACHE_CODEC` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecKind {
    /// `json`: the codec [`Json`](crate::codec), under the feature `json`. Alias: `orjson`.
    #[default]
    Json,
}

impl CodecKind {
    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match fold(text).as_str() {
            "msgpack" | "messagepack" => return Err(Refusal::not_in_this_version("msgpack")),
            "postcard" => return Err(Refusal::not_in_this_version("postcard")),
            _ => {}
        }
        let kind = Choice::find(&[Choice(Self::Json, Self::Json.name(), &["orjson"])], text)?;
        if cfg!(feature = "json") {
            Ok(kind)
        } else {
            Err(Refusal::off_in_this_build("json"))
        }
    }
}

#[cfg(all(test, not(feature = "json")))]
mod tests {
    use crate::Settings;

    #[test]
    fn json_without_its_feature_is_refused_when_it_is_asked_for() {
        let pairs = [("CACHE_TYPE", "null"), ("CACHE_CODEC", "json")];
        assert_eq!(
            Settings::from_pairs(pairs).unwrap_err().to_string(),
            "CACHE_CODEC=json needs the feature \"json\" of larder, which is off in this build \
             (set in the pairs given)",
        );
        assert!(Settings::from_pairs([("CACHE_TYPE", "null")]).is_ok());
    }
}
