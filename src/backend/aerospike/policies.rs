//! How the client asks: times, retries, and under which condition something is written.

use std::time::Duration;

use aerospike::{
    BatchPolicy, BatchReadPolicy, BatchWritePolicy, Expiration, ReadPolicy, ReadTouchTtl,
    RecordExistsAction, WritePolicy, expressions::Expression, policy::BasePolicy,
};

/// What is asked for in every call of a kind.
pub(super) struct Policies {
    pub(super) read: ReadPolicy,
    pub(super) read_row: BatchReadPolicy,
    pub(super) read_many: BatchPolicy,
    pub(super) write_many: BatchPolicy,
    write: WritePolicy,
    millis: u32,
}

/// When and for how long something is written.
#[derive(Clone)]
pub(super) struct Write {
    pub(super) action: RecordExistsAction,
    pub(super) condition: Option<Expression>,
    pub(super) expiration: Expiration,
}

impl Write {
    /// Whatever is there, and for ever.
    pub(super) const ALWAYS: Self = Self {
        action: RecordExistsAction::Replace,
        condition: None,
        expiration: Expiration::Never,
    };
}

impl Policies {
    pub(super) fn new(timeout: Duration) -> Self {
        let millis = u32::try_from(timeout.as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        let once = BasePolicy {
            total_timeout: millis,
            socket_timeout: millis,
            max_retries: 0,
            read_touch_ttl: ReadTouchTtl::DontReset,
            ..ReadPolicy::default().base_policy
        };
        // A read that hangs has half of the time left for a node with a replica.
        let twice = BasePolicy {
            socket_timeout: millis.div_ceil(2),
            max_retries: 1,
            ..once.clone()
        };
        let read = ReadPolicy {
            base_policy: twice.clone(),
        };
        let read_row = BatchReadPolicy {
            read_touch_ttl: ReadTouchTtl::DontReset,
            filter_expression: None,
        };
        let many = |base_policy| BatchPolicy {
            base_policy,
            ..BatchPolicy::default()
        };
        Self {
            read,
            read_row,
            read_many: many(twice),
            write_many: many(once.clone()),
            write: WritePolicy {
                base_policy: once,
                ..WritePolicy::default()
            },
            millis,
        }
    }

    pub(super) fn millis(&self) -> u32 {
        self.millis
    }

    pub(super) fn write(&self, write: Write) -> WritePolicy {
        let mut policy = self.write.clone();
        policy.record_exists_action = write.action;
        policy.expiration = write.expiration;
        policy.base_policy.filter_expression = write.condition;
        policy
    }

    pub(super) fn read_if(&self, condition: Expression) -> ReadPolicy {
        let mut policy = self.read.clone();
        policy.base_policy.filter_expression = Some(condition);
        policy
    }
}

/// The same for one row of many.
pub(super) fn row(write: Write) -> BatchWritePolicy {
    BatchWritePolicy {
        record_exists_action: write.action,
        expiration: write.expiration,
        filter_expression: write.condition,
        ..BatchWritePolicy::default()
    }
}
