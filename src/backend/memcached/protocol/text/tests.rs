use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};

use super::{
    super::{super::item_key::ItemKey, LARGE},
    *,
};

fn written(verb: Verb) -> String {
    let key = ItemKey::new(b"shop:7".to_vec());
    let mut output = Output::new(false);
    write(&Command::new(&key, verb), 7, &mut output);
    let pieces = output.into_pieces();
    String::from_utf8(pieces.concat()).unwrap()
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

fn status(bytes: &[u8]) -> Option<Status> {
    read_all(bytes)
        .first()?
        .as_ref()
        .ok()
        .map(|reply| reply.status)
}

#[test]
fn commands_are_written_as_the_protocol_has_them() {
    let set = |condition| Verb::Set {
        condition,
        value: Bytes::from_static(b"abc"),
        mark: 9,
        ttl: -1,
    };
    for (verb, expected) in [
        (Verb::Get, "mg shop:7 O7 c t v\r\n"),
        (
            Verb::GetOrMake { ttl: 60, mark: 9 },
            "mg shop:7 O7 c t v N60\r\n",
        ),
        (Verb::Look, "mg shop:7 O7 c t f s\r\n"),
        (set(Condition::Always), "ms shop:7 3 O7 c T-1 F9\r\nabc\r\n"),
        (
            set(Condition::Absent),
            "ms shop:7 3 O7 c T-1 F9 ME\r\nabc\r\n",
        ),
        (
            set(Condition::Cas(5)),
            "ms shop:7 3 O7 c T-1 F9 C5\r\nabc\r\n",
        ),
        (Verb::Delete(None), "md shop:7 O7\r\n"),
        (Verb::Delete(Some(5)), "md shop:7 O7 C5\r\n"),
        (
            Verb::Add {
                delta: u64::MAX,
                made_for: Some(0),
            },
            "ma shop:7 O7 v D18446744073709551615 N0 J18446744073709551615\r\n",
        ),
        (
            Verb::Add {
                delta: 2,
                made_for: None,
            },
            "ma shop:7 O7 v D2\r\n",
        ),
    ] {
        assert_eq!(written(verb), expected);
    }
}

#[test]
fn a_key_that_is_no_word_is_in_base64() {
    let key = ItemKey::new("shop:ü 7".into());
    let mut output = Output::new(false);
    write(&Command::new(&key, Verb::Get), 7, &mut output);
    let pieces = output.into_pieces();
    assert_eq!(pieces.concat(), b"mg c2hvcDrDvCA3 O7 b c t v\r\n");
}

#[test]
fn a_long_value_is_sent_from_where_it_is() {
    let key = ItemKey::new(b"shop:7".to_vec());
    let value = Bytes::from(vec![b'x'; 10_000]);
    let mut output = Output::new(false);
    let verb = Verb::Set {
        condition: Condition::Always,
        value: value.clone(),
        mark: 0,
        ttl: 0,
    };
    write(&Command::new(&key, verb), 7, &mut output);
    let pieces = output.into_pieces();
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1].as_ptr(), value.as_ptr());
}

#[test]
fn by_tls_nothing_follows_a_value_in_its_record() {
    let key = ItemKey::new(b"shop:7".to_vec());
    let set = |len| Verb::Set {
        condition: Condition::Always,
        value: Bytes::from(vec![b'x'; len]),
        mark: 0,
        ttl: 0,
    };
    let mut output = Output::new(true);
    for verb in [Verb::Get, set(10), set(10_000), Verb::Get] {
        write(&Command::new(&key, verb), 7, &mut output);
    }
    for number in 0..1_000 {
        write(&Command::new(&key, Verb::Look), number, &mut output);
    }
    let pieces = output.into_pieces();
    let ends = pieces.iter().filter(|piece| piece.ends_with(b"x\r\n"));
    assert_eq!(ends.count(), 1);
    assert_eq!(pieces[2].len(), 10_000);
    assert_eq!(&pieces[3][..], b"\r\n");
    let lines = pieces[4..].iter();
    assert!(
        lines
            .clone()
            .all(|piece| piece.len() < 2 * LARGE && piece.ends_with(b"\r\n"))
    );
    assert!(lines.count() > 5);
}

#[test]
fn answers_say_what_became_of_a_command() {
    for (line, expected) in [
        ("HD", Status::Done),
        ("HD O3 c5", Status::Done),
        ("MN", Status::Done),
        ("STORED", Status::Done),
        ("EN O3", Status::Absent),
        ("NF O3", Status::Absent),
        ("NS O3 c0", Status::Refused),
        ("EX O3 c0", Status::Refused),
        ("ERROR", Status::Unknown),
        ("SERVER_ERROR object too large for cache", Status::TooLarge),
        ("SERVER_ERROR out of memory storing object", Status::NoRoom),
        ("SERVER_ERROR whatever", Status::Failed),
        ("CLIENT_ERROR unauthenticated", Status::Unauthenticated),
        (
            "CLIENT_ERROR cannot increment or decrement non-numeric value",
            Status::NotANumber,
        ),
    ] {
        assert_eq!(
            status(format!("{line}\r\n").as_bytes()),
            Some(expected),
            "{line}"
        );
        assert_eq!(status(line.as_bytes()), None, "{line} has no end");
    }
}

#[test]
fn a_value_comes_with_what_is_known_of_it() {
    let replies =
        read_all(b"VA 4 O7 c12 t-1 f99 W\r\na\r\nb\r\nHD s21 c3 t60 f4294967295 O8\r\nEN O9\r\n");
    let [Ok(first), Ok(second), Ok(third)] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!(first.value.as_deref(), Some(&b"a\r\nb"[..]));
    assert_eq!(
        (first.number, first.cas, first.ttl, first.mark),
        (Some(7), 12, None, 99)
    );
    assert_eq!(
        (second.number, second.cas, second.ttl),
        (Some(8), 3, Some(60))
    );
    assert_eq!((second.size, second.mark), (21, u32::MAX));
    assert_eq!((third.status, third.number), (Status::Absent, Some(9)));
}

#[test]
fn what_no_server_says_ends_the_connection() {
    for wrong in [
        &b"\r\n"[..],
        b"HD\n",
        b"HELLO\r\n",
        b"hd\r\n",
        b"VA\r\n",
        b"VA x\r\n",
        b"VA -1\r\n",
        b"VA +1\r\n",
        b"VA 1073741825\r\n",
        b"VA 99999999999999999999\r\n",
        b"VA 1\r\nabc",
        b"HD Ox\r\n",
        b"HD c-1\r\n",
        b"HD t-2\r\n",
        b"HD f4294967296\r\n",
        b"CLIENT_ERROR bad data chunk\r\n",
        b"CLIENT_ERROR bad command line format\r\n",
        b"\x15\x03\x03\x00\x02\x02\x0a\n",
        &[b'x'; LONGEST_LINE],
    ] {
        let first = read_all(wrong).into_iter().next();
        assert!(
            matches!(first, Some(Err(Malformed))),
            "{}",
            wrong.escape_ascii()
        );
    }
}

#[test]
fn who_asks_is_said_in_a_set() {
    assert_eq!(
        authentication("shop", "s3cret"),
        b"set auth 0 0 11\r\nshop s3cret\r\n"
    );
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    let value = vec(any::<u8>(), 0..9_000).prop_map(|value| {
        let line = format!("VA {} O1 c7 t5\r\n", value.len());
        [line.as_bytes(), &value, b"\r\n"].concat()
    });
    let line = prop_oneof![
        Just("HD O1"),
        Just("EN O1"),
        Just("SERVER_ERROR out of memory"),
        Just("STAT item_size_max 1048576"),
    ];
    prop_oneof![
        value,
        line.prop_map(|line| format!("{line}\r\n").into_bytes())
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
        prop_assert_eq!(found.len(), replies.len());
        for (one, two) in found.iter().zip(at_once) {
            let two = two.unwrap();
            prop_assert_eq!(one.status, two.status);
            prop_assert_eq!(&one.value, &two.value);
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic(noise: Vec<u8>) {
        read_all(&noise);
    }

    #[test]
    fn noise_in_a_line_is_refused_without_a_panic(line in "(VA|HD|EN|STAT|CLIENT_ERROR|SERVER_ERROR)[ -~\u{80}-\u{ff}]{0,40}") {
        read_all(format!("{line}\r\nabc\r\n").as_bytes());
    }
}
