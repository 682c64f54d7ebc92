//! What else only a server shows: lost connections, isolation, the wire.

use super::*;

mod deadline_connecting;
mod isolation;
mod judged;
mod lost_connection;
mod proxy;
mod proxy_plans;
mod round_trips;
mod without_transaction;
