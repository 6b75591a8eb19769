//! A caching reverse proxy: larder in front of any HTTP server.
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --listen 127.0.0.1:8080 --upstream http://127.0.0.1:8000
//! curl -i http://127.0.0.1:8080/        # Cache-Status: larder; fwd=uri-miss; …
//! curl -i http://127.0.0.1:8080/        # Cache-Status: larder; hit; … if the upstream said that it may be stored
//! ```

use std::{convert::Infallible, net::SocketAddr, process::exit, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA},
};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use larder::{Cache, CacheLayer, SetCookie};
use tokio::net::TcpListener;
use tower::{Layer, Service, service_fn};

const USAGE: &str = "usage: reverse_proxy --listen ADDR --upstream URL
    [--default-ttl SECONDS] [--no-heuristics] [--set-cookie public|always|never] [--stale-if-error SECONDS]
    [--ignore-client-directives] [--max-body BYTES] [--max-variants N] [--follower-wait SECONDS]
    [--status-name NAME] [--no-status] [--generate-etags] [--target-field NAME] [--no-target-field]
    [--no-cdn-cache-control] [--languages TAG,TAG]";

/// Fields of one connection (RFC 9110 §7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

type Error = Box<dyn std::error::Error + Send + Sync>;
type Upstream<B> = Client<HttpConnector, B>;

/// What the cache is put around: it asks the upstream for everything.
pub fn proxy<B>(
    upstream: Uri,
) -> impl Service<
    Request<B>,
    Response = Response<BoxBody<Bytes, hyper::Error>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
where
    B: Body<Data: Send, Error: Into<Error>> + Send + Unpin + 'static,
{
    // Servers that close idle connections after five seconds would break a request on one kept longer.
    let client: Upstream<B> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(3))
        .build_http();
    service_fn(move |request| {
        let (client, upstream) = (client.clone(), upstream.clone());
        async move { Ok::<_, Infallible>(forward(&client, &upstream, request).await) }
    })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let cache = Cache::from_env().await?;
    let (listen, upstream, layer) = options(CacheLayer::new(cache)).unwrap_or_else(|error| {
        eprintln!("{error}\n{USAGE}");
        exit(2)
    });
    let service = TowerToHyperService::new(layer.layer(proxy::<Incoming>(upstream)));
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that leaves is no business of the others.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Asks the upstream; its failure is a 502, which the layer may answer with a stale response.
async fn forward<B>(
    client: &Upstream<B>,
    upstream: &Uri,
    mut request: Request<B>,
) -> Response<BoxBody<Bytes, hyper::Error>>
where
    B: Body<Data: Send, Error: Into<Error>> + Send + Unpin + 'static,
{
    remove_hop_by_hop(request.headers_mut());
    // The client puts the upstream's own name there.
    request.headers_mut().remove(HOST);
    request
        .headers_mut()
        .append(VIA, HeaderValue::from_static("1.1 larder"));
    *request.version_mut() = Version::HTTP_11;
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let uri = format!("{}{path}", upstream.to_string().trim_end_matches('/'));
    let answer = match uri.parse() {
        Ok(uri) => {
            *request.uri_mut() = uri;
            client.request(request).await.map_err(Error::from)
        }
        Err(error) => Err(Error::from(error)),
    };
    match answer {
        Ok(mut response) => {
            remove_hop_by_hop(response.headers_mut());
            response.map(BodyExt::boxed)
        }
        Err(error) => {
            eprintln!("the upstream failed: {error}");
            let body = Empty::new()
                .map_err(|never: Infallible| match never {})
                .boxed();
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn options(mut layer: CacheLayer) -> Result<(SocketAddr, Uri, CacheLayer), Error> {
    let (mut listen, mut upstream) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{option} needs a value"));
        let seconds = |value: String| value.parse().map(Duration::from_secs);
        layer = match option.as_str() {
            "--listen" => {
                listen = Some(value()?.parse()?);
                layer
            }
            "--upstream" => {
                upstream = Some(value()?.parse()?);
                layer
            }
            "--default-ttl" => layer.default_ttl(seconds(value()?)?),
            "--no-heuristics" => layer.heuristics(false),
            "--set-cookie" => layer.set_cookie(match value()?.as_str() {
                "public" => SetCookie::PublicOnly,
                "always" => SetCookie::Always,
                "never" => SetCookie::Never,
                other => return Err(format!("--set-cookie cannot be {other}").into()),
            }),
            "--stale-if-error" => layer.stale_if_error(seconds(value()?)?),
            "--ignore-client-directives" => layer.ignore_client_directives(true),
            "--max-body" => layer.max_body_bytes(value()?.parse()?),
            "--max-variants" => layer.max_variants(value()?.parse()?),
            "--follower-wait" => layer.follower_wait(seconds(value()?)?),
            "--status-name" => layer.status_name(&value()?)?,
            "--no-status" => layer.without_status(),
            "--generate-etags" => layer.generate_etags(true),
            "--target-field" => layer.target_field(&value()?)?,
            "--no-target-field" => layer.without_target_field(),
            "--languages" => layer.languages(value()?.split(','))?,
            "--no-cdn-cache-control" => layer.cdn_cache_control(false),
            other => return Err(format!("there is no option {other}").into()),
        };
    }
    let upstream: Uri = upstream.ok_or("--upstream is missing")?;
    if upstream.scheme_str() != Some("http") {
        return Err("--upstream must be an http:// URL".into());
    }
    Ok((listen.ok_or("--listen is missing")?, upstream, layer))
}
