//! The table: whether it is there and as it has to be, and how it is made.

use std::{sync::atomic::Ordering, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use tokio::time::sleep;

use super::{
    connection::{Connection, unbuilt},
    error::Failure,
    item::{KEY, REMOVAL},
};
use crate::{Error, ErrorKind, Result};

/// How often it is looked whether a table is there by now, and how many times: the service makes one within a few
/// seconds, as a rule.
const LOOKS: usize = 120;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// The shortest and the longest name of a table, in bytes.
const NAME_LEN: std::ops::RangeInclusive<usize> = 3..=255;

/// What is wrong with the name of a table, if anything is.
pub(super) fn wrong_name(name: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !NAME_LEN.contains(&name.len()) {
        return Some("has to have 3 to 255 letters");
    }
    (!name.bytes().all(plain)).then_some("may have letters of ASCII, digits, _, - and . alone")
}

impl Connection {
    /// Makes sure that the table was found to be there, which costs a request or two once.
    pub(super) async fn know(&self) -> Result<(), Failure> {
        // Who closed it is told so, whatever the table is.
        self.clients()?;
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _alone = self.preparing.lock().await;
        if self.is_ready.load(Ordering::Acquire) || self.look().await? {
            return Ok(());
        }
        let message = format!("the table {:?} is being made", self.table);
        Err(Error::new(ErrorKind::Unavailable, message).into())
    }

    /// Waits until the table is there, at the start.
    pub(super) async fn wait_for_table(&self) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if self.look().await? {
                return Ok(());
            }
            sleep(BETWEEN_LOOKS).await;
        }
        let message = format!("the table {:?} was not ready within a minute", self.table);
        Err(Error::new(ErrorKind::Unavailable, message).into())
    }

    /// Looks at the table, makes it where that is wanted, and says whether it can be used.
    async fn look(&self) -> Result<bool, Failure> {
        let client = self.clients()?.asking;
        let description = client.describe_table().table_name(&self.table).send().await;
        let table = match description.map_err(Failure::from) {
            Ok(answer) => answer
                .table
                .unwrap_or_else(|| TableDescription::builder().build()),
            Err(Failure::NoTable(_)) if self.create => {
                self.make(&client).await?;
                return Ok(false);
            }
            Err(failure) => return Err(failure),
        };
        if matches!(
            table.table_status(),
            Some(TableStatus::Creating | TableStatus::Deleting)
        ) {
            return Ok(false);
        }
        if !has_our_key(&table) {
            let message = format!(
                "CACHE_DYNAMODB_TABLE: the table {:?} has another key than larder's, which is {KEY:?} of type binary, \
                 alone; name another table",
                self.table
            );
            return Err(Error::new(ErrorKind::Settings, message).into());
        }
        self.look_at_ttl(&client).await?;
        self.is_ready.store(true, Ordering::Release);
        Ok(true)
    }

    async fn make(&self, client: &Client) -> Result<(), Failure> {
        let attribute = AttributeDefinition::builder()
            .attribute_name(KEY)
            .attribute_type(ScalarAttributeType::B);
        let key = KeySchemaElement::builder()
            .attribute_name(KEY)
            .key_type(KeyType::Hash);
        let made = client
            .create_table()
            .table_name(&self.table)
            .attribute_definitions(attribute.build().map_err(unbuilt)?)
            .key_schema(key.build().map_err(unbuilt)?)
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await;
        match made {
            Ok(_) => tracing::info!(table = self.table, "a table of DynamoDB is made"),
            // Somebody else is faster.
            Err(error) if error.code() == Some("ResourceInUseException") => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Entries end without it too, but stay where they are.
    async fn look_at_ttl(&self, client: &Client) -> Result<(), Failure> {
        let described = client
            .describe_time_to_live()
            .table_name(&self.table)
            .send()
            .await;
        let described = match described {
            Ok(answer) => answer.time_to_live_description,
            Err(error) if error.code() == Some("AccessDeniedException") => {
                tracing::warn!(
                    table = self.table,
                    "whether the table removes what has ended is unknown: dynamodb:DescribeTimeToLive is not allowed"
                );
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let on = described.as_ref().is_some_and(|ttl| {
            let on = [TimeToLiveStatus::Enabled, TimeToLiveStatus::Enabling];
            let status = ttl.time_to_live_status();
            status.is_some_and(|status| on.contains(status))
                && ttl.attribute_name() == Some(REMOVAL)
        });
        if on {
            return Ok(());
        }
        if !self.create {
            tracing::warn!(
                table = self.table,
                "the table removes nothing that has ended: switch on its time to live for the attribute {REMOVAL:?}"
            );
            return Ok(());
        }
        let ttl = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(REMOVAL);
        let switched = client
            .update_time_to_live()
            .table_name(&self.table)
            .time_to_live_specification(ttl.build().map_err(unbuilt)?)
            .send()
            .await;
        match switched {
            // Somebody else is faster.
            Err(error) if error.code() == Some("ValidationException") => {
                tracing::debug!(%error, table = self.table, "time to live is not switched on");
            }
            switched => drop(switched?),
        }
        Ok(())
    }
}

/// One key, binary, by the name that items have it under.
fn has_our_key(table: &TableDescription) -> bool {
    let [key] = table.key_schema() else {
        return false;
    };
    let mut attributes = table.attribute_definitions().iter();
    let binary = attributes.any(|attribute| {
        attribute.attribute_name() == KEY && *attribute.attribute_type() == ScalarAttributeType::B
    });
    key.attribute_name() == KEY && *key.key_type() == KeyType::Hash && binary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_table_is_one_that_the_service_takes() {
        for name in ["abc", "larder", "a_b.c-D9", &"x".repeat(255)] {
            assert_eq!(wrong_name(name), None, "{name}");
        }
        for name in ["", "ab", "a b", "käse", "a/b", &"x".repeat(256)] {
            assert!(wrong_name(name).is_some(), "{name}");
        }
    }
}
