//! MongoDB: its client, a document for a value.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder::MongoDb as Larder;
use mongodb::{
    Client, Collection,
    bson::{Binary, RawDocumentBuf, doc, spec::BinarySubtype},
};

use super::{
    simplest::{Simplest, side_by_side},
    support_servers::MongoDb,
};

pub(crate) async fn run() {
    let Some(server) = MongoDb::start().await else {
        return;
    };
    let client = Client::with_uri_str(server.url()).await.expect("it runs");
    let raw = Documents(client.database("larder").collection("bench"));
    let connected = Larder::builder(server.url()).connect().await;
    side_by_side("MongoDB", raw, Arc::new(connected.expect("it runs"))).await;
}

#[derive(Clone)]
struct Documents(Collection<RawDocumentBuf>);

impl Simplest for Documents {
    const NAME: &'static str = "mongodb";

    async fn get(&self, name: String) -> usize {
        let found = self
            .0
            .find_one(doc! { "_id": name })
            .await
            .expect("it runs");
        let found = found.expect("it is there");
        found.get_binary("v").expect("it is a value").bytes.len()
    }

    async fn put(&self, name: String, value: Bytes) {
        let value = Binary {
            subtype: BinarySubtype::Generic,
            bytes: value.into(),
        };
        let document = doc! { "_id": name.as_str(), "v": value };
        let document = RawDocumentBuf::try_from(&document).expect("it is one");
        let put = self.0.replace_one(doc! { "_id": name }, document);
        put.upsert(true).await.expect("it runs");
    }

    async fn get_many(&self, names: Vec<String>) -> usize {
        let found = self.0.find(doc! { "_id": { "$in": names } });
        let found: Vec<_> = found
            .await
            .expect("it runs")
            .try_collect()
            .await
            .expect("it runs");
        found.len()
    }
}
