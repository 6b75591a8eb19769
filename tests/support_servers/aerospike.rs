use std::env;

/// An Aerospike server that runs already: there is no package of it to install and start.
#[derive(Debug)]
pub(crate) struct Aerospike {
    hosts: String,
}

impl Aerospike {
    /// The one that the environment names.
    pub(crate) fn find() -> Option<Self> {
        let hosts = env::var("LARDER_TEST_AEROSPIKE_HOSTS").unwrap_or_default();
        if hosts.is_empty() {
            super::not_tested("Aerospike", "LARDER_TEST_AEROSPIKE_HOSTS is not set");
            return None;
        }
        let found = Self { hosts };
        for seed in found.seeds() {
            let port = seed.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            assert!(
                matches!(port, Some(Ok(_))),
                "LARDER_TEST_AEROSPIKE_HOSTS is host:port, or several of them with commas between"
            );
        }
        Some(found)
    }

    /// All of it, as `CACHE_AEROSPIKE_HOSTS` takes it.
    pub(crate) fn hosts(&self) -> &str {
        &self.hosts
    }

    /// Each as `host:port`.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = &str> {
        self.hosts.split(',')
    }
}
