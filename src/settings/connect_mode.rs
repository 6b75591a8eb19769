use super::parse::{Choice, Refusal};

/// What happens at start-up when the backend cannot be reached, as `CACHE_CONNECT` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectMode {
    /// `eager`: making the cache fails.
    #[default]
    Eager,
    /// `lazy`: the cache begins without its backend, as during an outage.
    Lazy,
}

impl ConnectMode {
    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Lazy => "lazy",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let choices = [
            Choice(Self::Eager, Self::Eager.name(), &[]),
            Choice(Self::Lazy, Self::Lazy.name(), &[]),
        ];
        Choice::find(&choices, text)
    }
}
