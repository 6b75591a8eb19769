use proptest::{collection::vec, prelude::*};

use super::{
    super::{super::item_key::ItemKey, LARGE},
    *,
};

fn written(verb: Verb, by_records: bool) -> Vec<Bytes> {
    let key = ItemKey::new(b"a:7".to_vec());
    let mut output = Output::new(by_records);
    write(&Command::new(&key, verb), 0x0102_0304, &mut output);
    output.into_pieces()
}

/// A message as the protocol has it, by the numbers.
fn message(
    [magic, opcode]: [u8; 2],
    status: u16,
    [extras, key, value]: [&[u8]; 3],
    number: u32,
    cas: u64,
) -> Vec<u8> {
    let mut bytes = vec![magic, opcode];
    bytes.extend((key.len() as u16).to_be_bytes());
    bytes.extend([extras.len() as u8, 0]);
    bytes.extend(status.to_be_bytes());
    bytes.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend(cas.to_be_bytes());
    bytes.extend([extras, key, value].concat());
    bytes
}

fn request(opcode: u8, cas: u64, extras: &[u8], value: &[u8]) -> Vec<u8> {
    message([0x80, opcode], 0, [extras, b"a:7", value], 0x0102_0304, cas)
}

fn response(opcode: u8, status: u16, [extras, key, value]: [&[u8]; 3]) -> Vec<u8> {
    message([0x81, opcode], status, [extras, key, value], 7, 12)
}

fn read_all(bytes: &[u8]) -> Vec<Result<Reply, Malformed>> {
    let mut input = BytesMut::from(bytes);
    let mut replies = Vec::new();
    loop {
        match read(&mut input) {
            Ok(Some(reply)) => replies.push(Ok(reply)),
            Ok(None) => return replies,
            Err(malformed) => {
                replies.push(Err(malformed));
                return replies;
            }
        }
    }
}

#[test]
fn commands_are_written_as_the_protocol_has_them() {
    let set = |condition, ttl| Verb::Set {
        condition,
        value: Bytes::from_static(b"abc"),
        mark: 9,
        ttl,
    };
    let item = |ttl: u32| [[0, 0, 0, 9], ttl.to_be_bytes()].concat();
    let count = |delta: u64| [&delta.to_be_bytes()[..], &[0; 8], &[0xff; 4]].concat();
    let look = Verb::GetOrMake { ttl: 60, mark: 9 };
    for (verb, expected) in [
        (Verb::Get, request(0, 0, b"", b"")),
        (Verb::Look, request(0, 0, b"", b"")),
        (
            look,
            [request(0x12, 0, &item(60), b""), request(0, 0, b"", b"")].concat(),
        ),
        (set(Condition::Always, 60), request(1, 0, &item(60), b"abc")),
        (set(Condition::Absent, 0), request(2, 0, &item(0), b"abc")),
        (
            set(Condition::Cas(5), i32::MAX),
            request(1, 5, &item(i32::MAX as u32), b"abc"),
        ),
        // In 1970, because there is no sign.
        (
            set(Condition::Always, -1),
            request(1, 0, &item(2_592_001), b"abc"),
        ),
        (Verb::Delete(None), request(4, 0, b"", b"")),
        (Verb::Delete(Some(5)), request(4, 5, b"", b"")),
        (
            Verb::Add {
                delta: u64::MAX,
                made_for: Some(60),
            },
            request(5, 0, &count(u64::MAX), b""),
        ),
    ] {
        let shown = format!("{verb:?}");
        assert_eq!(written(verb, false).concat(), expected, "{shown}");
    }
}

#[test]
fn a_key_is_the_bytes_that_it_is() {
    let key = ItemKey::new("a: ü\r\n".into());
    let mut output = Output::new(false);
    write(&Command::new(&key, Verb::Get), 7, &mut output);
    let written = output.into_pieces().concat();
    assert_eq!(&written[24..], "a: ü\r\n".as_bytes());
}

#[test]
fn a_long_value_is_sent_from_where_it_is_and_by_tls_nothing_follows_it_in_its_record() {
    let set = |len| Verb::Set {
        condition: Condition::Always,
        value: Bytes::from(vec![b'x'; len]),
        mark: 0,
        ttl: 0,
    };
    let pieces = written(set(10_000), false);
    assert_eq!((pieces.len(), pieces[1].len()), (2, 10_000));
    let key = ItemKey::new(b"a:7".to_vec());
    let mut output = Output::new(true);
    for verb in [Verb::Get, set(10), set(10_000), Verb::Get] {
        write(&Command::new(&key, verb), 7, &mut output);
    }
    for number in 0..1_000 {
        write(&Command::new(&key, Verb::Look), number, &mut output);
    }
    let pieces = output.into_pieces();
    assert!(pieces[0].ends_with(b"xx") && pieces[2].iter().all(|byte| *byte == b'x'));
    assert_eq!(pieces[2].len(), 10_000);
    assert!(
        pieces[3..]
            .iter()
            .all(|piece| piece.len() < 2 * LARGE && piece[0] == REQUEST)
    );
    assert!(pieces.len() > 8);
}

#[test]
fn answers_say_what_became_of_a_command() {
    for (code, expected) in [
        (0, Status::Done),
        (1, Status::Absent),
        (2, Status::Refused),
        (3, Status::TooLarge),
        (4, Status::Failed),
        (5, Status::Refused),
        (6, Status::NotANumber),
        (0x20, Status::Unauthenticated),
        (0x21, Status::Unauthenticated),
        (0x81, Status::Unknown),
        (0x82, Status::NoRoom),
        (0x84, Status::Failed),
    ] {
        let bytes = response(SET, code, [b"", b"", b"what the server says of it"]);
        let replies = read_all(&bytes);
        let [Ok(reply)] = &replies[..] else {
            panic!("{replies:?}");
        };
        assert_eq!((reply.status, reply.number), (expected, Some(7)), "{code}");
        assert!(reply.value.is_none(), "the server's words stay out");
        assert!(
            read_all(&bytes[..bytes.len() - 1]).is_empty(),
            "it has no end"
        );
    }
}

#[test]
fn a_value_comes_with_what_is_known_of_it() {
    let bytes = [
        response(GET, 0, [&[0xff, 0, 0, 1], b"", b"a\r\nb"]),
        // That it was there: looking tells.
        response(ADD_QUIETLY, 2, [b"", b"", b"Data exists for key."]),
        response(GET, 0, [&[0; 4], b"", b""]),
        response(INCREMENT, 0, [b"", b"", &[0xff; 8]]),
        response(STAT, 0, [b"", b"item_size_max", b"1048576"]),
        response(STAT, 0, [b"", b"", b""]),
        response(LIST_MECHANISMS, 0, [b"", b"", b"PLAIN"]),
        response(NOOP, 0, [b"", b"", b""]),
        response(DELETE, 1, [b"", b"", b"Not found"]),
    ];
    let replies: Vec<_> = read_all(&bytes.concat())
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let told = |reply: &Reply| (reply.status, reply.value.as_deref().map(<[u8]>::to_vec));
    let told: Vec<_> = replies.iter().map(told).collect();
    let done = |value: &[u8]| (Status::Done, Some(value.to_vec()));
    assert_eq!(
        told,
        [
            done(b"a\r\nb"),
            done(b""),
            done(b"18446744073709551615"),
            (Status::Line, Some(b"item_size_max 1048576".to_vec())),
            (Status::Done, None),
            done(b"PLAIN"),
            (Status::Done, None),
            (Status::Absent, None),
        ]
    );
    let first = &replies[0];
    assert_eq!((first.cas, first.mark, first.size), (12, 0xff00_0001, 4));
    assert_eq!((first.ttl, first.number), (None, Some(7)));
}

#[test]
fn what_no_server_says_ends_the_connection() {
    let longest = |body: u32| {
        let mut bytes = response(GET, 0, [&[0; 4], b"", b""]);
        bytes[8..12].copy_from_slice(&body.to_be_bytes());
        bytes
    };
    for wrong in [
        b"HD\r\n".to_vec(),
        b"ERROR\r\n".to_vec(),
        vec![0x80],
        vec![0],
        // The body is shorter than what is in it.
        longest(3),
        longest(u32::MAX),
        longest(4 + LARGEST_VALUE as u32 + 1),
        response(GET, 0, [b"", b"", b"abc"]),
        response(GET, 0, [&[0; 5], b"", b"abc"]),
        response(GET, 0, [&[0; 4], b"k", b"abc"]),
        response(INCREMENT, 0, [b"", b"", &[0; 7]]),
        response(INCREMENT, 0, [b"", b"", &[0; 9]]),
        response(STAT, 0, [&[0; 4], b"name", b"value"]),
        response(LIST_MECHANISMS, 0, [b"", b"key", b"PLAIN"]),
    ] {
        let first = read_all(&wrong).into_iter().next();
        assert!(
            matches!(first, Some(Err(Malformed))),
            "{}",
            wrong.escape_ascii()
        );
    }
    let waits = read_all(&longest(4 + LARGEST_VALUE as u32));
    assert!(waits.is_empty(), "the rest is to come");
}

#[test]
fn who_asks_is_said_as_sasl_plain_has_it() {
    let said = authentication("shop", "s3cret");
    let list = message([0x80, 0x20], 0, [b"", b"", b""], 0, 0);
    let plain = [&b""[..], b"PLAIN", b"\0shop\0s3cret"];
    let authenticate = message([0x80, 0x21], 0, plain, 0, 0);
    assert_eq!(said, [list, authenticate].concat());
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    let value =
        vec(any::<u8>(), 0..9_000).prop_map(|value| response(GET, 0, [&[1, 2, 3, 4], b"", &value]));
    let refused = (0_u8..0x30, 1_u16..0x90, vec(any::<u8>(), 0..30))
        .prop_map(|(opcode, status, words)| response(opcode, status, [b"", b"", &words]));
    prop_oneof![
        value,
        refused,
        Just(response(INCREMENT, 0, [b"", b"", &[1; 8]])),
        Just(response(SET, 0, [b"", b"", b""])),
    ]
}

proptest! {
    /// However the network cuts what a server sends.
    #[test]
    fn answers_do_not_depend_on_how_they_arrive(
        replies in vec(reply(), 1..6), cuts in vec(1..3_000_usize, 1..20),
    ) {
        let whole = replies.concat();
        let mut rest = &whole[..];
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            input.extend_from_slice(now);
            while let Some(reply) = read(&mut input).unwrap() {
                found.push(reply);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(input.is_empty());
        let at_once = read_all(&whole);
        let answered = replies.iter().filter(|reply| reply[1] != ADD_QUIETLY);
        prop_assert_eq!(found.len(), answered.count());
        for (one, two) in found.iter().zip(at_once) {
            let two = two.unwrap();
            prop_assert_eq!(one.status, two.status);
            prop_assert_eq!(&one.value, &two.value);
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic(noise: Vec<u8>) {
        read_all(&noise);
        read_all(&[&[RESPONSE][..], &noise].concat());
    }

    #[test]
    fn noise_in_a_header_is_refused_without_a_panic(
        head: [u8; 23], opcode in 0..0x23_u8, body in 0..40_u8, rest in vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = [&[RESPONSE][..], &head, &rest].concat();
        bytes[1] = opcode;
        bytes[2..12].copy_from_slice(&[0, head[0] % 8, head[1] % 8, 0, 0, head[2] % 2, 0, 0, 0, body]);
        read_all(&bytes);
    }
}
