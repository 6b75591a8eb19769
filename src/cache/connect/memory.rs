use crate::{Cache, CacheBuilder, Memory, Result, Settings};

pub(super) fn builder(settings: &Settings) -> Result<CacheBuilder> {
    let mut memory = Memory::builder()
        .max_bytes(settings.max_bytes)
        .policy(settings.memory_policy);
    if let Some(entries) = settings.threshold {
        memory = memory.max_entries(entries);
    }
    Ok(Cache::builder(memory.build()))
}
