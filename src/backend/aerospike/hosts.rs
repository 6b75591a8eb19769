//! The list of nodes to begin with.

use aerospike::Host;

/// The port where none is named.
const PORT: u16 = 3000;

/// Reads `host`, `host:port` or `host:tls-name:port`, several of them with commas between. An IPv6 address is in
/// brackets. What is wrong is said without a subject.
pub(super) fn parse(list: &str) -> Result<Vec<Host>, String> {
    list.split(',').map(|item| host(item.trim())).collect()
}

fn host(item: &str) -> Result<Host, String> {
    let malformed = || {
        format!(
            "has {item:?}, which is none of host:port, host:tls-name:port and [IPv6 address]:port"
        )
    };
    let (name, rest) = match item.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']').ok_or_else(malformed)?;
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            let rest = rest.strip_prefix(':').or(rest.is_empty().then_some(""));
            (address, rest.filter(|_| is_address).ok_or_else(malformed)?)
        }
        None => item.split_once(':').unwrap_or((item, "")),
    };
    let (tls_name, port) = rest.split_once(':').unwrap_or(("", rest));
    let port = match port {
        "" if rest.is_empty() => Some(PORT),
        port => port.parse().ok().filter(|port| *port > 0),
    };
    let plain = |name: &str| !name.contains(|c: char| c.is_whitespace() || "/@[]".contains(c));
    match port {
        Some(port)
            if !name.is_empty() && plain(name) && plain(tls_name) && !item.ends_with(':') =>
        {
            Ok(Host::new_tls(name, tls_name, port))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_ports_and_tls_names() {
        let parsed = parse("one, two:3100,three:name.example:3200,[::1]:3300,[fe80::1]").unwrap();
        let expected = [
            Host::new("one", 3000),
            Host::new("two", 3100),
            Host::new_tls("three", "name.example", 3200),
            Host::new("::1", 3300),
            Host::new("fe80::1", 3000),
        ];
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for list in [
            "",
            "one,",
            ":3000",
            "one:",
            "one:x",
            "one:0",
            "one:70000",
            "::1",
            "[::1",
            "[::1]x",
            "[one]:3000",
            "a b:3000",
            "http://one:3000",
            "one:tls:name:3000",
        ] {
            let wrong = parse(list).unwrap_err();
            assert!(wrong.starts_with("has \""), "{list}: {wrong}");
        }
    }
}
