//! The layer compiles in the stacks that people have.

#![cfg(all(feature = "axum", feature = "memory"))]

use std::{convert::Infallible, time::Duration};

use axum::{
    BoxError, Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::Request,
    handler::Handler,
    middleware::{self, Next},
    response::Response,
    routing::{any_service, get},
};
use http::StatusCode;
use http_body_util::BodyExt;
use larder::{Cache, CacheLayer};
use tower::{
    Layer, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    service_fn,
    util::{BoxCloneService, BoxCloneSyncService, MapRequestLayer},
};
use tower_http::{
    compression::CompressionLayer, cors::CorsLayer, timeout::TimeoutLayer, trace::TraceLayer,
};

async fn hello() -> &'static str {
    "hello"
}

async fn pass(request: Request, next: Next) -> Response {
    next.run(request).await
}

fn layer() -> CacheLayer {
    CacheLayer::new(Cache::memory()).default_ttl(Duration::from_secs(60))
}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1))
}

async fn twice(app: Router) {
    for hit in [false, true] {
        let asked = Request::new(Body::empty());
        let answer = app.clone().oneshot(asked).await.unwrap();
        assert_eq!(answer.status(), 200);
        let told = answer.headers()["cache-status"].to_str().unwrap();
        assert_eq!(told.contains("hit"), hit, "{told}");
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn in_a_router_among_the_usual_layers() {
    twice(
        Router::new().route("/", get(hello)).layer(
            ServiceBuilder::new()
                .layer(TraceLayer::new_for_http())
                .layer(CorsLayer::permissive())
                .layer(CompressionLayer::new())
                .layer(timeout())
                .layer(layer())
                .layer(CompressionLayer::new())
                .layer(timeout())
                .layer(middleware::from_fn(pass)),
        ),
    )
    .await;
}

#[tokio::test]
async fn on_a_method_router_and_with_middleware_on_either_side() {
    twice(
        Router::new().route(
            "/",
            get(hello)
                .layer::<_, Infallible>(middleware::from_fn(pass))
                .layer::<_, Infallible>(layer())
                .layer(middleware::from_fn(pass)),
        ),
    )
    .await;
    twice(Router::new().route("/", get(hello)).route_layer(layer())).await;
    twice(Router::new().route("/", get(hello.layer(layer())))).await;
}

#[tokio::test]
async fn with_fallible_layers_inside_and_their_errors_handled_outside() {
    let handle = |_: BoxError| async { StatusCode::SERVICE_UNAVAILABLE };
    twice(
        Router::new().route("/", get(hello)).layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(handle))
                .layer(layer())
                .load_shed()
                .concurrency_limit(8)
                .timeout(Duration::from_secs(1)),
        ),
    )
    .await;
    twice(
        Router::new().route("/", get(hello)).layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(handle))
                .layer(BufferLayer::<Request>::new(8))
                .layer(layer()),
        ),
    )
    .await;
}

#[tokio::test]
async fn around_boxed_services() {
    let inner =
        service_fn(|_: Request| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let boxed = BoxCloneService::new(inner);
    let around = layer().layer(boxed);
    let _: Response<_> = around.oneshot(Request::new(Body::empty())).await.unwrap();
    let shared = BoxCloneSyncService::new(inner);
    let app = Router::new().route("/", any_service(layer().layer(shared)));
    twice(app).await;
    let app = BoxCloneSyncService::new(layer().layer(Router::new().route("/", get(hello))));
    let _ = Router::<()>::new().fallback_service(app);
}

#[tokio::test]
async fn optional_and_mapped() {
    twice(
        Router::new().route("/", get(hello)).layer(
            ServiceBuilder::new()
                .option_layer(Some(timeout()))
                .layer(MapRequestLayer::new(|request: Request| request))
                .map_response(|response: Response<larder::CacheBody<Body>>| response.map(Body::new))
                .layer(layer()),
        ),
    )
    .await;
    let boxing = |response: Response<larder::CacheBody<Body>>| response.map(Body::new);
    let switchable = ServiceBuilder::new().map_response(boxing).layer(layer());
    let either = ServiceBuilder::new().option_layer(Some(switchable));
    twice(Router::new().route("/", get(hello)).layer(either)).await;
}

/// A body that is neither `Sync` nor `Unpin`, as those of tonic.
#[tokio::test]
async fn around_a_service_whose_body_is_boxed_and_not_sync() {
    type Grpc = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>;
    let inner = service_fn(|_: http::Request<Grpc>| async {
        Ok::<_, Infallible>(http::Response::new(Grpc::default()))
    });
    let around = ServiceBuilder::new().layer(layer()).service(inner);
    around
        .oneshot(http::Request::new(Grpc::default()))
        .await
        .unwrap();
}
