/// Which entry goes when memory is full.
///
/// The default was the fastest and had the highest hit ratio over the traces measured; the others are there for
/// workloads that are known to suit them.
///
/// `CACHE_MEMORY_POLICY` takes the names below in either case, with or without their hyphens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryPolicy {
    /// `s3-fifo`: CLOCK-Pro-like S3-FIFO, by the engine quick_cache. Alias: `clock-pro`.
    #[default]
    S3Fifo,
    /// `tiny-lfu`: frequency with admission, by the engine moka: for skewed workloads that scan or loop.
    TinyLfu,
    /// `lru`: least recently used, by the engine moka: for workloads with strong recency.
    Lru,
}

impl MemoryPolicy {
    /// The name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3Fifo => "s3-fifo",
            Self::TinyLfu => "tiny-lfu",
            Self::Lru => "lru",
        }
    }
}
