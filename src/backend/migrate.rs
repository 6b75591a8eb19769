/// What a backend in a SQL database does about its tables when it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Migrate {
    /// `apply`: they are made where they are missing.
    #[default]
    Apply,
    /// `check`: they have to be there, made by somebody else from what `larder::sql::schema` gives.
    Check,
}

impl Migrate {
    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Check => "check",
        }
    }
}
