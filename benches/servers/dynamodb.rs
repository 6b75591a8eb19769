//! DynamoDB: the SDK, an item for a value. Dynoxide answers, so this is about the client's side.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_dynamodb::{
    Client,
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        KeysAndAttributes, ScalarAttributeType,
    },
};
use bytes::Bytes;
use larder::DynamoDb as Larder;

use super::{
    simplest::{PATIENCE, Simplest, side_by_side},
    support_servers::{DynamoDb, dynamodb_client},
};

const TABLE: &str = "bench";

pub(crate) async fn run() {
    let Some((endpoint, _server)) = DynamoDb::find() else {
        return;
    };
    let raw = Items(dynamodb_client(&endpoint));
    raw.make_table().await;
    let larder = Larder::builder("larder-bench")
        .endpoint(&endpoint)
        .credentials("test", "test")
        .timeout(PATIENCE)
        .create(true);
    let connected = larder.connect().await.expect("it runs");
    side_by_side("DynamoDB on Dynoxide", raw, Arc::new(connected)).await;
}

#[derive(Clone)]
struct Items(Client);

impl Items {
    async fn make_table(&self) {
        let key = KeySchemaElement::builder().attribute_name("k");
        let name = AttributeDefinition::builder().attribute_name("k");
        let table = self
            .0
            .create_table()
            .table_name(TABLE)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key.key_type(KeyType::Hash).build().expect("it is whole"))
            .attribute_definitions(
                name.attribute_type(ScalarAttributeType::S)
                    .build()
                    .expect("it is whole"),
            );
        table.send().await.expect("it runs");
    }
}

fn key(name: String) -> HashMap<String, AttributeValue> {
    HashMap::from([("k".to_owned(), AttributeValue::S(name))])
}

impl Simplest for Items {
    const NAME: &'static str = "aws-sdk-dynamodb";

    async fn get(&self, name: String) -> usize {
        let get = self.0.get_item().table_name(TABLE).consistent_read(true);
        let found = get.set_key(Some(key(name))).send().await.expect("it runs");
        let item = found.item.expect("it is there");
        item["v"].as_b().expect("it is a value").as_ref().len()
    }

    async fn put(&self, name: String, value: Bytes) {
        let mut item = key(name);
        item.insert("v".to_owned(), AttributeValue::B(Blob::new(value)));
        let put = self.0.put_item().table_name(TABLE).set_item(Some(item));
        put.send().await.expect("it runs");
    }

    async fn get_many(&self, names: Vec<String>) -> usize {
        let keys = names.into_iter().map(key).collect();
        let keys = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .build()
            .expect("it is whole");
        let get = self.0.batch_get_item().request_items(TABLE, keys);
        let found = get.send().await.expect("it runs");
        found.responses.map_or(0, |tables| tables[TABLE].len())
    }
}
