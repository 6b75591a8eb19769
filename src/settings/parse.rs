//! From the text of a setting to its value.

use std::time::Duration;

use super::nearest::nearest;
use crate::{CodecKind, MemoryPolicy};

/// Why a text is no value of its setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not of the form that the setting expects.
    Malformed,
    /// It is none of the names, but nearly this one.
    Nearly(&'static str),
    /// It is known, and this is why it cannot be had: the sentence after `CACHE_TYPE=redis`.
    Because(String),
}

impl Refusal {
    pub(super) fn off_in_this_build(feature: &str) -> Self {
        Self::Because(format!(
            "needs the feature \"{feature}\" of larder, which is off in this build"
        ))
    }
}

/// One value of a setting that is chosen by name: the value, its name, and aliases in [`fold`]ed form.
pub(super) struct Choice<T>(
    pub(super) T,
    pub(super) &'static str,
    pub(super) &'static [&'static str],
);

impl<T: Copy> Choice<T> {
    pub(super) fn find(choices: &[Self], text: &str) -> Result<T, Refusal> {
        let folded = fold(text);
        let named = choices.iter().find(|Self(_, name, aliases)| {
            fold(name) == folded || aliases.contains(&folded.as_str())
        });
        if let Some(Self(value, ..)) = named {
            return Ok(*value);
        }
        let lower = text.to_ascii_lowercase();
        match nearest(&lower, choices.iter().map(|Self(_, name, _)| *name)) {
            Some((name, 0..=2)) => Err(Refusal::Nearly(name)),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// A name without what people write in different ways: case, hyphens and underscores.
pub(super) fn fold(name: &str) -> String {
    name.chars()
        .filter(|letter| !matches!(letter, '-' | '_'))
        .collect::<String>()
        .to_ascii_lowercase()
}

/// Digits and nothing else: `u64::from_str` alone would take a sign as well.
pub(super) fn whole(text: &str) -> Result<u64, Refusal> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| Refusal::Malformed)
    } else {
        Err(Refusal::Malformed)
    }
}

pub(super) fn at_least_one(text: &str) -> Result<u64, Refusal> {
    match whole(text)? {
        0 => Err(Refusal::Malformed),
        number => Ok(number),
    }
}

pub(super) fn port(text: &str) -> Result<u16, Refusal> {
    u16::try_from(at_least_one(text)?).map_err(|_| Refusal::Malformed)
}

/// A number of times.
pub(super) fn times(text: &str) -> Result<u32, Refusal> {
    u32::try_from(at_least_one(text)?).map_err(|_| Refusal::Malformed)
}

/// A time short enough that a bare number could be meant in either unit, and is refused.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let of_unit = match unit.trim_start().to_ascii_lowercase().as_str() {
        "ms" => Duration::from_millis,
        "s" => Duration::from_secs,
        _ => return Err(Refusal::Malformed),
    };
    at_least_one(digits).map(of_unit)
}

pub(super) fn seconds(text: &str) -> Result<Duration, Refusal> {
    at_least_one(text).map(Duration::from_secs)
}

pub(super) fn seconds_or_never(text: &str) -> Result<Option<Duration>, Refusal> {
    Ok(Some(Duration::from_secs(whole(text)?)).filter(|ttl| !ttl.is_zero()))
}

pub(super) fn flag(text: &str) -> Result<bool, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Refusal::Malformed),
    }
}

pub(super) fn memory_policy(text: &str) -> Result<MemoryPolicy, Refusal> {
    let choices = [
        Choice(
            MemoryPolicy::S3Fifo,
            MemoryPolicy::S3Fifo.name(),
            &["clockpro"],
        ),
        Choice(
            MemoryPolicy::TinyLfu,
            MemoryPolicy::TinyLfu.name(),
            &["wtinylfu"],
        ),
        Choice(MemoryPolicy::Lru, MemoryPolicy::Lru.name(), &[]),
    ];
    Choice::find(&choices, text)
}

pub(super) fn codec(text: &str) -> Result<CodecKind, Refusal> {
    let choices = CodecKind::ALL.map(|kind| Choice(kind, kind.name(), kind.aliases()));
    match Choice::find(&choices, text)? {
        kind if kind.is_on() => Ok(kind),
        kind => Err(Refusal::off_in_this_build(kind.name())),
    }
}

/// A number of bytes. A bare `K` or `M` is refused: it is read as 1000 by some and as 1024 by others.
pub(super) fn bytes(text: &str) -> Result<u64, Refusal> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(Refusal::Malformed),
    };
    at_least_one(digits)?
        .checked_mul(factor)
        .ok_or(Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_is_refused_where_its_feature_is_off() {
        for kind in CodecKind::ALL {
            let expected = match kind.is_on() {
                true => Ok(kind),
                false => Err(Refusal::off_in_this_build(kind.name())),
            };
            for name in kind.aliases().iter().chain([&kind.name()]) {
                assert_eq!(codec(name), expected, "{name}");
            }
        }
    }

    #[test]
    fn a_build_without_any_codec_has_sound_settings_all_the_same() {
        if CodecKind::FIRST.is_none() {
            let settings = crate::Settings::from_pairs([("CACHE_TYPE", "null")]);
            assert!(settings.is_ok_and(|settings| settings.codec == CodecKind::Json));
        }
    }

    #[test]
    fn bytes_have_binary_and_decimal_units() {
        for (text, expected) in [
            ("1", 1),
            ("67108864", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("64MB", 64_000_000),
            ("1GiB", 1 << 30),
            ("2TB", 2_000_000_000_000),
            ("10kB", 10_000),
            ("512 B", 512),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bytes_refuse_ambiguous_units_fractions_zero_and_overflow() {
        for text in [
            "64M",
            "64k",
            "1.5GiB",
            "0",
            "0MiB",
            "MiB",
            "-1",
            "+1",
            "64MiBs",
            "99999999999TiB",
        ] {
            assert_eq!(bytes(text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [("250ms", 250), ("2s", 2_000), ("1 S", 1_000), ("10 ms", 10)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "250", "ms", "0ms", "0s", "1.5s", "-1s", "1m", "1 min", "1s 5ms", "1sec",
        ] {
            assert_eq!(duration(text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn a_number_of_times_fits_its_counter() {
        assert_eq!(times("4294967295"), Ok(u32::MAX));
        for text in ["0", "4294967296", "-1", "many"] {
            assert_eq!(times(text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_digits_only() {
        assert_eq!(whole("007"), Ok(7));
        for text in [
            "",
            "+1",
            "-1",
            "1.0",
            "1e3",
            "1_000",
            "١",
            "18446744073709551616",
        ] {
            assert_eq!(whole(text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn zero_seconds_are_never_only_where_never_makes_sense() {
        assert_eq!(seconds_or_never("0"), Ok(None));
        assert_eq!(seconds("0"), Err(Refusal::Malformed));
    }

    #[test]
    fn flags_are_read_as_people_write_them() {
        assert_eq!(
            ["true", "1", "Yes", "ON"].map(flag),
            [const { Ok(true) }; 4]
        );
        assert_eq!(
            ["false", "0", "No", "OFF"].map(flag),
            [const { Ok(false) }; 4]
        );
        assert_eq!(flag("maybe"), Err(Refusal::Malformed));
    }
}
