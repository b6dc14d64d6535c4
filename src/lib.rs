//! changefold processes the changes of a DynamoDB table or a Kinesis stream: in order,
//! exactly once in their effect, and never lost.
//!
//! The modules stand in the order a record meets them.

pub mod record;

pub mod event;

pub mod clock;
