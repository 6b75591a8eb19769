//! The keys of items: up to 250 bytes, and as text without spaces and control characters.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};

/// The longest key that a server takes.
const LONGEST: usize = 250;

/// The longest key that is not longer than that in base64.
const LONGEST_IN_BASE64: usize = LONGEST / 4 * 3;

/// The key of an item.
///
/// It is the bytes of the stored key as they are, whichever way they are written on the wire; where they are too many for
/// that, the hexadecimal digits of their BLAKE3 hash, 256 bits. A stored key has a colon somewhere, and the digits have
/// none, so no two stored keys meet on one item, unless BLAKE3 gives two of them one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ItemKey(Bytes);

impl ItemKey {
    pub(super) fn new(stored: Vec<u8>) -> Self {
        debug_assert!(stored.contains(&b':'));
        let longest = match is_text(&stored) {
            true => LONGEST,
            false => LONGEST_IN_BASE64,
        };
        if stored.len() <= longest {
            return Self(stored.into());
        }
        let hash = blake3::hash(&stored).to_hex();
        Self(Bytes::copy_from_slice(hash.as_bytes()))
    }

    /// The key as the server has it, and as the binary protocol takes it.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes the key for the text protocol, and says whether in base64.
    pub(super) fn write_as_text(&self, line: &mut BytesMut) -> bool {
        if is_text(&self.0) {
            line.put_slice(&self.0);
            return false;
        }
        let mut digits = [0; LONGEST];
        let len = STANDARD.encode_slice(&self.0, &mut digits);
        line.put_slice(&digits[..len.expect("longer keys are hashed")]);
        true
    }
}

/// Whether a key can stand in a line as it is. Bytes beyond ASCII could, but not everything that reads along takes them.
fn is_text(key: &[u8]) -> bool {
    key.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The key as the server has it: what `b` says is base64 is decoded there.
    fn on_server(stored: &[u8]) -> (Vec<u8>, usize) {
        let mut line = BytesMut::new();
        let in_base64 = ItemKey::new(stored.to_vec()).write_as_text(&mut line);
        let key = match in_base64 {
            true => STANDARD.decode(&line).unwrap(),
            false => line.to_vec(),
        };
        (key, line.len())
    }

    fn stored() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![
            vec(any::<u8>(), 0..400),
            vec(prop_oneof![Just(b'a'), Just(b' '), Just(b':')], 0..3),
            vec(b'a'..=b'c', 180..260),
        ];
        bytes.prop_map(|rest| [b"shop:AAAAAAAA:", &rest[..]].concat())
    }

    proptest! {
        #[test]
        fn no_two_stored_keys_meet_on_one_item(one in stored(), two in stored()) {
            prop_assert_eq!(one == two, on_server(&one).0 == on_server(&two).0);
        }

        #[test]
        fn a_key_is_one_word_that_is_not_too_long(stored in stored()) {
            let (key, len) = on_server(&stored);
            prop_assert!(len <= LONGEST && key.len() <= LONGEST);
            let mut line = BytesMut::new();
            ItemKey::new(stored).write_as_text(&mut line);
            prop_assert!(line.iter().all(u8::is_ascii_graphic));
        }
    }

    #[test]
    fn a_key_stays_as_it_is_as_long_as_it_can() {
        for (stored, as_it_is) in [
            ([b"shop:", &[b'n'; 245][..]].concat(), true),
            ([b"shop:", &[b'n'; 246][..]].concat(), false),
            ([b"shop:", &[0xff; 181][..]].concat(), true),
            ([b"shop:", &[0xff; 182][..]].concat(), false),
        ] {
            assert_eq!(on_server(&stored).0 == stored, as_it_is, "{}", stored.len());
        }
        let digits = on_server(&[b"shop:", &[b'n'; 300][..]].concat()).0;
        assert!(digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit));
    }
}
