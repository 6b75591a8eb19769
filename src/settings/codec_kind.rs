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
