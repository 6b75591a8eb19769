//! Whatever a server gives back, reading it as a value by any codec is a value, which is written and read again, or an
//! error.
#![no_main]

use std::{collections::BTreeMap, fmt::Debug};

use larder::codec::{Codec, Json, MsgPack, Postcard};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    #[serde(default)]
    tags: BTreeMap<String, Vec<i16>>,
    letter: Option<char>,
    nothing: Vec<()>,
    next: Option<Box<Record>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    One(Box<Tree>),
    Pair(Box<Tree>, u128),
    Many { inner: Vec<Tree> },
}

fuzz_target!(|bytes: &[u8]| {
    read::<Record>(bytes);
    read::<Tree>(bytes);
    read::<Vec<Vec<String>>>(bytes);
    read::<(bool, i128, Option<String>)>(bytes);
});

fn read<T: Serialize + DeserializeOwned + Debug + PartialEq>(bytes: &[u8]) {
    read_by::<T>(&Json, bytes);
    read_by::<T>(&MsgPack, bytes);
    read_by::<T>(&Postcard, bytes);
}

fn read_by<T: Debug + PartialEq>(codec: &impl Codec<T>, bytes: &[u8]) {
    if let Ok(value) = codec.decode(&bytes.to_vec().into()) {
        let again = codec.encode(&value).expect("what was read can be written");
        let again = codec.decode(&again).expect("what was written can be read");
        assert_eq!(value, again);
    }
}
