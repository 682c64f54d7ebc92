//! An error type has to be made from Diesel's error.

use dbop_diesel::operation_error;

#[derive(Debug, thiserror::Error)]
#[error("the payment failed")]
struct PaymentFailed;

operation_error!(PaymentFailed);

fn main() {}
