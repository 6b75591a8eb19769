//! A front before a server that speaks as DynamoDB does: it passes requests on, and answers some of them as the service
//! does when it has too much to do.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod tls;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Map, Value, json};

pub(crate) use tls::{Tls, tls_before};

type Http = Client<HttpConnector, Body>;

#[derive(Default)]
struct Orders {
    half: AtomicBool,
    all: AtomicBool,
    throttle: AtomicBool,
    throttles: AtomicUsize,
    refuse: AtomicBool,
    deny: AtomicBool,
    lose: AtomicBool,
    reads: AtomicUsize,
    consistent: AtomicUsize,
    undone: AtomicUsize,
    throttled: AtomicUsize,
}

/// Stands before a server, and ends with this.
pub(crate) struct Front {
    address: SocketAddr,
    orders: Arc<Orders>,
    server: tokio::task::JoinHandle<()>,
}

impl Front {
    pub(crate) async fn before(endpoint: &str) -> Self {
        let orders = Arc::<Orders>::default();
        let http: Http = Client::builder(TokioExecutor::new()).build_http();
        let state = (http, endpoint.to_owned(), orders.clone());
        let router = Router::new().fallback(answer).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            orders,
            server,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Of many keys it does half, and says which ones it left.
    pub(crate) fn leave_half_undone(&self, on: bool) {
        self.orders.half.store(on, Ordering::SeqCst);
    }

    /// Of many keys it does none.
    pub(crate) fn leave_all_undone(&self, on: bool) {
        self.orders.all.store(on, Ordering::SeqCst);
    }

    /// How many keys were left.
    pub(crate) fn left_undone(&self) -> usize {
        self.orders.undone.load(Ordering::SeqCst)
    }

    /// It throttles every request.
    pub(crate) fn throttle(&self, on: bool) {
        self.orders.throttle.store(on, Ordering::SeqCst);
    }

    /// It throttles the next request.
    pub(crate) fn throttle_once(&self) {
        self.orders.throttles.store(1, Ordering::SeqCst);
    }

    /// How many requests were throttled.
    pub(crate) fn throttled(&self) -> usize {
        self.orders.throttled.load(Ordering::SeqCst)
    }

    /// It refuses every signature, and repeats of the request what was signed, as the service does.
    pub(crate) fn refuse_credentials(&self, on: bool) {
        self.orders.refuse.store(on, Ordering::SeqCst);
    }

    /// It does what is written, and fails before it says so.
    pub(crate) fn lose_answers_to_writes(&self, on: bool) {
        self.orders.lose.store(on, Ordering::SeqCst);
    }

    /// How many requests read something, and how many of them wanted what is newest.
    pub(crate) fn reads(&self) -> (usize, usize) {
        let reads = self.orders.reads.load(Ordering::SeqCst);
        (reads, self.orders.consistent.load(Ordering::SeqCst))
    }

    /// Its credentials may read and not write.
    pub(crate) fn deny_writes(&self, on: bool) {
        self.orders.deny.store(on, Ordering::SeqCst);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn refusal(code: &str, message: &str) -> Response {
    let body =
        json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message });
    let headers = [("content-type", "application/x-amz-json-1.0")];
    (StatusCode::BAD_REQUEST, headers, body.to_string()).into_response()
}

async fn answer(
    State((http, endpoint, orders)): State<(Http, String, Arc<Orders>)>,
    request: Request,
) -> Response {
    let take = |count: usize| count.checked_sub(1);
    let once = orders
        .throttles
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
        .is_ok();
    if once || orders.throttle.load(Ordering::SeqCst) {
        orders.throttled.fetch_add(1, Ordering::SeqCst);
        return refusal("ProvisionedThroughputExceededException", "throttled");
    }
    if orders.refuse.load(Ordering::SeqCst) {
        let message = format!("what was signed is {:?}", request.headers());
        return refusal("UnrecognizedClientException", &message);
    }
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.headers.get("x-amz-target").cloned().unwrap();
    let verb = target.to_str().unwrap().rsplit('.').next();
    let verb_reads = verb.is_some_and(|verb| verb.contains("GetItem"));
    let is_write = verb.is_some_and(|verb| verb.contains("Write") || verb.contains("Item"))
        && !verb.is_some_and(|verb| verb.contains("Get"));
    if is_write && orders.deny.load(Ordering::SeqCst) {
        return refusal("AccessDeniedException", "you may not write");
    }
    let left = match verb {
        Some("BatchGetItem") => "UnprocessedKeys",
        Some("BatchWriteItem") => "UnprocessedItems",
        _ => "",
    };
    let all = orders.all.load(Ordering::SeqCst);
    let (body, undone) = match orders.half.load(Ordering::SeqCst) || all {
        true if !left.is_empty() => divide(&body, all),
        _ => (body, Map::new()),
    };
    orders.undone.fetch_add(count(&undone), Ordering::SeqCst);
    if verb_reads {
        orders.reads.fetch_add(1, Ordering::SeqCst);
        let text = String::from_utf8_lossy(&body);
        if text.contains(r#""ConsistentRead":true"#) {
            orders.consistent.fetch_add(1, Ordering::SeqCst);
        }
    }
    if all && !undone.is_empty() {
        let answer = json!({ "Responses": {}, left: undone });
        return answer.to_string().into_response();
    }
    parts.uri = endpoint.parse::<Uri>().unwrap();
    parts.headers.remove("content-length");
    parts.headers.remove("host");
    let passed = http
        .request(Request::from_parts(parts, Body::from(body)))
        .await;
    let Ok(passed) = passed else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if is_write && orders.lose.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if undone.is_empty() {
        return passed.map(Body::new).into_response();
    }
    let answer = to_bytes(Body::new(passed.into_body()), usize::MAX).await;
    let mut answer: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
    answer[left] = Value::Object(undone);
    answer.to_string().into_response()
}

/// What is passed on of a request for many keys, and what is left.
fn divide(body: &Bytes, all: bool) -> (Bytes, Map<String, Value>) {
    let mut done: Value = serde_json::from_slice(body).unwrap();
    let mut undone = Map::new();
    for (table, asked) in done["RequestItems"].as_object_mut().unwrap() {
        let mut rest = asked.clone();
        let (here, there) = match asked.get("Keys").is_some() {
            true => (&mut asked["Keys"], &mut rest["Keys"]),
            false => (asked, &mut rest),
        };
        let keys = here.as_array_mut().unwrap();
        let half = if all { 0 } else { keys.len().div_ceil(2) };
        let left = keys.split_off(half);
        if !left.is_empty() {
            *there = Value::Array(left);
            undone.insert(table.clone(), rest);
        }
    }
    (done.to_string().into(), undone)
}

fn count(undone: &Map<String, Value>) -> usize {
    let lists = undone.values();
    let lists = lists.map(|rest| rest.get("Keys").unwrap_or(rest).as_array());
    lists.map(|list| list.map_or(0, Vec::len)).sum()
}
