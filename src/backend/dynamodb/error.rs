//! From the SDK's errors to larder's.

use std::{error::Error as StdError, fmt};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};

use super::connection::Connection;
use crate::{Error, ErrorKind};

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The condition was not met.
    Refused,
    /// Somebody else's transaction is at the same item.
    Conflict(Error),
    /// The item is over the service's limit.
    TooLarge(Error),
    /// There is no such table.
    NoTable(Error),
    /// Anything else, as larder says it.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl<E> From<SdkError<E>> for Failure
where
    E: ProvideErrorMetadata + RequestId + StdError + Send + Sync + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let (kind, message) = match &error {
            SdkError::TimeoutError(_) => (ErrorKind::Timeout, "no answer in time"),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (ErrorKind::Timeout, "no connection in time")
            }
            SdkError::DispatchFailure(failure) if failure.is_io() => (
                ErrorKind::Unavailable,
                "the service cannot be reached, or the connection to it broke",
            ),
            SdkError::DispatchFailure(_) => (
                ErrorKind::Unavailable,
                "no request could be sent: no credentials were found, or no connection was made; see \
                 CACHE_DYNAMODB_ACCESS_KEY_ID, CACHE_DYNAMODB_ENDPOINT and the source of this error",
            ),
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                let told = answer.err();
                let cause = Cause::of(told, status);
                return match of_service(told.code().unwrap_or_default(), told.message(), status) {
                    Told::Refused => Self::Refused,
                    Told::Conflict => Self::Conflict(conflict(cause)),
                    Told::TooLarge => Self::TooLarge(too_large(cause)),
                    Told::NoTable => Self::NoTable(no_table(cause)),
                    Told::Other(kind, message) => {
                        Self::Other(Error::new(kind, message).caused_by(cause))
                    }
                };
            }
            SdkError::ResponseError(_) => (
                ErrorKind::Unavailable,
                "the answer is none of DynamoDB's, or broke off",
            ),
            _ => (ErrorKind::Backend, "the request could not be made"),
        };
        Self::Other(Error::new(kind, message).caused_by(error))
    }
}

/// What the service said, as far as it is nobody's secret: what it says of a signature repeats the request with the token
/// of its session, and what it says of a wrong value repeats that.
#[derive(Debug)]
struct Cause {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    request: Option<String>,
}

impl Cause {
    fn of(told: &(impl ProvideErrorMetadata + RequestId), status: u16) -> Self {
        let of_rights = told.code() == Some("AccessDeniedException");
        let text = |text: &str| text.to_owned();
        Self {
            status,
            code: told.code().map(text),
            message: told.message().filter(|_| of_rights).map(text),
            request: told.request_id().map(text),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.status,
            self.code.as_deref().unwrap_or("without a code")
        )?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        match &self.request {
            Some(request) => write!(f, " (request {request})"),
            None => Ok(()),
        }
    }
}

impl StdError for Cause {}

/// What an answer of the service says.
enum Told {
    Refused,
    Conflict,
    TooLarge,
    NoTable,
    Other(ErrorKind, &'static str),
}

fn of_service(code: &str, message: Option<&str>, status: u16) -> Told {
    let other = |message| Told::Other(ErrorKind::Backend, message);
    match code {
        "ConditionalCheckFailedException" => Told::Refused,
        "TransactionConflictException" | "TransactionInProgressException" => Told::Conflict,
        "TransactionCanceledException" if has_reason(message, "TransactionConflict") => {
            Told::Conflict
        }
        "ResourceNotFoundException" => Told::NoTable,
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "Throttling"
        | "LimitExceededException" => throttled(),
        "TransactionCanceledException"
            if has_reason(message, "ThrottlingError")
                || has_reason(message, "ProvisionedThroughputExceeded") =>
        {
            throttled()
        }
        "ValidationException" if is_of_size(message) => Told::TooLarge,
        "AccessDeniedException" => other(
            "these credentials may not do it: the policy has to allow dynamodb:GetItem, BatchGetItem, PutItem, \
             UpdateItem, BatchWriteItem, DescribeTable and DescribeTimeToLive on the table",
        ),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException" => other(
            "the service refuses the credentials; see CACHE_DYNAMODB_ACCESS_KEY_ID, CACHE_DYNAMODB_SECRET_ACCESS_KEY \
             and CACHE_DYNAMODB_REGION",
        ),
        "ExpiredTokenException" | "ExpiredToken" => {
            other("the credentials are of a session that is over; see CACHE_DYNAMODB_SESSION_TOKEN")
        }
        _ if status >= 500 => Told::Other(ErrorKind::Unavailable, "the service failed"),
        _ => other("the service refuses the request"),
    }
}

/// "Item size has exceeded the maximum allowed size", and "Item size to update …".
fn is_of_size(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.contains("Item size"))
}

/// A transaction is cancelled for the sum of its reasons, and conditions are none of those here.
fn has_reason(message: Option<&str>, reason: &str) -> bool {
    message.is_some_and(|message| message.contains(reason))
}

fn throttled() -> Told {
    Told::Other(
        ErrorKind::Unavailable,
        "the service throttles: the table, or one key of it, is asked for more than it gives",
    )
}

fn conflict(source: impl StdError + Send + Sync + 'static) -> Error {
    let message = "others wrote to the same item all the time";
    Error::new(ErrorKind::Unavailable, message).caused_by(source)
}

fn too_large(source: impl StdError + Send + Sync + 'static) -> Error {
    let message = "it is over the 400 KB of an item";
    Error::new(ErrorKind::TooLarge, message).caused_by(source)
}

fn no_table(source: impl StdError + Send + Sync + 'static) -> Error {
    let message = "there is no such table in this region, or none that these credentials see";
    Error::new(ErrorKind::Backend, message).caused_by(source)
}

/// The error of a namespace that never stands still.
pub(super) fn changed_at_every_attempt() -> Failure {
    let message = "the key or its namespace changed at every attempt";
    Failure::Other(Error::new(ErrorKind::Backend, message))
}

impl Connection {
    /// What larder says of a failure.
    pub(super) fn explain(&self, operation: &'static str, failure: Failure) -> Error {
        let error = match failure {
            Failure::Refused => Error::new(
                ErrorKind::Backend,
                "the service answers that a condition was not met where there was none",
            ),
            Failure::NoTable(error) => {
                self.forget_table();
                error
            }
            Failure::Conflict(error) | Failure::TooLarge(error) | Failure::Other(error) => error,
        };
        error.on("dynamodb", operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, status: u16) -> ErrorKind {
        match of_service(code, None, status) {
            Told::Other(kind, _) => kind,
            _ => panic!("{code} is one of those that mean something to the verbs"),
        }
    }

    #[test]
    fn throttling_and_failures_of_the_service_are_outages() {
        for (code, status) in [
            ("ProvisionedThroughputExceededException", 400),
            ("ThrottlingException", 400),
            ("RequestLimitExceeded", 400),
            ("InternalServerError", 500),
            ("ServiceUnavailable", 503),
        ] {
            assert_eq!(kind(code, status), ErrorKind::Unavailable, "{code}");
        }
        let reasons = "Transaction cancelled, please refer cancellation reasons for specific reasons \
                       [None, ThrottlingError]";
        let told = of_service("TransactionCanceledException", Some(reasons), 400);
        assert!(matches!(told, Told::Other(ErrorKind::Unavailable, _)));
        assert_eq!(kind("AccessDeniedException", 400), ErrorKind::Backend);
        assert_eq!(kind("ValidationException", 400), ErrorKind::Backend);
    }
}
