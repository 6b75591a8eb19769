//! RFC 9111, clause by clause, for GET requests. What larder does beyond it, because the RFC allows a cache to store and
//! to reuse less, is marked "ours".

use super::Fields;

/// A request that was made, and what was answered. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Fields,
    pub(crate) status: u16,
    pub(crate) response: Fields,
    pub(crate) requested: u64,
    pub(crate) received: u64,
}

/// Whether the answer of an exchange answers another request, and how old it is, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It must be forwarded.
    No,
    Fresh(u64),
    /// It is stale, and may be used where it is still there.
    Stale(u64),
}

/// A directive: its name in lower case, and its argument without quotes.
pub(crate) type Directive = (String, Option<String>);

pub(crate) fn lines<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    let lines = fields
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name));
    lines
        .map(|(_, value)| value.trim_matches([' ', '\t']))
        .collect()
}

fn has(fields: &Fields, name: &str) -> bool {
    !lines(fields, name).is_empty()
}

/// §5.2: `1#( token [ "=" ( token / quoted-string ) ] )`, several lines being one list.
pub(crate) fn directives(fields: &Fields) -> Vec<Directive> {
    let mut found = Vec::new();
    for line in lines(fields, "cache-control") {
        let (mut text, mut quoted, mut escaped) = (String::new(), false, false);
        let mut members = Vec::new();
        for letter in line.chars() {
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ',' if !quoted => {
                    members.push(std::mem::take(&mut text));
                    continue;
                }
                _ => {}
            }
            text.push(letter);
        }
        members.push(text);
        for member in members {
            let member = member.trim();
            if member.is_empty() {
                continue;
            }
            found.push(match member.split_once('=') {
                Some((name, value)) => (name.to_ascii_lowercase(), Some(value.replace('"', ""))),
                None => (member.to_ascii_lowercase(), None),
            });
        }
    }
    found
}

fn says(directives: &[Directive], name: &str) -> bool {
    directives.iter().any(|(own, _)| own == name)
}

/// Without an argument: about the whole response.
fn says_wholly(directives: &[Directive], name: &str) -> bool {
    directives
        .iter()
        .any(|(own, value)| own == name && value.is_none())
}

/// §5.2.2.4 and §5.2.2.7: whether a field is named by `no-cache` or `private`.
fn names_field(directives: &[Directive], field: &str) -> bool {
    directives
        .iter()
        .filter(|(name, _)| name == "no-cache" || name == "private")
        .filter_map(|(_, value)| value.as_ref())
        .any(|value| {
            value
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case(field))
        })
}

/// §1.2.2: digits, and what is too large is 2^31.
fn delta(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX).min(1 << 31))
}

/// §4.2.1: of several the most restrictive; what is no number makes the response stale.
fn shortest(directives: &[Directive], name: &str) -> Option<u64> {
    let values = directives.iter().filter(|(own, _)| own == name);
    values
        .map(|(_, value)| value.as_deref().and_then(delta).unwrap_or(0))
        .min()
}

/// A field that is one valid HTTP date, in milliseconds.
fn date(fields: &Fields, name: &str) -> Option<u64> {
    let [line] = lines(fields, name)[..] else {
        return None;
    };
    let time = httpdate::parse_http_date(line).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_millis() as u64)
}

/// RFC 9110 §15.1.
fn is_heuristic(status: u16) -> bool {
    [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status)
}

/// Those of [`super::Dice::status`] that RFC 9110 defines.
fn is_understood(status: u16) -> bool {
    ![299, 599, 777, 304, 412].contains(&status)
}

fn sets_cookie(exchange: &Exchange, directives: &[Directive]) -> bool {
    has(&exchange.response, "set-cookie") && !names_field(directives, "set-cookie")
}

fn is_personal(exchange: &Exchange, directives: &[Directive]) -> bool {
    has(&exchange.request, "authorization")
        || has(&exchange.request, "cookie")
        || sets_cookie(exchange, directives)
}

fn is_explicit(exchange: &Exchange, directives: &[Directive]) -> bool {
    says(directives, "max-age")
        || says(directives, "s-maxage")
        || has(&exchange.response, "expires")
}

/// §3.
fn storable(exchange: &Exchange) -> bool {
    let directives = directives(&exchange.response);
    let asked = self::directives(&exchange.request);
    let says = |name| says(&directives, name);
    let is_public = says_wholly(&directives, "public");
    let is_shared = is_public || says("s-maxage");
    let must_understand = says_wholly(&directives, "must-understand");
    // "the response status code is final"; 304, and ours: what answers one request alone, some by RFC 6585.
    if [304, 401, 412, 429].contains(&exchange.status) {
        return false;
    }
    // "if the response status code is 206 or 304, or the must-understand directive is present: the cache understands it"
    if must_understand && !is_understood(exchange.status) {
        return false;
    }
    // "the no-store cache directive is not present in the response", §5.2.2.3, §5.2.1.5
    if says("no-store") && !must_understand || self::says(&asked, "no-store") {
        return false;
    }
    // "the private response directive is either not present or allows a shared cache to store a modified response"
    if says_wholly(&directives, "private") {
        return false;
    }
    // §3.5
    let is_authorised = has(&exchange.request, "authorization");
    if is_authorised && !is_shared && !says("must-revalidate") {
        return false;
    }
    // "the response contains at least one of the following"
    let is_explicit = is_explicit(exchange, &directives);
    if !is_explicit && !is_public && !is_heuristic(exchange.status) {
        return false;
    }
    // Ours: cookies, and what may be one user's without a word.
    if sets_cookie(exchange, &directives) && !is_shared {
        return false;
    }
    let is_asked_for = is_explicit || is_public || says_wholly(&directives, "no-cache");
    is_asked_for || !is_personal(exchange, &directives)
}

/// §4.2.1 and §4.2.2, in milliseconds.
fn lifetime(exchange: &Exchange) -> u64 {
    let directives = directives(&exchange.response);
    if let Some(seconds) = shortest(&directives, "s-maxage") {
        return seconds * 1_000;
    }
    if let Some(seconds) = shortest(&directives, "max-age") {
        return seconds * 1_000;
    }
    let dated = date(&exchange.response, "date").unwrap_or(exchange.received);
    if has(&exchange.response, "expires") {
        // §5.3: an invalid one is in the past.
        let expires = date(&exchange.response, "expires").unwrap_or(0);
        return expires.saturating_sub(dated);
    }
    // Ours: no guess for what may be one user's, nor with a Pragma.
    let is_public = says_wholly(&directives, "public");
    let may_guess = is_heuristic(exchange.status) || is_public;
    if !may_guess || is_personal(exchange, &directives) || has(&exchange.response, "pragma") {
        return 0;
    }
    let modified = date(&exchange.response, "last-modified").unwrap_or(dated);
    // Ages are whole milliseconds, and one is below a lifetime exactly when it is below the next whole one.
    dated.saturating_sub(modified).div_ceil(10).min(86_400_000)
}

/// §4.2.3, in milliseconds.
fn age(exchange: &Exchange, now: u64) -> u64 {
    let age_value = lines(&exchange.response, "age")
        .first()
        .and_then(|line| delta(line.split(',').next().unwrap().trim()))
        .unwrap_or(0)
        * 1_000;
    let dated = date(&exchange.response, "date").unwrap_or(exchange.received);
    // Date has whole seconds.
    let received_second = exchange.received / 1_000 * 1_000;
    let apparent_age = received_second.saturating_sub(dated);
    let response_delay = exchange.received - exchange.requested;
    let corrected_age_value = age_value + response_delay;
    let corrected_initial_age = apparent_age.max(corrected_age_value);
    let resident_time = now - exchange.received;
    corrected_initial_age + resident_time
}

/// §4.1.
fn selects(exchange: &Exchange, second: &Fields) -> bool {
    let mut names = lines(&exchange.response, "vary")
        .into_iter()
        .flat_map(|line| line.split(','));
    names.all(|name| {
        let name = name.trim().to_ascii_lowercase();
        let values = |fields: &Fields| {
            let lines = lines(fields, &name);
            let joined = (!lines.is_empty()).then(|| lines.join(","));
            joined.map(|value| normal(&name, &value))
        };
        name.is_empty() || name != "*" && values(&exchange.request) == values(second)
    })
}

/// "normalizing both field values in a way that is known to have identical semantics".
fn normal(name: &str, value: &str) -> Vec<String> {
    let mut members: Vec<_> = value
        .split(',')
        .map(|member| member.trim().to_owned())
        .collect();
    if name == "accept-language" {
        members
            .iter_mut()
            .for_each(|member| member.make_ascii_lowercase());
        members.sort();
    }
    members
}

/// §4, for a request to the same URI.
pub(crate) fn may_reuse(exchange: &Exchange, second: &Fields, now: u64) -> Verdict {
    let directives = directives(&exchange.response);
    let asked = self::directives(second);
    let no = Verdict::No;
    if !storable(exchange) || !selects(exchange, second) || says(&asked, "no-store") {
        return no;
    }
    // "the stored response does not contain the no-cache directive"
    if says_wholly(&directives, "no-cache") {
        return no;
    }
    // §5.2.1.4, §5.4
    let pragma = lines(second, "pragma").contains(&"no-cache") && !has(second, "cache-control");
    if says(&asked, "no-cache") || pragma {
        return no;
    }
    // Ours: what is not the handler's word is not for who has credentials.
    let is_implied = !is_explicit(exchange, &directives) && !says_wholly(&directives, "public");
    if is_implied && (has(second, "cookie") || has(second, "authorization")) {
        return no;
    }
    let (lifetime, age) = (lifetime(exchange), age(exchange, now));
    let in_seconds = (age / 1_000).min(1 << 31);
    // §5.2.1.1; ours: 0 asks for a validation.
    let max_age = shortest(&asked, "max-age");
    if max_age.is_some_and(|limit| limit == 0 || age > limit * 1_000) {
        return no;
    }
    // §5.2.1.3
    let min_fresh = asked.iter().filter(|(name, _)| name == "min-fresh");
    let min_fresh = min_fresh
        .map(|(_, value)| value.as_deref().and_then(delta).unwrap_or(1 << 31))
        .max();
    if min_fresh.is_some_and(|wanted| lifetime.saturating_sub(age) < wanted * 1_000) {
        return no;
    }
    // §4.2
    if lifetime > age {
        return Verdict::Fresh(in_seconds);
    }
    // §4.2.4
    let is_forbidden =
        says(&directives, "must-revalidate") || says(&directives, "proxy-revalidate");
    let max_stale = asked.iter().filter(|(name, _)| name == "max-stale");
    let max_stale = max_stale.map(|(_, value)| match value {
        None => u64::MAX / 1_000,
        Some(value) => delta(value).unwrap_or(0),
    });
    let max_stale = max_stale.min();
    if min_fresh.is_some() || max_age.is_some() && max_stale.is_none() {
        return no;
    }
    let staleness = age - lifetime;
    // RFC 5861 §3
    let window = shortest(&directives, "stale-while-revalidate").unwrap_or(0);
    let is_in_window = staleness < window * 1_000;
    // §5.2.1.2, §5.2.2.10
    let is_wanted = max_stale.is_some_and(|limit| staleness <= limit * 1_000);
    match is_in_window || is_wanted && !says(&directives, "s-maxage") {
        true if !is_forbidden => Verdict::Stale(in_seconds),
        _ => no,
    }
}
